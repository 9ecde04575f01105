"""How commands ask a running router: where its management is, and a request to it."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import click

from infermux.config import Config, load
from infermux.config.loader import HERE, VARIABLE, find_config
from infermux.config.values import Address, address
from infermux.daemon.lock import Facts, Home, holder
from infermux.errors import ConfigError, InfermuxError

TOKEN_VARIABLE = "INFERMUX_MANAGEMENT_TOKEN"
ANSWERS_WITHIN = 60.0  # seconds: a reload starts the providers' actors, but waits for no upstream

url_option = click.option(
    "--url",
    metavar="URL",
    help="The router's management, such as http://127.0.0.1:8081; else the daemon's, else from the file.",
)


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


DEFAULT = Target(host="127.0.0.1", port=8080)


def target(url: str | None, path: str | None) -> Target:
    """That of `--url`, else the daemon of this home, else that of the configuration file. Raises ConfigError.

    A configuration file that is named or lies here comes before the daemon, unless it is the daemon's own.
    """
    if url is not None:
        return named(url)
    facts = _own_daemon(path)
    return declared(load(path)) if facts is None else of_daemon(facts)


def _own_daemon(path: str | None) -> Facts | None:
    """The daemon of this home, unless another router is meant."""
    facts = holder(Home.of())
    if facts is None or facts.management is None:
        return None
    meant = path or os.environ.get(VARIABLE) or (HERE if os.path.exists(HERE) else None)
    own = facts.config is not None and os.path.join(facts.cwd, facts.config)
    if meant is not None and not (own and os.path.abspath(meant) == os.path.abspath(own)):
        return None
    return facts


def places(url: str | None, path: str | None) -> tuple[Target, Target]:
    """Where the inference and the management of a router are, found as by `target`. Raises ConfigError, NoAnswer.

    Without a daemon and a file it is the address that a router listens on by default.
    """
    if url is not None:
        return named(url), named(url)
    found = daemon_places(path)
    if found is not None:
        return found
    try:
        source = find_config(path, os.environ)
    except ConfigError:
        return DEFAULT, DEFAULT  # of `infermux serve --demo` in another terminal, say
    config = load(source)
    return served(config), declared(config)


def daemon_places(path: str | None) -> tuple[Target, Target] | None:
    """As `places`, of the daemon of this home; None where none runs or another router is meant."""
    facts = _own_daemon(path)
    if facts is None:
        return None
    management = of_daemon(facts)
    inference = management if facts.url in (None, facts.management) else named(facts.url)
    return inference, management


def of_daemon(facts: Facts) -> Target:
    """Where the management of a daemon is. Raises NoAnswer where it has none yet."""
    if facts.management is None:
        raise NoAnswer(f"the router in the background is {facts.state}")
    return attrs.evolve(named(facts.management), cert_file=facts.cert_file)


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
    if config.management_listen is None:
        return served(config)
    return _reachable(config.management_listen, None)


def served(config: Config) -> Target:
    """Where a router of this configuration answers requests; a wildcard is reached by its loopback."""
    return _reachable(config.listen, config.tls.cert_file)


def _reachable(listen: str, cert_file: str | None) -> Target:
    where = address(listen)
    host = "127.0.0.1" if where.host in ("", "0.0.0.0", "::") else where.host  # noqa: S104 - compared, not bound
    return Target(host=host, port=where.port, secure=cert_file is not None, cert_file=cert_file)


def ask(target: Target, method: str, path: str) -> tuple[int, dict[str, Any]]:
    """Send a request without a body: status and JSON of the answer. No proxy is asked. Raises NoAnswer."""
    headers = {} if method == "GET" else {"Content-Length": "0"}
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    asked = connection(target)
    try:
        asked.request(method, path, headers=headers)
        response = asked.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswer(
            f"no router answers at {target.url}: {reason}; is it running? "
            "Another address is named with --url, or with -c and the file it was started with"
        ) from None
    finally:
        asked.close()
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise NoAnswer(f"what answers at {target.url} is no infermux: {status} {response.reason}")
    return status, cast("dict[str, Any]", answer)


def found(target: Target, path: str) -> dict[str, Any]:
    """The answer to GET. Raises NoAnswer, with what the router said where it refused."""
    status, answer = ask(target, "GET", path)
    if status != 200:
        raise NoAnswer(f"{target.url} answered {status}: {message(answer)}")
    return answer


def message(answer: dict[str, Any]) -> str:
    """What an error says."""
    error: dict[str, Any] = answer.get("error") or {}
    return str(error.get("message", "without saying why"))


def connection(target: Target) -> http.client.HTTPConnection:
    """A connection to it, which its first request opens."""
    if not target.secure:
        return http.client.HTTPConnection(target.host, target.port, timeout=ANSWERS_WITHIN)
    context = ssl.create_default_context()
    if target.cert_file is not None:
        # It is asked by its address, which its certificate need not name: what counts is that it has this very one.
        context = ssl.create_default_context(cafile=os.path.expanduser(target.cert_file))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return http.client.HTTPSConnection(target.host, target.port, timeout=ANSWERS_WITHIN, context=context)
