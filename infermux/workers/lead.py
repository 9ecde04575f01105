"""`infermux serve` with several workers: what the one that leads them does with signals, files and its daemon."""

from __future__ import annotations

import logging
import signal
from functools import partial

import attrs
import trio

from infermux.announcing import announce, place_of
from infermux.config.settings import Config
from infermux.daemon.running import Daemon, Seen
from infermux.descriptors import raise_descriptor_limit
from infermux.errors import Problem
from infermux.logs import set_up_logging
from infermux.watching import files_beside, watch

from .crew import ENDS_WITHIN, Crew
from .loading import Read, Reloads
from .opening import open_crew
from .ports import fixed

log = logging.getLogger("infermux.workers")

LOOK_EVERY = 0.25  # seconds between two looks at the workers, while somebody is told what is seen
NOW = 1.0  # seconds the workers have to end when they are told to at once


def lead_command(
    config: Config, *, load: Read | None, watch: bool = False, demo: bool = False, daemon: Daemon | None = None
) -> int:
    """Serve by several workers until SIGTERM or Ctrl+C; returns the exit code.

    OSError when an address cannot be listened on, NotStarted when a worker does not come up. The rest as for one.
    """
    set_up_logging(config.log)
    raise_descriptor_limit()
    with fixed(config) as ready:
        leading = Leading(config=ready, load=_with_ports(load, config, ready), watch=watch, demo=demo, daemon=daemon)
        failure = trio.run(leading.run)
    if failure is not None:
        raise failure
    return leading.exit_code


def _with_ports(load: Read | None, written: Config, ready: Config) -> Read | None:
    """Reads as `load` does, with the ports that were found for a file that says the same of them as it did."""
    if load is None:
        return None

    def read() -> tuple[Config, list[Problem]]:
        config, warnings = load()
        if config.listen == written.listen:
            config = attrs.evolve(config, listen=ready.listen)
        if config.management_listen == written.management_listen:
            config = attrs.evolve(config, management_listen=ready.management_listen)
        return config, warnings

    return read


@attrs.define(eq=False, kw_only=True)
class Leading:
    """One run of a crew. `stopping` counts how often it was told to end."""

    config: Config
    load: Read | None
    watch: bool
    demo: bool
    daemon: Daemon | None
    stopping: int = 0
    exit_code: int = 0

    async def run(self) -> Exception | None:
        """To the end. Why it did not start is returned: raised, the nurseries would wrap it."""
        failure: Exception | None = None
        reloads = Reloads(self.load)
        async with open_crew(self.config, reloads.asked) as crew, trio.open_nursery() as nursery:
            reloads.crew = crew
            await nursery.start(self._watch_signals, crew, reloads)
            try:
                await crew.start(nursery)
                await self._announced(crew, reloads, nursery)
            except Exception as error:
                failure = error if not self.stopping else None
            else:
                await crew.run()
                self.exit_code = 0 if self.stopping else 1
            nursery.cancel_scope.cancel()
        return failure

    async def _announced(self, crew: Crew, reloads: Reloads, nursery: trio.Nursery) -> None:
        if self.stopping:
            return
        addresses, management = crew.ready.addresses, crew.ready.management_addresses
        announce(crew.config, addresses, management, demo=self.demo)
        log.info("%d workers serve it", crew.of)
        if self.watch and self.config.source is not None:
            await nursery.start(
                partial(watch, more=lambda: files_beside(crew.config)),
                self.config.source,
                partial(reloads.reload_and_log, f"{self.config.source} has changed"),
            )
        if self.daemon is not None:
            nursery.start_soon(self._look, crew)
            place = place_of(crew.config, addresses, management)
            nursery.start_soon(self.daemon.attend, place, lambda: self._seen(crew))

    async def _look(self, crew: Crew) -> None:
        while True:
            await crew.look()
            await trio.sleep(LOOK_EVERY)

    def _seen(self, crew: Crew) -> Seen:
        config = crew.config
        grace = config.shutdown_delay + config.shutdown_grace
        return Seen(config=config.source, in_flight=crew.in_flight, draining=crew.draining, grace=grace)

    async def _watch_signals(self, crew: Crew, reloads: Reloads, *, task_status: trio.TaskStatus[None]) -> None:
        """First SIGTERM or SIGINT: all workers drain. Second: now. SIGHUP: reload."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async with trio.open_nursery() as nursery:
                async for number in signals:
                    name = signal.Signals(number).name
                    if number == signal.SIGHUP:
                        nursery.start_soon(reloads.reload_and_log, name)
                        continue
                    self.stopping += 1
                    if self.stopping == 1:
                        grace = crew.config.shutdown_delay + crew.config.shutdown_grace
                        log.info("%s: %d workers finish their requests, at most %g s", name, len(crew.children), grace)
                        crew.drain()
                        nursery.start_soon(self._end, crew, grace + ENDS_WITHIN)
                    else:
                        log.warning("second %s: stopping now", name)
                        crew.drain()
                        nursery.start_soon(self._end, crew, NOW)

    async def _end(self, crew: Crew, within: float) -> None:
        await trio.sleep(within)
        for child in list(crew.children.values()):
            log.warning("worker %d has not ended in time: it is killed", child.place)
            child.signal(signal.SIGKILL)
