"""Bodies handed on as they come, by both bindings on real sockets."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from infermux.config.settings import LimitSettings
from infermux.errors import InfermuxError
from infermux.http.exchange import CallerLeft, Exchange
from tests.http._caller import calling
from tests.http._serving import BINDINGS, INFERENCE, LIMITS, serving

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("binding", BINDINGS)]

CHUNKED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % INFERENCE


@attrs.define(eq=False)
class Taker:
    """A handler that takes the body piece by piece and answers with its size."""

    pieces: list[bytes] = attrs.field(factory=list[bytes])
    failed: list[str] = attrs.field(factory=list[str])
    came: trio.Event = attrs.field(factory=trio.Event)
    pause: float = 0.0

    async def __call__(self, exchange: Exchange) -> None:
        try:
            while (piece := await exchange.receive_body()) is not None:
                assert piece, "never empty"
                self.pieces.append(piece)
                self.came.set()
                await trio.sleep(self.pause)
            assert await exchange.receive_body() is None, "the end stays the end"
        except CallerLeft:
            self.failed.append("left")
            raise
        except InfermuxError as error:
            self.failed.append(error.code)
            raise
        await exchange.respond(200, [], b"%d" % sum(map(len, self.pieces)))

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def test_pieces_are_there_before_the_body_is_whole(binding: str) -> None:
    taker = Taker()
    async with serving(taker, binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello" % INFERENCE)
        await taker.came.wait()
        assert taker.body == b"hello"
        await caller.say(b"world")
        assert (await caller.reply()).body == b"10"
        await caller.post(b"again")
        assert (await caller.reply()).body == b"15"


async def test_chunks_are_taken_out_of_their_frames(binding: str) -> None:
    taker = Taker()
    async with serving(taker, binding=binding) as served, calling(served.port) as caller:
        await caller.say(CHUNKED + b"5\r\nhe")
        await taker.came.wait()
        await caller.say(b"llo\r\n1\r\n!\r\n0\r\n\r\n")
        assert (await caller.reply()).body == b"6"
        assert taker.body == b"hello!"
        await caller.post(b"next")
        assert (await caller.reply()).body == b"10"


async def test_a_body_of_nothing_ends_at_once(binding: str) -> None:
    taker = Taker()
    async with serving(taker, binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"")
        assert (await caller.reply()).body == b"0"


async def test_a_large_body_arrives_whole_and_waits_for_its_taker(binding: str) -> None:
    taker = Taker(pause=0.001)
    limits = attrs.evolve(LIMITS, max_body_bytes=4_000_000)
    async with serving(taker, binding=binding, limits=limits) as served, calling(served.port) as caller:
        body = bytes(range(256)) * 8000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.post, body)
            assert (await caller.reply()).body == b"%d" % len(body)
        assert taker.body == body
        assert len(taker.pieces) > 4


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(binding: str, chunked: bool) -> None:
    taker = Taker()
    async with serving(taker, binding=binding) as served, calling(served.port) as caller:
        if chunked:
            await caller.say(CHUNKED)
            for _ in range(11):
                await caller.say(b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000))
        else:
            await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n" % INFERENCE)
        assert (await caller.reply()).status == 413
        assert taker.failed == ["payload_too_large"]


async def test_a_body_that_stops_coming_is_a_timeout(binding: str) -> None:
    taker = Taker()
    limits = LimitSettings(header_timeout=0.2)
    async with serving(taker, binding=binding, limits=limits) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello" % INFERENCE)
        assert (await caller.reply()).status == 408
        assert taker.failed == ["request_timeout"]


async def test_the_takers_own_slowness_is_not_the_callers(binding: str) -> None:
    taker = Taker(pause=0.25)
    limits = LimitSettings(header_timeout=0.2)
    async with serving(taker, binding=binding, limits=limits) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello" % INFERENCE)
        await taker.came.wait()
        await caller.say(b"world")
        assert (await caller.reply()).body == b"10"


async def test_who_leaves_in_the_middle_is_noticed(binding: str) -> None:
    taker = Taker()
    async with serving(taker, binding=binding) as served:
        async with calling(served.port) as caller:
            await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello" % INFERENCE)
            await taker.came.wait()
        with trio.fail_after(30):
            while not taker.failed:  # noqa: ASYNC110 - a list of the test's own, looked at for two seconds at most
                await trio.sleep(0.01)
        assert taker.failed == ["left"]


async def test_an_answer_before_the_bodys_end_ends_the_connection(binding: str) -> None:
    async def hasty(exchange: Exchange) -> None:
        assert await exchange.receive_body() == b"hello"
        await exchange.respond(200, [], b"enough")

    handler: Any = hasty
    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello" % INFERENCE)
        assert (await caller.reply()).body == b"enough"
        if binding == "express":
            await caller.say(b"world")
            assert await caller.rest() == b""
