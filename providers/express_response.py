"""The answer that is being read from a connection of the express transport."""

from __future__ import annotations

from collections.abc import Callable

from .arrivals import Polled
from .express_connection import Connection, broken, taken
from .transport import BODY_LIMIT, Headers, too_large


class ExpressResponse(Polled):
    """The answer on a `Connection`, which goes to `give_back` as soon as the last byte has arrived."""

    __slots__ = ("_connection", "_ended", "_first", "_give_back", "_headers", "_pieces", "framed", "status")

    def __init__(self, connection: Connection, give_back: Callable[[Connection], None]) -> None:
        self.status = connection.status
        self.framed = connection.framed
        self._headers = connection.headers
        self._pieces = connection.pieces
        self._give_back = give_back
        self._ended = False
        self._connection: Connection | None = connection
        self._first = connection.first
        if connection.complete:
            self._connection = None
            self._ended = True
            give_back(connection)

    def __repr__(self) -> str:
        return f"ExpressResponse(status={self.status}, ended={self._ended})"

    @property
    def headers(self) -> Headers:
        return self._headers

    def get(self, name: bytes) -> bytes | None:
        found = self._first
        if found is None:
            found = self._first = dict(reversed(self._headers))
        return found.get(name)

    @property
    def content_type(self) -> bytes:
        return self.get(b"content-type") or b""

    def _release(self, connection: Connection) -> None:
        self._connection = None
        self._ended = True
        self._give_back(connection)

    async def receive(self) -> bytes | None:
        while True:
            if self._pieces:
                return taken(self._pieces)
            connection = self._connection
            if connection is None:
                if self._ended:
                    return None
                raise broken("the connection was closed")
            try:
                await connection.advance()
            except BaseException:  # cancellation too: what was received is lost, so is the connection
                self.close()
                raise
            if connection.complete:
                self._release(connection)

    def descriptor(self) -> int | None:
        return None if self._connection is None else self._connection.wire.descriptor()

    @property
    def over(self) -> bool:
        return self._connection is None

    def receive_now(self) -> bytes:
        """What has come of the body. Raises as `receive`. The headers are let go of: who polls has looked at them."""
        connection = self._connection
        if connection is None:
            return b""
        if self._headers:
            self._headers.clear()
            self._first = connection.first = None
        try:
            data = connection.body_now()
        except BaseException:
            self.close()
            raise
        if connection.complete:
            self._release(connection)
        return data

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        if self._ended:
            pieces = self._pieces
            if len(pieces) == 1 and len(pieces[0]) <= limit:
                return pieces.pop()
        else:
            declared = self.get(b"content-length")
            if declared is not None and int(declared) > limit:
                self.close()
                raise too_large(limit)
        body = await self.receive() or b""
        if self._ended and len(body) <= limit:
            return body
        buffer = bytearray(body)
        while len(buffer) <= limit:
            data = await self.receive()
            if data is None:
                return bytes(buffer)
            buffer += data
        self.close()
        raise too_large(limit)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
