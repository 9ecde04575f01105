"""Install, update, remove: what is kept has been started and has listed its models, otherwise all is as it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs
import trio

from infermux.config.settings import ProviderSettings
from infermux.config.values import name as checked_name
from infermux.errors import ConfigError, NotFound, UpstreamFailure
from infermux.providers.interface import ModelInfo
from infermux.providers.process.asking import models_of

from .environments import Environment, origin, sweep
from .failures import BadSource, CannotInstall
from .registry import Entries, Registry, settings_of
from .sources import Source, source_of
from .tools import Say

LOOK_EVERY = 0.1  # seconds


@attrs.frozen(kw_only=True)
class Done:
    """What was installed. `before`: the version that it takes the place of."""

    id: str
    entry: Mapping[str, Any]
    models: Sequence[ModelInfo]
    before: str | None = None


def check_id(text: str) -> str:
    """An id that can be installed. Raises BadSource."""
    try:
        found = checked_name(text)
    except ValueError:
        raise BadSource("a provider's id has the characters a-z A-Z 0-9 . _ -") from None
    if found.startswith(("infermux.", "-", ".")):
        raise BadSource("a provider's id begins with a letter, a digit or _, and not with `infermux.`")
    return found


def install(
    registry: Registry, id: str, source: Source, *, command: str | None, env: Mapping[str, str], say: Say
) -> Done:
    """Install a provider that is not there yet. Raises BadSource, CannotInstall, ConfigError."""
    with registry.changing(say):
        _refuse_taken(registry.read(), id)
        _usable(registry, id, {"command": ["any"], "env": dict(env)})  # before minutes are spent on it
        _sweep(registry)
        say(f"installing {source}")
        environment = Environment.build(registry.environments, id, source)
        try:
            made_of = environment.distribution(source)
            entry: dict[str, Any] = {"command": environment.command(made_of, command)}
            entry |= source.recorded() | _version(environment, source)
            if env:
                entry["env"] = dict(env)
            models = _verified(registry, id, entry, say)
            entries = registry.read()  # again: somebody may have edited it meanwhile
            _refuse_taken(entries, id)
            registry.write(entries | {id: entry})
        except BaseException:
            environment.delete()
            raise
    return Done(id=id, entry=entry, models=models)


def update(registry: Registry, id: str, *, say: Say) -> Done:
    """Install the newest of a provider's recorded source. Raises NotFound, CannotInstall, ConfigError."""
    with registry.changing(say):
        before = _entry(registry.read(), id)
        source = source_of(before)
        if source is None:
            raise CannotInstall(f"{id} has no recorded source (package, git or path) that it could be updated from")
        _sweep(registry)
        say(f"updating {id} from {source}")
        environment = Environment.build(registry.environments, id, source)
        try:
            command = _same_command(environment, source, before)
            changed = {"command": command} | _version(environment, source)
            models = _verified(registry, id, before | changed, say)
            entries = registry.read()
            entries[id] = _entry(entries, id) | changed
            registry.write(entries)
        except BaseException:
            environment.delete()
            raise
    was = before.get("version")
    return Done(id=id, entry=entries[id], models=models, before=str(was) if was is not None else None)


def remove(registry: Registry, id: str, *, say: Say) -> Mapping[str, Any]:
    """Take a provider out; its environment goes with `tidy` or the next command. Raises NotFound, ConfigError."""
    with registry.changing(say):
        entries = registry.read()
        gone = _entry(entries, id)
        del entries[id]
        _sweep(registry)
        registry.write(entries)
    return gone


def tidy(registry: Registry, *, within: float, say: Say) -> None:
    """Delete the environments that nothing leads into any more, once nothing runs from them either.

    `within`: seconds that are waited for that. What is still in use then is left to the next command.
    """
    deadline = time.monotonic() + within
    while True:
        with registry.changing(say):
            if _sweep(registry):
                return
        if time.monotonic() > deadline:
            say("what was there before still runs; the next `infermux provider` command after its end deletes it")
            return
        time.sleep(LOOK_EVERY)


def listed(settings: ProviderSettings) -> Sequence[ModelInfo]:
    """Start a provider, ask for its models, end it. Raises CannotInstall."""
    try:
        models = trio.run(models_of, settings)
    except UpstreamFailure as failure:
        raise CannotInstall(f"{settings.name} does not work: {failure.message}") from None
    if not models:
        raise CannotInstall(f"{settings.name} was started and lists no models")
    return models


def _verified(registry: Registry, id: str, entry: dict[str, Any], say: Say) -> Sequence[ModelInfo]:
    say(f"starting {id} and asking for its models")
    return listed(_usable(registry, id, entry))


def _usable(registry: Registry, id: str, entry: Mapping[str, Any]) -> ProviderSettings:
    """What a router makes of an entry. Raises CannotInstall."""
    try:
        (settings,) = settings_of(json.dumps({id: entry}), registry.file)
    except ConfigError as error:
        said = "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
        raise CannotInstall(f"no router would take it: {said}") from None
    return settings


def _version(environment: Environment, source: Source) -> dict[str, str]:
    """What is recorded of what was installed: the version, and of a repository the commit."""
    made_of = environment.distribution(source)
    said: dict[str, Any] = (origin(made_of) or {}).get("vcs_info") or {}
    commit = said.get("commit_id")
    return {"version": made_of.version} | ({"commit": str(commit)} if commit else {})


def _same_command(environment: Environment, source: Source, before: Mapping[str, Any]) -> list[str]:
    """The command as it was, in the new environment: which program, and its arguments, are the user's."""
    command: Any = before.get("command")
    made_of = environment.distribution(source)
    words = [str(word) for word in cast("list[object]", command)] if isinstance(command, list) else []
    if not words:
        return environment.command(made_of, None)
    try:
        return environment.words([os.path.basename(words[0]), *words[1:]])
    except BadSource:
        raise CannotInstall(f"its program {words[0]!r} is not in {made_of.name} {made_of.version} any more") from None


def _refuse_taken(entries: Entries, id: str) -> None:
    if id in entries:
        raise CannotInstall(
            f"there is a provider {id!r} already; `infermux provider update {id}` installs the newest of it, "
            f"`infermux provider remove {id}` takes it out"
        )


def _entry(entries: Entries, id: str) -> dict[str, Any]:
    if id not in entries:
        there = f"there are: {', '.join(entries)}" if entries else "none is installed"
        raise NotFound(f"there is no provider {id!r}; {there}")
    return entries[id]


def _sweep(registry: Registry) -> bool:
    return sweep(registry.environments, [entry.get("command") for entry in registry.read().values()])
