"""`update`: every installed provider, and infermux itself, from where they were installed from."""

from __future__ import annotations

import sys

import attrs
import click

from infermux.daemon.lock import Home, holder
from infermux.installing.failures import CannotInstall
from infermux.installing.own import Updated, update_own
from infermux.installing.registry import Registry

from . import options
from .output import print_json
from .provider import as_rows, taken_up, update_providers
from .root import FAILURE


@click.command()
@options.as_json
def update(as_json: bool) -> None:
    """Update every provider that has a recorded source, and infermux itself.

    infermux is installed anew where it came from a folder, an archive or a repository; otherwise this says what to do.
    Exit code 1: something could not be updated.
    """
    home = Home.of()
    # Providers first: with infermux itself exchanged, what this process has not loaded yet would be of another version.
    registry = Registry(home.folder)
    results = update_providers(registry, None, quiet=as_json)
    taken = taken_up(registry, results)
    runs = holder(home) is not None
    if not as_json and taken.said is not None:
        click.echo(taken.said, err=True)
    try:
        own, error = update_own(lambda text: click.echo(text, err=True)), None
    except CannotInstall as failed:
        own, error = None, failed.message
    if as_json:
        itself = None if own is None else attrs.asdict(own)
        print_json({"infermux": itself, "error": error, "providers": as_rows(results), "router": taken.router})
    elif own is not None:
        _print(own, runs)
    if error is not None:
        click.echo(f"infermux: not updated: {error}", err=True)
    if error is not None or any(isinstance(result, str) for result in results.values()):
        sys.exit(FAILURE)


def _print(own: Updated, runs: bool) -> None:
    if own.after is None:
        click.echo(f"infermux {own.before} is not updated: {own.todo}")
        return
    step = f"{own.after} as before" if own.before == own.after else f"{own.before} -> {own.after}"
    click.echo(f"updated infermux: {step}" + ("; `infermux restart` has the router run it" if runs else ""))
