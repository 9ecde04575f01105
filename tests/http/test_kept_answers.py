"""What of an answer is recorded, and what of its head holds for everybody."""

from __future__ import annotations

import attrs
import pytest

from infermux.actors.cache import Cache
from infermux.actors.draft import Draft
from infermux.actors.flight import Flight
from infermux.actors.journal import Journal
from infermux.actors.record import MISS
from infermux.http.exchange import HeaderLines
from infermux.http.kept_answers import Kept, Recording
from tests.http._memory import MemoryExchange

LINES = (
    b"content-type: application/json\r\nx-infermux-provider: a\r\nx-infermux-cost: 0.5\r\nrequest-id: first\r\n"
    b"x-request-id: first\r\nx-infermux-latency-ms: 9\r\nx-infermux-attempts: 2\r\ntrailer: x-infermux-rescued\r\n"
    b"x-infermux-budget: caller:a exceeded\r\n"
)


@attrs.define(eq=False)
class Taken:
    """A recording of one exchange."""

    exchange: MemoryExchange = attrs.field(factory=lambda: MemoryExchange({}))
    cache: Cache[Kept] = attrs.field(factory=lambda: Cache[Kept](60.0, 1 << 20))
    flight: Flight[Kept] = attrs.field(factory=Flight[Kept])

    def recording(self) -> Recording:
        draft = Draft(journal=Journal(), id=b"first")
        return Recording(self.exchange, MISS, draft=draft, cache=self.cache, key=b"k", flight=self.flight)


async def test_the_first_caller_gets_all_of_its_head_and_others_what_holds_for_them() -> None:
    taken = Taken()
    await taken.recording().respond(200, HeaderLines(LINES), b"{}")
    assert taken.exchange.headers["x-infermux-attempts"] == "2"
    assert taken.exchange.headers["x-infermux-cache"] == "miss"
    kept = taken.cache.find(b"k", 0.0)
    assert kept is taken.flight.answer
    assert kept is not None
    assert kept.lines == b"content-type: application/json\r\nx-infermux-provider: a\r\n"
    assert kept.pieces == (b"{}",)
    assert "{}" not in repr((kept, taken.cache, taken.flight))
    again = MemoryExchange({})
    await kept.give(again, Draft(journal=Journal(), id=b"second"))
    assert again.headers["request-id"] == again.headers["x-request-id"] == "second"
    assert (again.headers["x-infermux-attempts"], again.headers["x-infermux-cost"]) == ("0", "0.00000000")
    assert "x-infermux-budget" not in again.headers


async def test_a_header_with_a_line_break_is_refused_before_anything_is_kept() -> None:
    taken = Taken()
    with pytest.raises(ValueError, match="line break"):
        await taken.recording().respond(200, [(b"x-infermux-model", b"a\r\nset-cookie: b")], b"{}")
    assert (taken.cache.find(b"k", 0.0), taken.flight.answer, taken.exchange.status) == (None, None, 0)


@pytest.mark.parametrize("status", [201, 202, 206])
async def test_only_a_200_is_kept(status: int) -> None:
    taken = Taken()
    recording = taken.recording()
    await recording.respond(status, [(b"content-type", b"text/plain")], b"later")
    recording.close()
    assert (len(taken.cache), taken.flight.answer, taken.flight.is_over) == (0, None, True)
    assert (taken.exchange.status, taken.exchange.data) == (status, b"later")


async def test_a_stream_that_is_left_alone_gives_back_what_was_promised() -> None:
    taken = Taken()
    recording = taken.recording()
    recording.start(200, HeaderLines(LINES))
    recording.send_now(b"data: 1\n\n")
    assert taken.cache.making == 9
    recording.close()
    recording.close()
    assert (taken.cache.making, len(taken.cache)) == (0, 0)
