"""Options several commands share."""

from __future__ import annotations

import click

config = click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    help="Configuration file; else $INFERMUX_CONFIG, ./infermux.yml, ~/.infermux/infermux.yml.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
demo = click.option("--demo", is_flag=True, help="Use the built-in demo: simulated providers, no keys needed.")
