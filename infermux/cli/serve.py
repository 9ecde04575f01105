"""`serve` and `infer`: load the configuration, then hand over to `infermux.serving`."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import Any

import click

from infermux.config import Config, Overrides, load_checked
from infermux.config.values import address

from . import options
from .output import print_warnings


class _Address(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(address(str(value)))
        except ValueError:
            self.fail(f'{value!r} is not an address such as "127.0.0.1:8080", "[::1]:8080" or ":8080"', param, ctx)


@click.command()
@options.config
@options.demo
@click.option("--listen", type=_Address(), metavar="HOST:PORT", help="Listen here instead of where the file says.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warn", "error"]), help="Log this instead of what the file says."
)
@click.option("--watch", is_flag=True, help="Reload when the file, or one it takes a value from, changes.")
def serve(*, path: str | None, demo: bool, listen: str | None, log_level: str | None, watch: bool) -> None:
    """Serve until SIGTERM or Ctrl+C. SIGHUP and `infermux reload` read the configuration again."""
    if demo and watch:
        raise click.UsageError("--demo has no file to watch; leave --watch out")
    overrides = Overrides(listen=listen, log_level=log_level)
    config = _config(path, demo, overrides)
    load = None if demo else partial(load_checked, config.source, overrides=overrides)
    sys.exit(_serving().serve_command(config, load=load, watch=watch, demo=demo))


@click.command()
@options.config
@options.demo
@options.as_json
@click.option("--stream/--no-stream", default=True, help="Print the answer as it comes.")
@click.argument("model")
@click.argument("prompt")
def infer(*, path: str | None, demo: bool, as_json: bool, stream: bool, model: str, prompt: str) -> None:
    """Send PROMPT to MODEL (`auto` for the default) by the configured providers, without a server."""
    config = _config(path, demo, Overrides())
    sys.exit(_serving().infer_command(config, model=model, prompt=prompt, stream=stream, as_json=as_json))


def _config(path: str | None, demo: bool, overrides: Overrides) -> Config:
    if demo and path is not None:
        raise click.UsageError("--demo brings its own configuration; leave -c out")
    if demo:
        from infermux.config.demo import demo_config

        return demo_config(overrides)
    config, warnings = load_checked(path, overrides=overrides)
    print_warnings(warnings)
    return config


def _serving() -> Any:
    # Not a plain import: the server brings hypercorn, quart and httpx, and who only mistyped should not wait for them.
    return importlib.import_module("infermux.serving")
