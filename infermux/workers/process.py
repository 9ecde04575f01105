"""A worker's process, as the one that leads has it: started, written down what it says, ended."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import attrs
import trio

from .link import Link
from .messages import Begin, Ready

END_POLL = 0.1
LONGEST_LINE = 1 << 20  # bytes; a line is cut there


@attrs.define(eq=False)
class Child:
    """One running process at `place`. `ready` is what it said when it listened; `late`, `share`: see `Crew`.

    `config` and `words` are what it was told before it listened; `telling` is held while it is told its share.
    `is_over`: more may run there at once than its share allows, as far as it has said. `has_told`: what it has taken of
    budgets since it heard of its share. `growing`, `looked_at`: it is asked, before it gets more or another one comes.
    """

    place: int
    process: subprocess.Popen[bytes]
    link: Link
    started_at: float
    writer: threading.Thread
    listens: trio.Event = attrs.field(factory=trio.Event)
    ready: Ready | None = None
    ready_at: float | None = None
    share: Any = None
    late: bool = False
    config: Any = None
    words: dict[str, str] = attrs.field(factory=dict[str, str])
    telling: trio.Lock = attrs.field(factory=trio.Lock)
    is_over: bool = False
    has_told: bool = True
    growing: bool = False
    looked_at: trio.Event | None = None

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, negative for a signal, once it has ended and all that it wrote is written."""
        while (code := self.process.poll()) is None:
            try:
                pidfd = os.pidfd_open(self.process.pid)
            except OSError:  # no descriptor is left: that is to end nobody
                await trio.sleep(END_POLL)
                continue
            try:
                await trio.lowlevel.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        await trio.to_thread.run_sync(partial(self.writer.join, 1.0), abandon_on_cancel=True)
        return code


def start(place: int, leader: int, write: Callable[[bytes], None]) -> Child:
    """Start a worker. `leader` is the pipe's end that it watches; `write` gets its whole lines, from a thread.

    It has a session of its own: what is typed at our terminal is for us alone. Raises OSError: the system has no room
    for it; then nothing is left of it.
    """
    ours, theirs = socket.socketpair()
    with ExitStack() as undo, theirs:
        undo.callback(ours.close)
        descriptors = (theirs.fileno(), leader)
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "infermux", "serve", "--worker", *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
        )
        undo.callback(_undo, process)
        assert process.stdout is not None, "a pipe"
        writer = threading.Thread(
            target=_copy, args=(process.stdout.fileno(), write), name=f"infermux worker {place}", daemon=True
        )
        try:
            writer.start()
        except RuntimeError as error:  # what Python makes of EAGAIN, and says no number of
            raise OSError(errno.EAGAIN, str(error)) from error
        undo.pop_all()
    return Child(place, process, Link(ours), trio.current_time(), writer)


def _undo(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


async def begin(child: Child, message: Begin) -> None:
    """Tell it what to serve. Raises LinkLost."""
    child.share, child.late = message.share, message.share.late
    child.config, child.words = message.config, message.words
    await child.link.ask(message)


def _copy(source: int, write: Callable[[bytes], None]) -> None:
    """Whole lines, so that those of several workers do not run into each other."""
    kept = b""
    while data := os.read(source, 1 << 16):
        lines, newline, kept = (kept + data).rpartition(b"\n")
        if newline:
            write(lines + newline)
        elif len(kept) > LONGEST_LINE:
            write(kept + b"\n")
            kept = b""
    if kept:
        write(kept + b"\n")


def to_stderr(lock: threading.Lock, data: bytes) -> None:
    """Write to where our own lines go. Whoever reads it slowly holds this thread, and the worker's that logs."""
    with lock, suppress(OSError):
        left = memoryview(data)
        while left:
            left = left[os.write(2, left) :]


def said(code: int) -> str:
    """How a process ended, by the code of subprocess.Popen."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by signal {-code} ({signal.strsignal(-code)})"
