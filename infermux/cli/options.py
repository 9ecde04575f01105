"""Options several commands share."""

from __future__ import annotations

from typing import Any

import click

from infermux.config.values import address


class _Address(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(address(str(value)))
        except ValueError:
            self.fail(f'{value!r} is not an address such as "127.0.0.1:8080", "[::1]:8080" or ":8080"', param, ctx)


config = click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    help="Configuration file; else $INFERMUX_CONFIG, ./infermux.yml, ~/.infermux/infermux.yml.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
demo = click.option("--demo", is_flag=True, help="Use the built-in demo: simulated providers, no keys needed.")
listen = click.option(
    "--listen", type=_Address(), metavar="HOST:PORT", help="Listen here instead of where the file says."
)
log_level = click.option(
    "--log-level", type=click.Choice(["debug", "info", "warn", "error"]), help="Log this instead of what the file says."
)
watch = click.option("--watch", is_flag=True, help="Reload when the file, or one it takes a value from, changes.")
