"""Start a process in a session of its own, so that nothing of it can be left: not when it ignores SIGTERM, not when it
has children of its own, not even when the router is killed.

For the last there are two pipes that only the router holds open. One is the process's stdin, which a well-behaved
process takes for the sign to end. The other is read by a guard, a small shell in another session, which then ends the
whole process group and removes the socket.

The guard must be there before the process is, or a router killed in between would leave it behind. So what is started
first is a gate, a shell that waits for a line on stdin and only then becomes the program (`exec`, the same pid), with
the same pipe as its stdin; it ends when the pipe does. There is no code between fork and exec (`preexec_fn`), which is
not safe in a program with threads, and no PR_SET_PDEATHSIG, which is sent when the thread that forked ends, not the
router, and which children of the process do not inherit.

What a process does in order to leave its group (setsid, a service manager) is beyond this.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, cast

import attrs
import trio

from .spec import NotLaunched, Spec, environment, folder, program

SHELL = "/bin/sh"
# What the shells add to the environment is taken out again.
GATE = 'IFS= read -r go || exit 125; unset go PWD OLDPWD SHLVL; exec "$@"'
# $1: the group. Its input is the path of the socket once that is known; it ends when the router does.
GUARD = """
while IFS= read -r line; do socket=$line; done
kill -s TERM -- "-$1"
tries=20
while [ $tries -gt 0 ] && kill -s 0 -- "-$1"; do sleep 0.1; tries=$((tries - 1)); done
kill -s KILL -- "-$1"
[ -S "$socket" ] && rm -f -- "$socket"
"""
GUARD_PAUSE = 1.0  # seconds between two starts of a guard that somebody kills
REAPED_WITHIN = 5.0  # seconds: a process in the midst of a system call that cannot be interrupted outlives SIGKILL


class Life(Protocol):
    """A process that was started, as its supervisor sees it."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> trio.abc.ReceiveStream: ...
    @property
    def stderr(self) -> trio.abc.ReceiveStream: ...

    async def exited(self) -> int:
        """Wait for its end: the exit code, or the negated signal. It can be cancelled and asked again."""
        ...

    async def protect(self, socket: Path) -> None:
        """Have its socket removed if the router is killed."""
        ...

    async def end(self, grace: float) -> bool:
        """End it and its whole group: SIGTERM, `grace` seconds, SIGKILL; with 0 at once. To be called in a shield.

        Whether it ended within its grace.
        """
        ...


Launch = Callable[[Spec], Awaitable[Life]]


@attrs.define(eq=False)
class Launched:
    """A `Life` of the operating system."""

    process: trio.Process
    guard: trio.Process | None = None
    _socket: Path | None = None  # what the guard is to remove
    _pidfd: int | None = None
    _gone: bool = False  # its group was killed and it was reaped

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> trio.abc.ReceiveStream:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def stderr(self) -> trio.abc.ReceiveStream:
        assert self.process.stderr is not None
        return self.process.stderr

    async def begin(self) -> None:
        """Start the guard, then let the process begin. OSError or trio's broken stream when it has ended already."""
        self._pidfd = pidfd_of(self.pid)
        await self._start_guard()
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"\n")

    async def _start_guard(self) -> None:
        """Raises OSError."""
        self.guard = await trio.lowlevel.open_process(
            [SHELL, "-c", GUARD, "infermux-guard", str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": os.defpath},
        )
        self._tell_guard()

    async def _stay_guarded(self) -> None:
        """Start the guard again when somebody has killed it; until cancelled."""
        while self.guard is not None:
            await self.guard.wait()
            assert self.guard.stdin is not None
            await self.guard.stdin.aclose()
            with suppress(OSError):  # no processes or descriptors left: tried again
                await self._start_guard()
            await trio.sleep(GUARD_PAUSE)

    async def exited(self) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stay_guarded)
            code = await self._exited()
            nursery.cancel_scope.cancel()
        return code

    async def _exited(self) -> int:
        # The group is killed before its leader is reaped: until then nobody else can have got its number.
        if self._pidfd is not None:
            await trio.lowlevel.wait_readable(self._pidfd)
            self._kill(signal.SIGKILL)
        code = await self.process.wait()
        if self._pidfd is None:
            self._kill(signal.SIGKILL)
        self._gone = True
        return code

    async def protect(self, socket: Path) -> None:
        self._socket = socket
        self._tell_guard()
        await trio.lowlevel.checkpoint()

    def _tell_guard(self) -> None:
        """Which socket to remove. A path is short, and its pipe empty: writing does not wait."""
        if self.guard is None or self.guard.stdin is None or self._socket is None:
            return
        with suppress(OSError, trio.ClosedResourceError):  # somebody killed the guard; the next one is told
            os.write(cast("trio.lowlevel.FdStream", self.guard.stdin).fileno(), os.fsencode(self._socket) + b"\n")

    async def end(self, grace: float) -> bool:
        if self.process.stdin is not None:
            await self.process.stdin.aclose()
        in_time = False
        if grace > 0:
            self._kill(signal.SIGTERM)
            with trio.move_on_after(grace):
                await self.exited()
                in_time = True
        self._kill(signal.SIGKILL)
        with trio.move_on_after(REAPED_WITHIN):
            await self.process.wait()
        await self._end_guard()
        await self.stdout.aclose()
        await self.stderr.aclose()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        return in_time

    async def _end_guard(self) -> None:
        if self.guard is None:
            return
        self.guard.kill()  # before its pipe is closed, at which it would act
        await self.guard.wait()
        assert self.guard.stdin is not None
        await self.guard.stdin.aclose()

    def _kill(self, number: signal.Signals) -> None:
        """Send `number` to the whole group. Not once the group is gone: another may have its number."""
        if self._gone:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left; macOS refuses where only a zombie is


def pidfd_of(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, without reaping it. None where there are none."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None


async def launch(spec: Spec) -> Life:
    """Start the process of `spec`. Raises NotLaunched with the reason where it cannot be started."""
    environ = environment(spec)
    path = program(spec, environ)
    try:
        process = await trio.lowlevel.open_process(
            [SHELL, "-c", GATE, spec.name, path, *spec.command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder(spec),
            env=environ,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # no processes or descriptors left; a NUL in an argument
        raise NotLaunched(f"it could not be started: {getattr(error, 'strerror', None) or error}") from None
    launched = Launched(process)
    try:
        await launched.begin()
    except BaseException as error:
        with trio.CancelScope(shield=True):
            await launched.end(0)
        if isinstance(error, (OSError, trio.BrokenResourceError)):
            raise NotLaunched(f"it could not be started: {error}") from None
        raise
    return launched
