"""Keep one process up: started, watched until it names its socket, started again when it ends, ended with its owner."""

from __future__ import annotations

import enum
import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from infermux.errors import InfermuxError

from .launch import Launch, Life, launch
from .listening import Listener
from .output import Allowance, Cleaner
from .restarts import Restarts
from .socket_path import Socket, names_a_path, trusted
from .spec import NotLaunched, Spec

LAST_WORDS = 0.2  # seconds for what was still in its pipes when it ended; whoever left its group may hold them open
END_WITHIN = 10.0  # seconds beside its grace: nothing about ending it may take for ever


class State(enum.Enum):
    """What becomes of the process. The values are words of the management API."""

    STARTING = "starting"  # it has not named its socket yet
    READY = "ready"
    BACKING_OFF = "backing_off"  # it ended, and is started again after a while
    FAILED = "failed"  # a crash loop: somebody has to look at it
    STOPPED = "stopped"  # its owner does not run it any more


class ProcessUnavailable(InfermuxError):
    """The process will not come up now. `reason` is a sentence, `stderr` its last lines, `settled`: a crash loop."""

    status, code = 503, "process_unavailable"

    def __init__(self, reason: str, *, stderr: tuple[str, ...] = (), settled: bool = False) -> None:
        said = "".join(f"\n  {line}" for line in stderr)
        super().__init__(f"{reason}; the last that it wrote to stderr:{said}" if stderr else reason)
        self.reason = reason
        self.stderr = stderr
        self.settled = settled


@attrs.define(eq=False)
class _Watched:
    """One life: what has been seen of it. `news` is set by its announcement and by its end, whichever is first."""

    life: Life
    stdout: Listener = attrs.field(init=False)
    stderr: Listener = attrs.field(init=False)
    announcement: bytes | None = None
    socket: Socket | None = None
    exit_code: int | None = None
    news: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)

    def listen(self, nursery: trio.Nursery) -> None:
        """Listen to both streams in `nursery`, from where it was left off."""
        nursery.start_soon(self.stdout.listen, self.life.stdout)
        nursery.start_soon(self.stderr.listen, self.life.stderr)

    def takes(self, line: bytes) -> bool:
        """Whether `line` of its stdout is the announcement."""
        if self.announcement is not None or not names_a_path(line):
            return False
        self.announcement = line
        self.news.set()
        return True

    async def note_end(self) -> None:
        self.exit_code = await self.life.exited()
        self.news.set()
        self.ended.set()

    def leave_no_socket(self) -> None:
        """Remove what it listened at, also where it ended before its announcement was looked at."""
        if self.socket is None and self.announcement is not None:
            with suppress(NotLaunched):
                self.socket = trusted(self.announcement)
        if self.socket is not None:
            self.socket.unlink()

    async def over(self) -> str:
        """Wait for its end and for what is still in its pipes; returns how it ended."""
        await self.ended.wait()
        with trio.move_on_after(LAST_WORDS):
            await self.stdout.done.wait()
            await self.stderr.done.wait()
        assert self.exit_code is not None
        return ending(self.exit_code)


