"""`provider`: install provider processes and look after them, in ~/.infermux/providers.json."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from infermux.config.source_text import text_of
from infermux.daemon.lock import Home
from infermux.errors import ConfigError, InfermuxError, NotFound
from infermux.installing.failures import BadSource
from infermux.installing.registry import Registry, settings_of
from infermux.installing.sources import source, source_of

from . import options
from .output import counted, print_json, print_table
from .root import FAILURE
from .taking_up import TakenUp, take_up

if TYPE_CHECKING:
    from infermux.installing.installation import Done
    from infermux.providers.interface import ModelInfo

ENDS_WITHIN = 6.0  # seconds: a provider that a router has no use for any more gets SIGKILL after five
_NONE = "no providers are installed; `infermux provider install ID --package NAME` installs one"


@click.group()
def provider() -> None:
    """Install provider processes, and look after those that are."""


@provider.command()
@click.argument("id")
@click.option("--package", metavar="NAME[==V]", help="A package of the index, such as PyPI.")
@click.option("--git", metavar="URL", help="A git repository; @REF behind it for a branch, a tag or a commit.")
@click.option("--subdirectory", metavar="DIR", help="The folder of the repository that the package is in.")
@click.option("--path", metavar="DIR", help="A folder of this machine.")
@click.option("--command", metavar="COMMAND", help="What starts it; else the package's only program, or its namesake.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help='A variable it gets; "${NAME}" is taken from ours.')
@options.as_json
def install(
    *,
    id: str,
    package: str | None,
    git: str | None,
    subdirectory: str | None,
    path: str | None,
    command: str | None,
    env: Sequence[str],
    as_json: bool,
) -> None:
    """Install a provider under the name ID, in an environment of its own.

    It is kept if it starts and lists models. A router in the background serves it from then on.
    """
    from infermux.installing import installation

    try:
        wanted = source(package=package, git=git, subdirectory=subdirectory, path=path)
        installation.check_id(id)
        variables = _variables(env)
        _refuse_declared(id)
        done = installation.install(_registry(), id, wanted, command=command, env=variables, say=_say)
    except BadSource as wrong:
        raise click.UsageError(wrong.message) from None
    taken = take_up()
    if as_json:
        print_json(_done(done) | {"router": taken.router})
        _tell(taken, quiet=True)
        return
    click.echo(f"installed {id} {done.entry['version']} with {counted(len(done.models), 'model')}: {_ids(done.models)}")
    _tell(taken)


@provider.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """List the installed providers, in their order: the first model of the first one is the default."""
    registry = _registry()
    entries = registry.read()
    if as_json:
        print_json({"file": str(registry.file), "providers": [_shown(id, entry) for id, entry in entries.items()]})
        return
    if not entries:
        click.echo(_NONE, err=True)
        return
    rows = [
        (id, str(entry.get("version", "")), str(source_of(entry) or "by hand"), _words(entry.get("command")))
        for id, entry in entries.items()
    ]
    print_table(("ID", "VERSION", "SOURCE", "COMMAND"), rows)


@provider.command()
@click.argument("id")
@options.as_json
def show(id: str, as_json: bool) -> None:
    """Show all that is written down about ID; of its environment only the names."""
    entries = _registry().read()
    if id not in entries:
        raise NotFound(f"there is no provider {id!r}; there are: {', '.join(entries) or 'none'}")
    shown = _shown(id, entries[id])
    if as_json:
        print_json(shown)
        return
    width = max(map(len, shown))
    for name, value in shown.items():
        click.echo(f"{name.ljust(width)}  {_words(value)}")


@provider.command()
@click.argument("id", required=False)
@options.as_json
def update(id: str | None, as_json: bool) -> None:
    """Install the newest of ID, or of every provider with a recorded source, as it was installed.

    One that does not start then, or lists no models, stays as it was. Exit code 1: not all could be updated.
    """
    registry = _registry()
    results = update_providers(registry, [id] if id is not None else None, quiet=as_json)
    taken = taken_up(registry, results)
    if as_json:
        print_json({"providers": as_rows(results), "router": taken.router})
    elif not results:
        click.echo("no provider has a recorded source that it could be updated from")
    _tell(taken, quiet=as_json)
    if any(isinstance(result, str) for result in results.values()):
        sys.exit(FAILURE)


@provider.command()
@click.argument("id")
@options.as_json
def remove(id: str, as_json: bool) -> None:
    """Take ID out, and delete its environment."""
    from infermux.installing import installation

    registry = _registry()
    entry = installation.remove(registry, id, say=_say)
    taken = _taken_up(registry)
    if as_json:
        print_json({"removed": _shown(id, entry), "router": taken.router})
    else:
        click.echo(f"removed {id}")
    _tell(taken, quiet=as_json)


@provider.command()
@click.argument("id", required=False)
@options.as_json
def check(id: str | None, as_json: bool) -> None:
    """Start ID, or every installed provider, and list its models. Exit code 1: not all of them work."""
    import trio

    from infermux.providers.process.asking import described_by

    registry = _registry()
    entries = registry.read()
    if id is not None and id not in entries:
        raise NotFound(f"there is no provider {id!r}; there are: {', '.join(entries) or 'none'}")
    text = text_of(str(registry.file)) if entries else "{}"
    wanted = [each for each in settings_of(text, registry.file) if id in (None, each.name)]
    if not wanted:
        click.echo(_NONE, err=True)
    found, missing = trio.run(described_by, wanted)
    missing |= {name: "it lists no models" for name, models in found.items() if not models}
    if as_json:
        print_json({"providers": [_checked(each.name, found, missing) for each in wanted]})
    else:
        for each in wanted:
            if each.name in missing:
                click.echo(f"{each.name}: {missing[each.name]}", err=True)
            else:
                click.echo(f"{each.name}: ok, {counted(len(found[each.name]), 'model')}: {_ids(found[each.name])}")
    if missing:
        sys.exit(FAILURE)


def update_providers(registry: Registry, ids: Sequence[str] | None, *, quiet: bool) -> dict[str, dict[str, Any] | str]:
    """Update each, None: all with a recorded source. What became of them by id; a text is why one was not updated."""
    from infermux.installing import installation

    if ids is None:
        ids = [id for id, entry in registry.read().items() if source_of(entry) is not None]
    results: dict[str, dict[str, Any] | str] = {}
    for id in ids:
        try:
            done = installation.update(registry, id, say=_say)
        except ConfigError:
            raise
        except InfermuxError as error:
            results[id] = error.message
            click.echo(f"{id}: not updated: {error.message}", err=True)
        else:
            results[id] = _done(done)
            if not quiet:
                click.echo(f"updated {id}: {_step(done)}")
    return results


def taken_up(registry: Registry, results: Mapping[str, dict[str, Any] | str]) -> TakenUp:
    """Tell the router in the background of what was updated, if anything was."""
    changed = any(isinstance(result, dict) for result in results.values())
    return _taken_up(registry) if changed else TakenUp(router="none")


def as_rows(results: Mapping[str, dict[str, Any] | str]) -> list[dict[str, Any]]:
    """What became of updates, for machines."""
    rows: list[dict[str, Any]] = []
    for id, result in results.items():
        rows.append({"id": id, "error": result} if isinstance(result, str) else result | {"error": None})
    return rows


def _registry() -> Registry:
    return Registry(Home.of().folder)


def _taken_up(registry: Registry) -> TakenUp:
    from infermux.installing import installation
    from infermux.installing.environments import processes

    taken = take_up()
    if taken.router == "none" or processes() is not None:
        installation.tidy(registry, within=ENDS_WITHIN if taken.router == "reloaded" else 0, say=_say)
    return taken


def _say(text: str) -> None:
    click.echo(text, err=True)


def _tell(taken: TakenUp, *, quiet: bool = False) -> None:
    if taken.said is not None and (not quiet or taken.router == "failed"):
        click.echo(taken.said, err=True)


def _variables(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if not all(name and equals for name, equals, _ in pairs):
        raise BadSource("--env takes NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _refuse_declared(id: str) -> None:
    """An id that the configuration's own providers have would make it invalid."""
    from infermux.config import load

    try:
        config = load(None)
    except ConfigError:
        return  # none yet, or one that says what is wrong with it when it is served
    if id not in _registry().read() and id in [each.name for each in config.providers]:
        raise BadSource(f"{config.source} has a provider named {id!r} already: choose another id")


def _done(done: Done) -> dict[str, Any]:
    models = [attrs.asdict(model) for model in done.models]
    return _shown(done.id, done.entry) | {"before": done.before, "models": models}


def _shown(id: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry, with the values of its environment left out: they may be secrets."""
    env: Any = entry.get("env")
    return {"id": id} | {**entry} | ({"env": sorted(cast("dict[str, Any]", env))} if isinstance(env, dict) else {})


def _checked(id: str, found: Mapping[str, Sequence[ModelInfo]], missing: Mapping[str, str]) -> dict[str, Any]:
    models = [attrs.asdict(model) for model in found.get(id, ())]
    return {"id": id, "ok": id not in missing, "error": missing.get(id), "models": models}


def _step(done: Done) -> str:
    after = str(done.entry["version"])
    return f"{after} as before" if done.before == after else f"{done.before or 'unknown'} -> {after}"


def _ids(models: Sequence[ModelInfo]) -> str:
    return ", ".join(model.id for model in models[:10]) + (", ..." if len(models) > 10 else "")


def _words(value: Any) -> str:
    return " ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)
