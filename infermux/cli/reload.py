"""`reload`: have a running router read its configuration again, or say what that would change."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import attrs
import click

from infermux.config import Config, load
from infermux.config.values import Address, address
from infermux.errors import ConfigError, InfermuxError

from . import options
from .output import as_dicts, print_json
from .root import CONFIGURATION

TOKEN_VARIABLE = "INFERMUX_MANAGEMENT_TOKEN"
PATH = "/_infermux/reload"
ANSWERS_WITHIN = 60.0  # seconds: it starts the providers' actors, but waits for no upstream


class NoAnswer(InfermuxError):
    """The router could not be asked, or did not do what it was asked for."""


@attrs.frozen(kw_only=True)
class Target:
    """Where a router's management is. `cert_file`: it speaks TLS with this certificate."""

    host: str
    port: int
    secure: bool = False
    cert_file: str | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{Address(self.host, self.port)}"


@click.command()
@options.config
@options.as_json
@click.option("--dry-run", is_flag=True, help="Say what would change and change nothing.")
@click.option(
    "--url", metavar="URL", help="The router's management, such as http://127.0.0.1:8081; else from the file."
)
def reload(path: str | None, as_json: bool, dry_run: bool, url: str | None) -> None:
    """Have the running router read its configuration file again.

    It is found by the addresses in the file (-c FILE and so on as for `serve`), or by --url; it reads the file that it
    was started with. $INFERMUX_MANAGEMENT_TOKEN is sent where it is set.
    """
    try:
        target = named(url) if url is not None else declared(load(path))
    except ConfigError as error:
        _refused({"problems": as_dicts(error.problems)}, as_json)
    status, answer = ask(target, dry_run=dry_run)
    if "problems" in answer:
        _refused(answer, as_json)
    if status != 200:
        raise NoAnswer(f"{target.url} answered {status}: {_message(answer)}")
    if as_json:
        print_json(answer)
        return
    for warning in answer["warnings"]:
        click.echo("{file}:{line}: {path}: warning: {message}".format(**warning), err=True)
    done = "would change" if dry_run else "reloaded"
    click.echo(f"{answer['file']}: {done if answer['changed'] else 'nothing has changed'}")
    for line in answer["summary"]:
        click.echo(line)


def _refused(answer: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        print_json(answer)
    else:
        for problem in answer["problems"]:
            click.echo("{file}:{line}: {path}: {message}".format(**problem), err=True)
        click.echo("the configuration is refused; the router goes on with the one it has", err=True)
    sys.exit(CONFIGURATION)


def named(url: str) -> Target:
    """The target of `--url`."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port, usable = parts.port, True
    except ValueError:
        port, usable = None, False
    if not usable or parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise click.UsageError("--url takes an address such as http://127.0.0.1:8080, without a user")
    secure = parts.scheme == "https"
    return Target(host=parts.hostname, port=port or (443 if secure else 80), secure=secure)


def declared(config: Config) -> Target:
    """Where a router of this configuration has its management; a wildcard is reached by its loopback."""
    where = address(config.management_listen or config.listen)
    host = "127.0.0.1" if where.host in ("", "0.0.0.0", "::") else where.host  # noqa: S104 - compared, not bound
    cert_file = config.tls.cert_file if config.management_listen is None else None
    return Target(host=host, port=where.port, secure=cert_file is not None, cert_file=cert_file)


def ask(target: Target, *, dry_run: bool) -> tuple[int, dict[str, Any]]:
    """Send the request: status and JSON of the answer. No proxy is asked. Raises NoAnswer."""
    headers = {"Content-Length": "0"}
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = _connection(target)
    try:
        connection.request("POST", f"{PATH}?dry_run={'true' if dry_run else 'false'}", headers=headers)
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswer(
            f"no router answers at {target.url}: {reason}; is it running? "
            "Another address is named with --url, or with -c and the file it was started with"
        ) from None
    finally:
        connection.close()
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise NoAnswer(f"what answers at {target.url} is no infermux: {status} {response.reason}")
    return status, cast("dict[str, Any]", answer)


def _connection(target: Target) -> http.client.HTTPConnection:
    if not target.secure:
        return http.client.HTTPConnection(target.host, target.port, timeout=ANSWERS_WITHIN)
    context = ssl.create_default_context()
    if target.cert_file is not None:
        # It is asked by its address, which its certificate need not name: what counts is that it has this very one.
        context = ssl.create_default_context(cafile=os.path.expanduser(target.cert_file))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return http.client.HTTPSConnection(target.host, target.port, timeout=ANSWERS_WITHIN, context=context)


def _message(answer: dict[str, Any]) -> str:
    error: dict[str, Any] = answer.get("error") or {}
    return str(error.get("message", "without saying why"))
