"""One connection to a provider process: lines out, lines in."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import trio

from infermux.errors import FailureKind, UpstreamFailure

from ..wire import SocketWire, Wire, WireBroken
from .lines import LineBuffer, LineTooLong

_BUSY_PAUSE: Final = 0.005  # seconds; a Unix socket whose backlog is full cannot be waited for


class Gone(Exception):
    """The connection ended before the process has said anything on it. `args[0]` says how."""


async def dial(path: Path) -> SocketWire:
    """Connect to the socket at `path`. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(str(path))
            except BlockingIOError:
                await trio.sleep(_BUSY_PAUSE)
            else:
                return SocketWire(sock)
    except BaseException:
        sock.close()
        raise


class Link:
    """A wire and what has come of a line on it. Failures name `who`, the provider."""

    __slots__ = ("_lines", "_who", "heard", "idle_since", "reusable", "wire")

    def __init__(self, wire: Wire, who: str) -> None:
        self.wire = wire
        self.idle_since = 0.0
        self.reusable = False
        self.heard = False
        self._who = who
        self._lines = LineBuffer()

    def __repr__(self) -> str:
        return f"Link({self._who!r}, {self.wire!r}, reusable={self.reusable})"

    @property
    def pending(self) -> int:
        """Bytes that came and are no whole line."""
        return self._lines.pending

    async def send(self, line: bytes) -> None:
        """Raises Gone."""
        self.heard = self.reusable = False
        wire = self.wire
        try:
            sent = wire.send_now(line)
            if sent < len(line):
                await wire.send(line[sent:])
        except WireBroken as error:
            raise Gone(str(error)) from error

    async def receive(self) -> list[bytes]:
        """The lines that came, at least one. Raises Gone, or UpstreamFailure when it breaks after the first line."""
        while True:
            try:
                data = await self.wire.receive()
            except WireBroken as error:
                raise self._ended(str(error)) from error
            if not data:
                raise self._ended("it closed the connection")
            self.heard = True
            try:
                lines = self._lines.feed(data)
            except LineTooLong as error:
                raise self.malformed(f"sent {error}") from None
            if lines:
                return lines

    def _ended(self, how: str) -> Exception:
        if not self.heard:
            return Gone(how)
        if self.pending:
            how += " in the middle of a line"
        return UpstreamFailure(FailureKind.BROKEN, f"the process of provider {self._who} broke off: {how}")

    def malformed(self, what: str) -> UpstreamFailure:
        """The failure of a process that does not keep to the protocol."""
        return UpstreamFailure(FailureKind.MALFORMED, f"the process of provider {self._who} {what}")

    def close(self) -> None:
        """At once; the process sees it, and ends what it was doing here."""
        self.wire.close()
