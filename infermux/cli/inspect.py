"""`check`, `schema`, `models`: look at a configuration without serving it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import click

from infermux.config import Config, load, load_checked
from infermux.errors import ConfigError

from . import options
from .output import as_dicts, counted, print_json, print_table, print_warnings
from .root import CONFIGURATION, FAILURE

if TYPE_CHECKING:
    from infermux.providers.interface import ModelInfo


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
    """A model name a provider declares. `alias_for` is the provider's own name for it.

    The rest is what a provider process says of the model; None: it does not say.
    """

    model: str
    provider: str
    type: str
    alias_for: str | None
    name: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    images: bool | None = None
    tools: bool | None = None


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
    """List the models and aliases the configuration declares, by provider. As JSON with their prices.

    Provider processes are started, and asked for theirs.
    """
    from infermux.config.checks import is_open_ended
    from infermux.config.demo import demo_config
    from infermux.providers.prices import PriceBook, loaded_library, priced

    config = demo_config() if demo else load(path)
    found, missing = _asked(config)
    rows = list(_with_found(config, found))
    open_ended = [p.name for p in config.providers if is_open_ended(p) and p.name not in (*found, *missing)]
    for name, why in missing.items():
        click.echo(f"{name}: {why}", err=True)
    if as_json:
        book = PriceBook.of(config, loaded_library(*config.providers))
        prices = [row for provider in config.providers for row in priced(book, provider)]
        print_json({"models": [attrs.asdict(row) for row in rows], "open_ended": open_ended, "prices": prices})
        return
    print_table(
        ("MODEL", "PROVIDER", "TYPE", "ALIAS FOR", *(("TAKES",) if found else ())),
        [(row.model, row.provider, row.type, row.alias_for or "", *((_takes(row),) if found else ())) for row in rows],
    )
    if missing:
        sys.exit(FAILURE)
    if open_ended:
        click.echo(f"considered for any model name: {', '.join(open_ended)}")


def _asked(config: Config) -> tuple[dict[str, Sequence[ModelInfo]], dict[str, str]]:
    """The models of the provider processes, and why some could not be asked."""
    processes = [provider for provider in config.providers if provider.type == "process"]
    if not processes:
        return {}, {}
    import trio

    from infermux.providers.process.asking import described_by

    return trio.run(described_by, processes)


def _with_found(config: Config, found: Mapping[str, Sequence[ModelInfo]]) -> Iterator[Declared]:
    """As `declared`, with what processes say of their models, and those of processes that declare none."""
    for provider in config.providers:
        said = {info.id: info for info in found.get(provider.name, ())}
        own = provider if provider.models is not None else attrs.evolve(provider, models=tuple(said) or None)
        for row in declared(attrs.evolve(config, providers=(own,))):
            info = said.get(row.alias_for or row.model)
            yield (
                row
                if info is None
                else attrs.evolve(
                    row,
                    name=info.name or None,
                    context_window=info.context_window,
                    max_output_tokens=info.max_output_tokens,
                    images=info.images,
                    tools=info.tools,
                )
            )


def _takes(row: Declared) -> str:
    """What a model takes, in a few words."""
    words = [f"{row.context_window} tokens" if row.context_window else ""]
    flags = (("images", row.images), ("tools", row.tools))
    words += [word if takes else f"no {word}" for word, takes in flags if takes is not None]
    return ", ".join(filter(None, words))
