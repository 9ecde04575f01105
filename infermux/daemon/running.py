"""The daemon's side: it takes the lock, writes its log, and tells whoever started it how that went."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import attrs
import trio

from infermux import __version__
from infermux.errors import InfermuxError

from .lock import Facts, Home, Lock, holder
from .log import RollingLog

LOOK_EVERY = 0.25  # seconds
ROLL_EVERY = 5.0


class Taken(InfermuxError):
    """Another daemon runs in this home."""


@attrs.frozen(kw_only=True)
class Place:
    """Where a daemon is reached. `management`: the URL of its management; `cert_file`: that speaks TLS with it."""

    url: str
    management: str
    cert_file: str | None


@attrs.frozen(kw_only=True)
class Seen:
    """What a daemon sees of its router: the file in force, the requests in flight, whether it drains, for how long."""

    config: str | None
    in_flight: int
    draining: bool
    grace: float


@attrs.define(eq=False)
class Daemon:
    """This process as the daemon of its home."""

    facts: Facts
    _lock: Lock
    _log: RollingLog
    _starter: int | None  # the pipe to who started it

    @classmethod
    def begin(cls, starter: int, *, arguments: tuple[str, ...], home: Home) -> Daemon:
        """Become the daemon of `home`. `starter`: a pipe that is told what happens. Raises Taken.

        From now on stdout and stderr are the log.
        """
        os.set_inheritable(starter, False)
        lock = Lock.take(home)
        if lock is None:
            other = holder(home)
            _tell(starter, {"taken": None if other is None else other.pid})
            raise Taken("another infermux has just been started in this home")
        pid = os.getpid()
        facts = Facts(pid=pid, fd=lock.fd, since=time.time(), version=__version__, cwd=os.getcwd(), arguments=arguments)
        lock.tell(facts)
        log = RollingLog(home.log)
        _tell(starter, {"log_from": log.open()})
        return cls(facts, lock, log, starter)

    async def attend(self, place: Place, look: Callable[[], Seen]) -> None:
        """It listens at `place`: tell who waits for that, and keep what is known of it up to date, until cancelled."""
        self._now(attrs.evolve(self.facts, state="ready", config=_absolute(look().config), **attrs.asdict(place)))
        self._started()
        rolled = trio.current_time()
        while True:
            await trio.sleep(LOOK_EVERY)
            seen = look()
            if seen.draining:
                until = self.facts.until or time.time() + seen.grace
                self._now(attrs.evolve(self.facts, state="draining", in_flight=seen.in_flight, until=until))
            if trio.current_time() - rolled >= ROLL_EVERY:
                rolled = trio.current_time()
                self._log.roll()

    def _started(self) -> None:
        """Let go of who started it."""
        if self._starter is not None:
            _tell(self._starter, {"ready": True})
            os.close(self._starter)
            self._starter = None

    def _now(self, facts: Facts) -> None:
        if facts != self.facts:
            self.facts = facts
            self._lock.tell(facts)


def _absolute(source: str | None) -> str | None:
    """The path of a file; what is none, such as the demo's name, as it is."""
    return os.path.abspath(source) if source is not None and os.path.exists(source) else source


def _tell(starter: int, what: dict[str, object]) -> None:
    try:
        os.write(starter, json.dumps(what).encode() + b"\n")
    except BrokenPipeError:
        pass  # it was stopped; the daemon goes on
