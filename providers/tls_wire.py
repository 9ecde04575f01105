"""TLS over any wire, by `ssl.MemoryBIO`: no task, no lock, and a session ticket on an idle connection is not data.

Sending encrypts at once and hands over what the inner wire takes; the rest is `unsent` ciphertext that goes first the
next time anything is sent. Receiving never waits for sending, so one task may do each.
"""

from __future__ import annotations

import ssl
from typing import Final

from .wire import RECEIVE_SIZE, Wire, WireBroken

_ALL: Final = 2 * RECEIVE_SIZE  # of what one look at the inner wire brings, with a record that was incomplete before
_TAKE: Final = 65536
"""Plain bytes encrypted per `send_now`, so that a blocked connection holds a bounded amount of ciphertext."""


class TlsWire:
    """One end of a TLS connection. Made by `TlsWire.handshake`. Owns the inner wire."""

    __slots__ = ("_incoming", "_outgoing", "_stash", "_tls", "_unsent", "_wire")

    def __init__(self, wire: Wire, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None) -> None:
        self._wire = wire
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._unsent = b""
        self._stash: bytes | None = None

    @classmethod
    async def handshake(
        cls, wire: Wire, context: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None
    ) -> TlsWire:
        """TLS over `wire`. Raises `ssl.SSLError` or `WireBroken`; then, and when cancelled, `wire` is closed."""
        try:
            self = cls(wire, context, server_side=server_side, server_hostname=server_hostname)
            await self._shake_hands()
        except BaseException:
            wire.close()
            raise
        return self

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._feed(await self._wire.receive())
            except ssl.SSLError:
                self._flush_now()  # the alert, so that the other side knows why
                raise
            else:
                return await self._flush()

    def __repr__(self) -> str:
        return f"TlsWire({self._wire!r}, version={self._tls.version()}, unsent={self.unsent})"

    @property
    def alpn(self) -> str | None:
        """The protocol both sides agreed on, None without one."""
        return self._tls.selected_alpn_protocol()

    @property
    def unsent(self) -> int:
        return len(self._unsent) + self._outgoing.pending

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush_now(self) -> bool:
        """Hand ciphertext to the inner wire; True when none is left."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._unsent:
            self._unsent = self._unsent[self._wire.send_now(self._unsent) :]
        return not self._unsent

    async def _flush(self) -> None:
        while not self._flush_now():
            await self._wire.wait_writable()

    def send_now(self, data: bytes | memoryview) -> int:
        if not self._flush_now():
            return 0
        taken = data[:_TAKE]
        if taken:
            try:
                self._tls.write(taken)
            except ssl.SSLError as error:
                raise _broken(error) from error
            self._flush_now()
        return len(taken)

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            await self._flush()
            rest = rest[self.send_now(rest) :]
        await self._flush()

    def receive_now(self, max_bytes: int = _ALL) -> bytes | None:
        if self._stash is not None:
            return self._take_stash(max_bytes)
        while True:
            data = self._decrypt(max_bytes)
            if data is not None:
                return data
            arrived = self._wire.receive_now()
            if arrived is None:
                return None
            self._feed(arrived)

    def descriptor(self) -> int | None:
        return self._wire.descriptor()

    def take_now(self) -> bytes | None:
        return self.receive_now(_ALL)

    def _take_stash(self, max_bytes: int) -> bytes:
        """What `readable` had to decrypt to know. The end stays the end."""
        stash = self._stash or b""
        self._stash = stash[max_bytes:] or None if stash else b""
        return stash[:max_bytes]

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """All complete records at hand, joined; None when more ciphertext is needed, b"" at the end."""
        pieces: list[bytes] = []
        try:
            while max_bytes > 0:
                data = self._tls.read(max_bytes)
                if not data:
                    break
                pieces.append(data)
                max_bytes -= len(data)
        except ssl.SSLWantReadError:
            try:
                self._flush_now()  # TLS itself may have had something to answer
            except WireBroken:
                pass  # who sends is told; what has come, or is still to be read, may be an answer
            if not pieces:
                return None
        except ssl.SSLError as error:
            if not pieces:
                raise _broken(error) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def receive(self, max_bytes: int = _ALL) -> bytes:
        """All that is decrypted by default, some 80 KB at most: of what stays here no descriptor tells."""
        while (data := self.receive_now(max_bytes)) is None:
            self._feed(await self._wire.receive())
        return data

    def readable(self) -> bool:
        if self._stash is None:
            try:
                self._stash = self.receive_now()
            except WireBroken:
                return True
        return self._stash is not None

    async def wait_readable(self) -> None:
        while not self.readable():
            await self._wire.wait_readable()

    async def wait_writable(self) -> None:
        await self._flush()

    def send_eof(self) -> None:
        self._goodbye()
        self._wire.send_eof()

    def close(self) -> None:
        self._goodbye()
        self._wire.close()

    def _goodbye(self) -> None:
        """Send close_notify if it can be sent without waiting."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # wants the other side's, which nobody waits for; or the connection is broken already
        try:
            self._flush_now()
        except WireBroken:
            pass


def _broken(error: ssl.SSLError) -> WireBroken:
    return WireBroken(f"TLS: {getattr(error, 'reason', None) or type(error).__name__}")
