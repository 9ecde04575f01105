"""Reloading a running router from its file: who asks may be a signal, a request, or a watcher of the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import attrs
import trio

from infermux.actors.fleet import Fleet
from infermux.config.checks import open_to_strangers
from infermux.config.difference import Difference, effective
from infermux.config.settings import Config
from infermux.errors import ConfigError, InvalidRequest, Problem, ShuttingDown

from .caching import caching_of
from .inference import Inference
from .rules import Rules

log = logging.getLogger("infermux")

Load = Callable[[], tuple[Config, list[Problem]]]


@attrs.frozen(kw_only=True)
class Reloaded:
    """What a reload changed, or with `dry_run` would change. `file` is the whole path, `warnings` are the file's."""

    file: str
    dry_run: bool
    difference: Difference
    warnings: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "dry_run": self.dry_run,
            "changed": bool(self.difference),
            "difference": self.difference.as_json(),
            "summary": list(self.difference.lines()),
            "warnings": [attrs.asdict(warning) for warning in self.warnings],
        }


@attrs.define(eq=False, kw_only=True)
class Reloader:
    """`load` reads the configuration again, None where it came from no file. `then` is called with what is in force."""

    fleet: Fleet
    inference: Inference
    load: Load | None
    then: list[Callable[[Config], None]] = attrs.field(factory=list[Callable[[Config], None]])
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock)

    async def reload(self, *, dry_run: bool = False) -> Reloaded:
        """Read the file and serve what it says.

        Raises ConfigError with everything that is wrong with it, ShuttingDown, InvalidRequest where there is no file;
        then, and when it is cancelled, everything stays as it was.
        """
        async with self._one_at_a_time:  # around reading too: the file as it was must not come after what it is
            if self.inference.draining:
                raise ShuttingDown("the router is shutting down: nothing is reloaded any more")
            if self.load is None:
                raise InvalidRequest("this router was not started from a file: there is nothing to reload")
            config, warnings = await trio.to_thread.run_sync(self.load)
            self._check_what_stays(config)
            if dry_run:
                difference = self.fleet.difference(config)
            else:
                difference = await self.fleet.reload(config)
                self._adopt(self.fleet.config)
        return Reloaded(file=_whole(config.source), dry_run=dry_run, difference=difference, warnings=tuple(warnings))

    def _check_what_stays(self, config: Config) -> None:
        """The file was checked with its own `listen`; until a restart another one goes on being listened on."""
        mixed = effective(self.fleet.config, config)
        why = open_to_strangers(mixed)
        if why is not None:
            message = f"the router listens on {mixed.listen} until it is restarted, which {why}"
            raise ConfigError([Problem(config.source or "", 1, "listen", message)])

    def _adopt(self, config: Config) -> None:
        self.inference.rules = Rules.of(config)
        self.inference.caching = caching_of(self.fleet, self.inference.caching)
        for each in self.then:
            each(config)

    async def reload_and_log(self, why: str) -> None:
        """Reload because of `why`, and log what came of it: nobody waits for an answer."""
        try:
            done = await self.reload()
        except (ConfigError, ShuttingDown, InvalidRequest) as refused:
            problems = refused.problems if isinstance(refused, ConfigError) else [refused.message]
            for line in ("everything stays as it was:", *problems):
                log.error("%s: %s", why, line)  # noqa: TRY400 - a traceback would say nothing more
        except Exception:
            log.exception("%s: everything stays as it was", why)
        else:
            for warning in done.warnings:
                log.warning("%s", warning)
            for line in ("reloaded" if done.difference else "nothing has changed", *done.difference.lines()):
                log.info("%s: %s", why, line)


def _whole(path: str | None) -> str:
    return os.path.abspath(path or "")
