"""The other side: start a daemon, find it, end it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

import attrs

from infermux.errors import InfermuxError

from .lock import Facts, Home, holder

DRAINS_WITHIN = 2.0  # seconds from SIGTERM to what it says of its drain
ENDS_WITHIN = 25.0  # seconds beside its grace; one that leads workers gives them 20
MOST_SHOWN = 256 * 1024  # bytes of what a daemon wrote before it ended; of more the end


class Runs(InfermuxError):
    """There is one already."""


class NotStarted(InfermuxError):
    """It ended before it was ready. `wrote`: all that it wrote; `exit_code`: its own."""

    def __init__(self, message: str, *, wrote: str, exit_code: int) -> None:
        super().__init__(message)
        self.wrote = wrote
        self.exit_code = exit_code


def start(home: Home, arguments: Sequence[str], *, cwd: str | None = None) -> Facts:
    """Start `infermux serve` with `arguments` in the background and wait until it listens.

    Raises Runs, or NotStarted. Cancelled by KeyboardInterrupt it ends what it started.
    """
    there = holder(home)
    if there is not None:
        raise _runs(there.pid)
    reading, writing = os.pipe()
    with open(reading, "rb") as told, tempfile.TemporaryFile() as early:
        try:
            child = _spawn(arguments, writing, early, cwd)
        finally:
            os.close(writing)
        try:
            said = _until_ready(told)
            if said.get("ready"):
                facts = holder(home)
                if facts is not None:
                    child.returncode = 0  # it outlives us, and nobody here waits for it
                    return facts
        except BaseException:
            child.terminate()
            raise
        code = child.wait()
        if "taken" in said:
            raise _runs(said["taken"])
        raise NotStarted(
            f"it {_ended(code)} before it was ready; nothing runs in the background",
            wrote=_wrote(early, home, said.get("log_from")),
            exit_code=code if code > 0 else 1,
        )


def _spawn(arguments: Sequence[str], starter: int, output: IO[bytes], cwd: str | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "infermux", "serve", *arguments, "--background", str(starter)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[starter],
        start_new_session=True,  # it has no terminal, and its end, or a Ctrl+C there, is nothing to it
        cwd=cwd,
    )


def _until_ready(told: IO[bytes]) -> dict[str, Any]:
    """What it tells of itself, until it is ready or has ended."""
    said: dict[str, Any] = {}
    for line in told:
        said |= json.loads(line)
        if said.get("ready"):
            break
    return said


def _ended(code: int) -> str:
    """How a process ended, by the code of subprocess.Popen: a signal's is negative."""
    return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code} ({signal.strsignal(-code)})"


def _wrote(early: IO[bytes], home: Home, log_from: int | None) -> str:
    early.seek(0)
    data = early.read()
    if log_from is not None:
        try:
            with open(home.log, "rb") as log:
                log.seek(log_from)
                data += log.read()
        except OSError as error:
            data += f"its log cannot be read: {error.strerror}\n".encode()
    return data[-MOST_SHOWN:].decode("utf-8", "replace")


def _runs(pid: int | None) -> Runs:
    which = "" if pid is None else f", as process {pid}"
    return Runs(f"a router runs in the background already{which}; `infermux status` says more")


@attrs.define(eq=False)
class Ending:
    """One daemon, to be ended. Its number is held on to, so that no other process can be meant by it."""

    facts: Facts
    home: Home
    _pidfd: int | None

    @classmethod
    def of(cls, home: Home) -> Ending | None:
        """The daemon of `home`; None where none runs."""
        facts = holder(home)
        if facts is None:
            return None
        try:
            pidfd = os.pidfd_open(facts.pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            return None
        again = holder(home)  # only now its number cannot have become another's
        if again is None or again.pid != facts.pid:
            if pidfd is not None:
                os.close(pidfd)
            return cls.of(home)
        return cls(again, home, pidfd)

    def close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.facts.pid, number)
        except ProcessLookupError:
            pass

    def ended(self, within: float) -> bool:
        """Whether it ends within so many seconds."""
        if self._pidfd is not None:
            return bool(select.select([self._pidfd], [], [], within)[0])
        deadline = time.monotonic() + within
        while self._is_there():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def drained(self, say: Callable[[Facts], None], *, told: bool = False) -> bool:
        """Have it finish its requests, unless it was `told` before, and wait for that. `say` is told how it goes.

        False: it did not end.
        """
        if not told:
            self.send(signal.SIGTERM)
        limit = time.time() + DRAINS_WITHIN + ENDS_WITHIN
        while not self.ended(0.2):
            facts = self._latest()
            if facts is not None and facts.until is not None:
                limit = facts.until + ENDS_WITHIN
                say(facts)
            if time.time() > limit:
                return False
        return True

    def stop_now(self) -> None:
        """End it without waiting for anything."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + DRAINS_WITHIN
        # One that has not begun to drain would take the second signal for the first.
        while time.monotonic() < deadline and (latest := self._latest()) is not None and latest.until is None:
            if self.ended(0.05):
                return
        self.send(signal.SIGTERM)
        if not self.ended(DRAINS_WITHIN):
            self.send(signal.SIGKILL)
            self.ended(ENDS_WITHIN)

    def _latest(self) -> Facts | None:
        facts = holder(self.home)
        return facts if facts is not None and facts.pid == self.facts.pid else None

    def _is_there(self) -> bool:
        try:
            os.kill(self.facts.pid, 0)
        except ProcessLookupError:
            return False
        return True
