"""`check`, `schema`, `models`: look at a configuration without serving it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import attrs
import click

from infermux.config import Config, load, load_checked
from infermux.errors import ConfigError

from . import options
from .output import as_dicts, counted, print_json, print_table, print_warnings
from .root import CONFIGURATION


@click.command()
@options.config
@options.as_json
def check(path: str | None, as_json: bool) -> None:
    """Check a configuration and name everything that is wrong with it."""
    try:
        config, warnings = load_checked(path)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"ok": False, "problems": as_dicts(error.problems), "warnings": []})
        sys.exit(CONFIGURATION)
    if as_json:
        print_json({"ok": True, "file": config.source, "problems": [], "warnings": as_dicts(warnings)})
        return
    print_warnings(warnings)
    names = {row.model for row in declared(config)}
    parts = [counted(len(config.providers), "provider"), counted(len(names), "model name")]
    if warnings:
        parts.append(counted(len(warnings), "warning"))
    click.echo(f"{config.source}: ok ({', '.join(parts)})")


@click.command()
@options.as_json
def schema(as_json: bool) -> None:
    """Print the JSON Schema of infermux.yml (with or without --json: it is JSON)."""
    from infermux.config.schema import json_schema

    print_json(json_schema())


@attrs.frozen
class Declared:
    """A model name a provider declares. `alias_for` is the provider's own name for it."""

    model: str
    provider: str
    type: str
    alias_for: str | None


def declared(config: Config) -> Iterator[Declared]:
    """Models, then aliases, of each provider in file order. Within one provider an alias beats a listing."""
    for provider in config.providers:
        for model in provider.models or ():
            if model not in provider.model_aliases:
                yield Declared(model, provider.name, provider.type, None)
        for alias, model in provider.model_aliases.items():
            yield Declared(alias, provider.name, provider.type, model)


@click.command()
@options.config
@options.demo
@options.as_json
def models(path: str | None, demo: bool, as_json: bool) -> None:
    """List the models and aliases the configuration declares, by provider. As JSON with their prices."""
    from infermux.config.checks import is_open_ended
    from infermux.config.demo import demo_config
    from infermux.providers.prices import PriceBook, loaded_library, priced

    config = demo_config() if demo else load(path)
    rows = list(declared(config))
    open_ended = [provider.name for provider in config.providers if is_open_ended(provider)]
    if as_json:
        book = PriceBook.of(config, loaded_library(*config.providers))
        prices = [row for provider in config.providers for row in priced(book, provider)]
        print_json({"models": [attrs.asdict(row) for row in rows], "open_ended": open_ended, "prices": prices})
        return
    print_table(
        ("MODEL", "PROVIDER", "TYPE", "ALIAS FOR"),
        [(row.model, row.provider, row.type, row.alias_for or "") for row in rows],
    )
    if open_ended:
        click.echo(f"considered for any model name: {', '.join(open_ended)}")