class ProviderProcess:
    """One provider's process. `run()` has to be running, once, for as long as it is wanted.

    `generation` counts the starts: connections made in another one are dead. `path` is that of the socket while it is
    ready, None otherwise. `reason` says why it is not ready, `stderr` is the last it wrote there in its last life.
    """

    def __init__(self, spec: Spec, *, log: logging.Logger | None = None, launch: Launch = launch) -> None:
        self.spec = spec
        self.state = State.STARTING
        self.reason = "it is being started"
        self.stderr: tuple[str, ...] = ()
        self.generation = 0
        self.path: Path | None = None
        self._log = log or logging.getLogger("infermux.processes")
        self._launch = launch
        self._cleaner = Cleaner.of(spec.env, spec.secrets)
        self._restarts = Restarts(spec)
        self._changed = trio.Event()
        self._again = trio.Event()
        self._pid: int | None = None
        self._ready_at: float | None = None

    def __repr__(self) -> str:
        return f"<ProviderProcess {self.spec.name} {self.state.value} generation={self.generation} pid={self._pid}>"

    def statistics(self) -> dict[str, Any]:
        """For the management pages. `ready_for` in seconds, None while it is not ready."""
        return {
            "state": self.state.value,
            "reason": self.reason,
            "pid": self._pid,
            "socket": None if self.path is None else str(self.path),
            "generation": self.generation,
            "exits": self._restarts.exits,
            "ready_for": None if self._ready_at is None else round(trio.current_time() - self._ready_at, 3),
        }

    @property
    def settled(self) -> bool:
        """Whether it is in a crash loop."""
        return self.state is State.FAILED

    async def ready(self) -> Path:
        """The path of its socket; waits while it is starting. Raises ProcessUnavailable when that has failed."""
        while self.path is None:
            if self.state is not State.STARTING:
                raise ProcessUnavailable(self.reason, stderr=self.stderr, settled=self.settled)
            await self._changed.wait()
        return self.path

    async def changed(self) -> None:
        """Wait until its state changes."""
        await self._changed.wait()

    def retry(self) -> None:
        """Start it now if it waits for its next start, and forget how often it has ended."""
        self._restarts.forgive()
        self._again.set()
        if self.state in (State.BACKING_OFF, State.FAILED):
            self._become(State.STARTING, "it is being started")

    async def run(self) -> None:
        """Keep it up until cancelled; then it is ended, which takes `stop_grace` at most, and a moment."""
        try:
            while True:
                self._again = trio.Event()
                delay = await self._live()
                with trio.move_on_after(delay):
                    await self._again.wait()
        finally:
            self._stopped()

    async def _live(self) -> float:
        """One life of it, from its start to its end; returns the seconds to the next."""
        self.generation += 1
        if self.state is not State.FAILED:  # nobody waits for the rare tries after a crash loop
            self._become(State.STARTING, "it is being started")
        try:
            life = await self._launch(self.spec)
        except NotLaunched as error:
            return self._fell(str(error))
        watched = self._watch(life)
        try:
            async with trio.open_nursery() as nursery:
                watched.listen(nursery)
                nursery.start_soon(watched.note_end)
                reason = await self._until_over(watched)
                nursery.cancel_scope.cancel()
            return self._fell(reason, tuple(watched.stderr.kept))
        finally:
            if self.state in (State.STARTING, State.READY):
                self._stopped()
            await self._end(watched)

    async def _end(self, watched: _Watched) -> None:
        """End it and what it started. It is listened to until then: one whose pipe is full could not end."""
        grace = self.spec.stop_grace if watched.exit_code is None else 0.0
        with trio.CancelScope(shield=True, deadline=trio.current_time() + grace + END_WITHIN):
            async with trio.open_nursery() as nursery:
                watched.listen(nursery)
                in_time = await watched.life.end(grace)
                nursery.cancel_scope.cancel()
                if grace and not in_time:
                    self._log.warning(
                        "provider %s: process %s did not end within %g s of SIGTERM and was killed",
                        self.spec.name,
                        self._pid,
                        grace,
                    )
        self._pid = None
        watched.leave_no_socket()

    def _watch(self, life: Life) -> _Watched:
        self._pid = life.pid
        watched = _Watched(life)
        allowance = Allowance()
        name, log, cleaner = self.spec.name, self._log, self._cleaner
        watched.stdout = Listener(name, log, cleaner, allowance, takes=watched.takes)
        watched.stderr = Listener(name, log, cleaner, allowance)
        return watched

    async def _until_over(self, watched: _Watched) -> str:
        """Wait until it has ended or will not become ready; returns the reason."""
        began = trio.current_time()
        with trio.move_on_after(self.spec.start_timeout):
            await watched.news.wait()
        if watched.exit_code is not None:
            return f"its process {await watched.over()} before it was ready"
        if watched.announcement is None:
            return self._silence(watched)
        try:
            socket = watched.socket = trusted(watched.announcement)
        except NotLaunched as error:
            return str(error)
        await watched.life.protect(socket.path)
        self._is_ready(socket.path, trio.current_time() - began)
        return f"its process {await watched.over()}"

    def _silence(self, watched: _Watched) -> str:
        reason = f"it printed no path of a socket to stdout within {self.spec.start_timeout:g} s"
        if unfinished := watched.stdout.unfinished():
            return f"{reason}, only '{unfinished}' without an end of line"
        if watched.stdout.kept:
            return f"{reason}; its last line there was '{watched.stdout.kept[-1]}'"
        return reason

    def _is_ready(self, path: Path, took: float) -> None:
        self._ready_at = trio.current_time()
        self._become(State.READY, "it is ready", path)
        self._log.info(
            "provider %s: process %s is ready after %.2f s, at %r", self.spec.name, self._pid, took, str(path)
        )

    def _fell(self, reason: str, stderr: tuple[str, ...] = ()) -> float:
        """It is not up any more; returns the seconds until it is to be started again."""
        now = trio.current_time()
        delay = self._restarts.ended(now, 0.0 if self._ready_at is None else now - self._ready_at)
        self.stderr = stderr
        spec = self.spec
        if self._restarts.looping:
            reason = f"{reason}; it has ended {spec.most_exits} times within {spec.period:g} s and is given up for now"
            said = "".join(f"\n  {line}" for line in stderr) or " nothing"
            self._log.error("provider %s: %s. The last it wrote to stderr:%s", spec.name, reason, said)
        else:
            self._log.warning("provider %s: %s; it is started again in %g s", spec.name, reason, delay)
        self._become(State.FAILED if self._restarts.looping else State.BACKING_OFF, reason)
        return delay

    def _stopped(self) -> None:
        self._become(State.STOPPED, "it is not run any more")

    def _become(self, state: State, reason: str, path: Path | None = None) -> None:
        self.state, self.reason, self.path = state, reason, path
        if path is None:
            self._ready_at = None
        self._changed.set()
        self._changed = trio.Event()


def ending(code: int) -> str:
    """What an exit code says, for people."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
