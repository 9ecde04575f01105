"""Reloading several workers: the file is read and checked once, then one worker after the other takes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from infermux.config.checks import open_to_strangers
from infermux.config.difference import effective
from infermux.config.settings import Config
from infermux.errors import ConfigError, Problem
from infermux.logs import set_up_logging

from .messages import Done, Load, NotLoaded

if TYPE_CHECKING:
    from .crew import Crew
    from .process import Child

log = logging.getLogger("infermux")

ENDING = ("the router is shutting down: nothing is reloaded any more", (), 503, "shutting_down")

Read = Callable[[], tuple[Config, list[Problem]]]


@attrs.define(eq=False)
class Reloads:
    """Of one crew. `read` reads the file, None where there is none."""

    read: Read | None
    crew: Crew | None = None

    async def asked(self, dry_run: bool) -> dict[str, object]:
        """What an operator is told of a reload. Raises NotLoaded: nothing has changed then."""
        done = await self._reload(dry_run=dry_run)
        return done.told

    async def reload_and_log(self, why: str) -> None:
        """Reload because of `why`, and log what came of it."""
        try:
            done = await self._reload(dry_run=False)
        except NotLoaded as refused:
            for line in ("everything stays as it was:", *(refused.problems or (refused.message,))):
                log.error("%s: %s", why, line)  # noqa: TRY400 - a traceback would say nothing more
        except Exception:
            log.exception("%s: everything stays as it was", why)
        else:
            for line in ("reloaded" if done.told["changed"] else "nothing has changed", *done.lines):
                log.info("%s: %s", why, line)

    async def _reload(self, *, dry_run: bool) -> Done:
        crew = self.crew
        if crew is None:
            raise NotLoaded(*ENDING)
        async with crew.loading:  # around reading too: the file as it was must not come after what it is
            if crew.draining:
                raise NotLoaded(*ENDING)
            if self.read is None:
                message = "this router was not started from a file: there is nothing to reload"
                raise NotLoaded(message, (), 400, "invalid_request")
            try:
                config, warnings = await trio.to_thread.run_sync(self.read)
                _check_what_stays(crew.config, config)
            except ConfigError as refused:
                raise NotLoaded(refused.message, tuple(refused.problems)) from None
            done = await _roll(crew, config, dry_run=dry_run)
        if not dry_run:
            set_up_logging(crew.config.log)
        for warning in warnings:
            log.warning("%s", warning)
        return attrs.evolve(done, told={**done.told, "warnings": [attrs.asdict(each) for each in warnings]})


def _check_what_stays(former: Config, config: Config) -> None:
    """See `http.reloading.Reloader`, which does the same for one process."""
    mixed = effective(former, config)
    why = open_to_strangers(mixed)
    if why is not None:
        message = f"the router listens on {mixed.listen} until it is restarted, which {why}"
        raise ConfigError([Problem(config.source or "", 1, "listen", message)])


async def _roll(crew: Crew, config: Config, *, dry_run: bool) -> Done:
    """One worker after the other. Where one cannot take it, those that have go back. Raises what that one raised."""
    former = crew.config
    taken: list[Child] = []
    done: Done | None = None
    if not dry_run:
        crew.config = effective(former, config)  # for those that start from now on
    for child in [each for each in crew.children.values() if each.listens.is_set()]:
        try:
            answer = await crew.ask(child, Load(config, dry_run))
        except Exception:  # whatever it is: all of them serve the same
            crew.config = former
            for each in taken:
                await _go_back(crew, each, former)
            raise
        if isinstance(answer, Done):
            done = done or answer
            taken.append(child)
            if dry_run:
                break
    if done is None:
        crew.config = former
        raise NotLoaded("no worker answers; try again", (), 503, "shutting_down")
    if not dry_run:
        for gone in crew.words.keys() - {provider.name for provider in crew.config.providers}:
            del crew.words[gone]  # one of that name that comes later is another
    return done


async def _go_back(crew: Crew, child: Child, former: Config) -> None:
    if crew.draining:  # it takes nothing new any more
        return
    try:
        await crew.ask(child, Load(former))
    except NotLoaded as stuck:
        log.error("worker %d cannot go back to the configuration before: %s", child.place, stuck.message)  # noqa: TRY400
