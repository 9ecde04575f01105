"""A program in a terminal of its own, and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from tests.chat._screen import Screen
from tests.e2e._forks import Forked, the_forge
from tests.e2e._process import minimal_environ

SEEN_WITHIN = 10.0
ENDS_WITHIN = 10.0
ROWS, COLUMNS = 40, 120


@attrs.define(eq=False)
class Terminal:
    """`seen` is what is on the screen. `sent`: all that the program wrote, control sequences included."""

    _process: Forked
    _fd: int
    _screen: Screen
    sent: bytes = b""
    ended: bool = False

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    @property
    def seen(self) -> str:
        return self._screen.text

    async def shows(self, *what: str, gone: str | None = None) -> str:
        """Wait until all of `what` is on the screen, and `gone` is not; returns the screen."""
        with trio.move_on_after(SEEN_WITHIN):
            while not self._has(what, gone):
                if self.ended:
                    break
                await self._read()
        assert self._has(what, gone), f"not seen: {what}, gone: {gone}\n{self.seen}"
        return self.seen

    async def leaves(self) -> int:
        """Wait until the program ends; returns its exit code, or the number of its signal, negative."""
        with trio.move_on_after(ENDS_WITHIN):
            while not self.ended:
                await self._read()
        assert self.ended, self.seen
        return self.reaped()

    def kill(self) -> None:
        self._process.kill()

    def reaped(self) -> int:
        """Its exit code. It has ended, or is about to."""
        return self._process.reaped(ENDS_WITHIN)

    def _has(self, what: tuple[str, ...], gone: str | None) -> bool:
        seen = self.seen
        return all(each in seen for each in what) and (gone is None or gone not in seen)

    async def _read(self) -> None:
        await trio.lowlevel.wait_readable(self._fd)
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux: EIO, when the last process has closed the other side
            data = b""
        self.ended = not data
        self.sent += data
        self._screen.feed(data)


@asynccontextmanager
async def terminal(*arguments: str, home: Path, environ: Mapping[str, str] | None = None) -> AsyncGenerator[Terminal]:
    """`infermux ARGUMENTS` in a terminal, forked. What is left of it at the end is killed."""
    env = minimal_environ(str(home), {"TERM": "xterm-256color", **(environ or {})})
    fd, other = os.openpty()
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.set_blocking(fd, False)
    command = [sys.executable, "-m", "infermux", *arguments]
    try:
        process = the_forge().fork(command, environ=env, cwd=str(home), out=other, err=other, tty=True)
    finally:
        os.close(other)

    def answer(data: str) -> None:
        os.write(fd, data.encode())

    there = Terminal(process, fd, Screen(ROWS, COLUMNS, answer))
    try:
        yield there
    finally:
        there.kill()
        os.close(fd)
        there.reaped()
