"""`reload`: have a running router read its configuration again, or say what that would change."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from infermux.errors import ConfigError

from . import options
from .asking import NoAnswer, ask, message, target, url_option
from .output import as_dicts, print_json
from .root import CONFIGURATION

PATH = "/_infermux/reload"


@click.command()
@options.config
@options.as_json
@click.option("--dry-run", is_flag=True, help="Say what would change and change nothing.")
@url_option
def reload(path: str | None, as_json: bool, dry_run: bool, url: str | None) -> None:
    """Have the running router read its configuration file again.

    That is the one in the background, if one was started; another is found by the addresses in its file (-c FILE and so
    on as for `serve`), or by --url. It reads the file that it was started with.
    $INFERMUX_MANAGEMENT_TOKEN is sent where it is set.
    """
    try:
        router = target(url, path)
    except ConfigError as error:
        _refused({"problems": as_dicts(error.problems)}, as_json)
    status, answer = ask(router, "POST", f"{PATH}?dry_run={'true' if dry_run else 'false'}")
    if "problems" in answer:
        _refused(answer, as_json)
    if status != 200:
        raise NoAnswer(f"{router.url} answered {status}: {message(answer)}")
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
