"""An exchange whose answer is kept while it goes out, and the same answer given again to others."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from infermux.actors.cache import Cache
from infermux.actors.draft import Draft
from infermux.actors.flight import Flight
from infermux.actors.record import HIT

from .answers import render_headers
from .exchange import Exchange, HeaderLines, Headers
from .passed_on import PassedOn

PIECE: Final = 16 * 1024  # bytes: events of a stream are kept together up to about so much
BREATHE_EVERY: Final = 16  # pieces given again before others get their turn
_OWN: Final = frozenset(
    {
        b"x-request-id",
        b"request-id",
        b"x-infermux-attempts",
        b"x-infermux-budget",
        b"x-infermux-cost",
        b"x-infermux-latency-ms",
    }
)
"""What an answer's head says of the one request, not of the answer."""


@attrs.frozen(kw_only=True)
class Kept:
    """An answer with a genuine end, given for the first time `at` (trio's clock).

    `lines` are those of its head that hold for everybody, `pieces` its body: of a stream whole events each.
    `names_request`: its dialect has a header of its own for the request's id.
    """

    lines: HeaderLines = attrs.field(repr=False)
    pieces: tuple[bytes, ...] = attrs.field(repr=False)
    stream: bool
    names_request: bool
    at: float

    @property
    def size(self) -> int:
        return len(self.lines) + sum([len(piece) for piece in self.pieces])

    async def give(self, exchange: Exchange, draft: Draft) -> None:
        """Answer with it. Raises CallerLeft."""
        draft.cache, draft.status = HIT, 200
        now = trio.current_time()
        own = b"x-infermux-cache: hit\r\nage: %d\r\nx-request-id: %b\r\nx-infermux-latency-ms: %d\r\n" % (
            now - self.at,
            draft.id,
            (now - draft.began) * 1000,
        )
        own += b"x-infermux-attempts: 0\r\n"
        if self.names_request:
            own += b"request-id: %b\r\n" % draft.id
        if not self.stream:
            lines = b"%b%bx-infermux-cost: 0.00000000\r\n" % (self.lines, own)
            await exchange.respond(200, HeaderLines(lines), b"".join(self.pieces))
            return
        exchange.start(200, HeaderLines(self.lines + own))
        try:
            await self._stream(exchange)
        finally:
            draft.given = trio.current_time() - now

    async def _stream(self, exchange: Exchange) -> None:
        for count, piece in enumerate(self.pieces, 1):
            if not exchange.send_now(piece):
                await exchange.flush()
            if count % BREATHE_EVERY == 0:
                await trio.lowlevel.checkpoint()
        await exchange.finish()


class Marked(PassedOn):
    """`exchange`, with what the cache did in the head of its answer."""

    def __init__(self, exchange: Exchange, word: str) -> None:
        super().__init__(exchange)
        self._line = b"x-infermux-cache: %b\r\n" % word.encode()

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        await super().respond(status, self._marked(headers), body)

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        super().start(status, self._marked(headers))

    def _marked(self, headers: Headers | HeaderLines) -> HeaderLines:
        return HeaderLines(_rendered(headers) + self._line)


class Recording(Marked):
    """A marked exchange that puts its answer on `cache` under `key`, and lands `flight` with it.

    Only what has a genuine end, status 200 and one author is kept. `close` in a `finally`.
    """

    def __init__(
        self, exchange: Exchange, word: str, *, draft: Draft, cache: Cache[Kept], key: bytes, flight: Flight[Kept]
    ) -> None:
        super().__init__(exchange, word)
        self._draft = draft
        self._cache = cache
        self._key = key
        self._flight = flight
        self._lines = HeaderLines(b"")
        self._pieces: list[bytes] | None = None  # None: nothing is recorded, or not any more
        self._last = bytearray()
        self._promised = 0

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        if status == 200:
            self._land(_rendered(headers), (body,), stream=False)
        await super().respond(status, headers, body)

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        super().start(status, headers)
        if status == 200:
            self._lines, self._pieces = _rendered(headers), []

    def send_now(self, data: bytes) -> bool:
        if self._pieces is not None:
            self._note(data, self._pieces)
        return self._exchange.send_now(data)

    async def flush(self) -> None:
        self._flight.held_since = trio.current_time()
        await self._exchange.flush()
        self._flight.held_since = float("inf")

    async def finish(self, trailers: Headers = ()) -> None:
        run, pieces = self._draft.run, self._pieces
        genuine = self._draft.ending is None and run is not None and not run.rescues
        if pieces is not None and genuine:
            self._land(self._lines, (*pieces, bytes(self._last)), stream=True)
        await self._exchange.finish(trailers)

    def close(self) -> None:
        """It is over, well or not. Idempotent, never blocks."""
        self._forget()
        self._flight.close()

    def _note(self, data: bytes, pieces: list[bytes]) -> None:
        cache, size = self._cache, len(data)
        if self._promised + size > cache.largest or not cache.promise(size, trio.current_time()):
            cache.tally.too_large += 1
            self._forget()
            self._flight.close(too_large=True)
            return
        self._promised += size
        last = self._last
        last += data
        if len(last) >= PIECE:
            pieces.append(bytes(last))
            last.clear()

    def _forget(self) -> None:
        self._cache.give_back(self._promised)
        self._promised = 0
        self._pieces = None
        self._last.clear()

    def _land(self, lines: HeaderLines, pieces: tuple[bytes, ...], *, stream: bool) -> None:
        shared, names_request = _shared(lines)
        now = trio.current_time()
        kept = Kept(lines=shared, pieces=pieces, stream=stream, names_request=names_request, at=now)
        self._forget()
        self._cache.put(self._key, kept, kept.size, now)
        self._flight.land(kept)


def _rendered(headers: Headers | HeaderLines) -> HeaderLines:
    return headers if isinstance(headers, bytes) else render_headers(headers)


def _shared(lines: HeaderLines) -> tuple[HeaderLines, bool]:
    """The header lines without those of one request, and whether the dialect's own name of its id was among them."""
    kept: list[bytes] = []
    names_request = False
    for line in lines.splitlines(keepends=True):
        name = line.partition(b":")[0]
        names_request |= name == b"request-id"
        if name not in _OWN and name != b"trailer":
            kept.append(line)
    return HeaderLines(b"".join(kept)), names_request
