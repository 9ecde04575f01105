"""The express lane in memory, on virtual time: its deadlines, and what it writes to the byte."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from infermux.config.settings import LimitSettings
from infermux.http.connection import IDLE_TIMEOUT, LINGER_TIMEOUT, SWEEP_INTERVAL, Connection, Lane, Phase
from infermux.http.exchange import CallerLeft, Exchange, Handler, Head
from infermux.http.framing import ParsedHead
from infermux.http.watch import PollingWatch
from infermux.providers.wire import MemoryWire, WireBroken, memory_pair
from tests.http._serving import INFERENCE, echo, is_inference

LIMITS = LimitSettings(max_body_bytes=100_000, header_timeout=10.0, write_timeout=60.0)
HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\n" % INFERENCE
POST = HEAD + b"Content-Length: 3\r\n\r\nabc"


@attrs.define(eq=False)
class Nowhere:
    """In place of hypercorn: notes what it was handed."""

    heads: list[ParsedHead] = attrs.field(factory=list[ParsedHead])
    http2: list[bytes] = attrs.field(factory=list[bytes])

    async def answer(self, connection: Connection, head: ParsedHead) -> bool:
        self.heads.append(head)
        await connection.wire.send(b"elsewhere")
        return True

    async def take_http2(self, connection: Connection) -> None:
        self.http2.append(connection.buffer)


class Recorder:
    """A memory wire that notes each write."""

    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire
        self.writes: list[bytes] = []
        self.unsent = 0
        self.receive = wire.receive
        self.send = wire.send
        self.receive_now = wire.receive_now
        self.take_now = wire.take_now
        self.descriptor = wire.descriptor
        self.readable = wire.readable
        self.wait_readable = wire.wait_readable
        self.wait_writable = wire.wait_writable
        self.send_eof = wire.send_eof
        self.close = wire.close

    def send_now(self, data: bytes | memoryview) -> int:
        self.writes.append(bytes(data))
        return self._wire.send_now(data)


@attrs.frozen
class Express:
    caller: MemoryWire
    wire: Recorder
    lane: Lane
    connection: Connection
    elsewhere: Nowhere

    async def ask(self, data: bytes) -> bytes:
        """Say `data`, return what comes at once."""
        await self.caller.send(data)
        return await self.caller.receive()

    async def trickle(self, data: bytes, *, every: float) -> float:
        """Say `data` again and again until the connection breaks; how long that took."""
        started = trio.current_time()
        try:
            while True:
                await self.caller.send(data)
                await trio.sleep(every)
        except WireBroken:
            return trio.current_time() - started

    async def end(self) -> bytes:
        """Everything until the connection ends."""
        data = b""
        try:
            while piece := await self.caller.receive():
                data += piece
        except WireBroken:
            pass
        return data


@asynccontextmanager
async def express(
    handler: Handler = echo, *, limits: LimitSettings = LIMITS, capacity: int = 65536
) -> AsyncGenerator[Express]:
    ours, theirs = memory_pair(capacity)
    elsewhere = Nowhere()
    lane = Lane(
        handler=handler, is_inference=is_inference, elsewhere=elsewhere, limits=limits, watch=PollingWatch(1000)
    )
    wire = Recorder(ours)
    connection = Connection(lane, wire, client=("10.0.0.1", 5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        nursery.start_soon(connection.serve)
        yield Express(theirs, wire, lane, connection, elsewhere)
        nursery.cancel_scope.cancel()
    assert connection.closed
    assert not lane.connections


def about(seconds: float) -> Callable[[float], bool]:
    """Whether a time is `seconds`, as exactly as deadlines are."""
    return lambda taken: seconds <= taken <= seconds + SWEEP_INTERVAL + 0.1


async def timed(what: Callable[[], Awaitable[bytes]]) -> tuple[float, bytes]:
    started = trio.current_time()
    data = await what()
    return trio.current_time() - started, data


async def test_a_whole_answer_is_one_write(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        answer = await lane.ask(POST)
        assert lane.wire.writes == [answer]
        assert answer.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
        assert answer.endswith(b"server: infermux\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n3")


async def test_head_and_first_piece_are_one_write(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        assert exchange.send_now(b"first")
        assert exchange.send_now(b"second")
        assert exchange.send_now(b"")
        await exchange.finish()

    async with express(handler) as lane:
        await lane.ask(HEAD + b"Connection: close\r\n\r\n")
        await lane.end()
        first, *others = lane.wire.writes
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b"connection: close\r\n\r\n5\r\nfirst\r\n")
        assert others == [b"6\r\nsecond\r\n", b"", b"0\r\n\r\n"]


async def test_a_head_can_go_before_the_first_piece(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        await exchange.flush()
        await trio.sleep(1)
        await exchange.finish()

    async with express(handler) as lane:
        answer = await lane.ask(POST)
        assert answer.endswith(b"transfer-encoding: chunked\r\n\r\n")
        assert await lane.caller.receive() == b"0\r\n\r\n"


async def test_an_unknown_status_has_an_empty_reason(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(529, [], b"")

    async with express(handler) as lane:
        assert (await lane.ask(POST)).startswith(b"HTTP/1.1 529 \r\n")


async def test_http_1_0_can_be_kept_alive_for_whole_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        request = b"POST %b HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n" % INFERENCE
        for _ in range(2):
            assert b"connection: keep-alive\r\n" in await lane.ask(request)


async def test_a_request_byte_by_byte_is_one_request(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        for byte in b"\r\n" + POST:
            await lane.caller.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert (await lane.caller.receive()).endswith(b"\r\n\r\n3")


async def test_a_head_that_comes_too_slowly_is_408(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        await trio.sleep(5)
        await lane.caller.send(b"POST /")
        taken, data = await timed(lane.end)
        assert about(10)(taken)
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in data


async def test_a_caller_that_says_nothing_is_let_go_silently(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        taken, data = await timed(lane.end)
        assert about(10)(taken)
        assert data == b""


async def test_an_idle_connection_is_kept_for_75_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        await lane.ask(POST)
        await trio.sleep(IDLE_TIMEOUT - 1)
        assert await lane.ask(POST)
        assert lane.connection.phase is Phase.IDLE
        taken, data = await timed(lane.end)
        assert about(IDLE_TIMEOUT)(taken)
        assert data == b""


async def test_a_handler_may_take_as_long_as_it_likes(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await trio.sleep(1000)
        await exchange.respond(200, [], b"late")

    async with express(handler) as lane:
        assert (await lane.ask(POST)).endswith(b"late")


async def test_a_steady_body_may_take_longer_than_the_header_timeout(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        await lane.caller.send(HEAD + b"Content-Length: 90000\r\n\r\n")
        for _ in range(9):
            await trio.sleep(1.2)
            await lane.caller.send(b"x" * 10_000)
        assert (await lane.caller.receive()).endswith(b"90000")


async def test_a_trickling_body_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    outcome: list[str] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.body()
        except Exception as error:
            outcome.append(type(error).__name__)
            raise

    async with express(handler) as lane:
        await lane.caller.send(HEAD + b"Content-Length: 90000\r\n\r\n")
        assert about(10)(await lane.trickle(b"x", every=0.05))
    assert outcome == ["RequestTimeout"]


async def test_a_caller_that_reads_nothing_is_cut_after_the_write_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    times: list[float] = []

    async def handler(exchange: Exchange) -> None:
        started = trio.current_time()
        exchange.start(200, [])
        assert not exchange.send_now(b"x" * 200_000)
        assert not exchange.send_now(b"y")
        with pytest.raises(CallerLeft):
            await exchange.flush()
        times.append(trio.current_time() - started)
        assert exchange.left

    async with express(handler) as lane:
        await lane.caller.send(POST)
        await trio.sleep(100)
    assert about(60)(times[0])


async def test_a_caller_that_reads_slowly_gets_everything(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [(b"x-a", b"1")], b"x" * 1_000_000)

    async with express(handler) as lane:
        await lane.caller.send(POST)
        received = 0
        while received < 1_000_000:
            await trio.sleep(40)
            received += len(await lane.caller.receive())


async def test_what_is_not_inference_goes_elsewhere_and_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        assert await lane.ask(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n") == b"elsewhere"
        assert (await lane.ask(POST)).endswith(b"3")
        assert [head.target for head in lane.elsewhere.heads] == [b"/v1/models"]


async def test_the_preface_of_http_2_goes_elsewhere_whole(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        await lane.caller.send(preface)
        await lane.end()
        assert lane.elsewhere.http2 == [preface]


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\n\n", HEAD + b"X : 1\r\n\r\n", b"\x16\x03\x01", b"nonsense"])
async def test_a_refused_head_is_told_and_closed(request_: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        answer = await lane.ask(request_)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"connection: close\r\n" in answer
        assert b'"invalid_request"' in answer
        taken, _ = await timed(lane.end)
        assert taken <= LINGER_TIMEOUT + SWEEP_INTERVAL


async def test_a_giant_head_is_431(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        assert (await lane.ask(HEAD + b"X-A: " + b"a" * 40_000)).startswith(b"HTTP/1.1 431 ")


async def test_a_refused_caller_s_bytes_are_read_away_for_two_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with express() as lane:
        assert (await lane.ask(HEAD + b"Content-Length: 100001\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        assert about(LINGER_TIMEOUT)(await lane.trickle(b"x" * 1000, every=0.05))


async def test_an_unread_body_that_is_here_costs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(403, [], b"no")

    async with express(handler) as lane:
        for _ in range(2):
            assert b"connection: close" not in await lane.ask(POST)
        assert b"connection: close" in await lane.ask(HEAD + b"Content-Length: 5\r\n\r\nab")


async def test_while_a_request_is_served_nothing_more_is_read(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await trio.sleep(100)
        await exchange.respond(200, [], b"")

    async with express(handler, capacity=50_000) as lane:
        await lane.caller.send(POST)
        await trio.testing.wait_all_tasks_blocked()
        assert lane.caller.send_now(b"x" * 1_000_000) == 50_000
        await trio.sleep(1)
        assert lane.caller.send_now(b"x") == 0
        assert lane.connection.buffer == b""


async def test_idle_connections_are_closed_on_shut_down_and_busy_ones_after_their_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handler(exchange: Exchange) -> None:
        await trio.sleep(1)
        await exchange.respond(200, [], b"")

    async with express(handler) as busy, express(handler) as idle:
        await busy.caller.send(POST)
        await trio.testing.wait_all_tasks_blocked()
        for each in (busy, idle):
            each.lane.shut_down()
        assert idle.connection.closed
        assert not busy.connection.closed
        assert busy.lane.statistics().in_flight == 1
        assert b"connection: close\r\n" in await busy.end()
        await busy.lane.wait_empty()


async def test_the_connection_shows_what_it_does(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [], repr(exchange).encode())

    async with express(handler) as lane:
        assert repr(lane.connection) == "Connection(('10.0.0.1', 5), idle)"
        answer = await lane.ask(POST)
        assert answer.endswith(b"ExpressExchange(b'POST' b'/v1/chat/completions', NONE)")
    assert repr(lane.connection).endswith("closed)")


async def test_empty_lines_before_a_request_cost_next_to_nothing() -> None:
    async with express() as lane:
        flood = b"\r\n" * 500_000
        started = time.process_time()
        await lane.caller.send(flood)
        assert (await lane.ask(POST)).startswith(b"HTTP/1.1 200 ")
        assert time.process_time() - started < 0.2  # a copy for each of them would take longer


async def test_connections_that_begin_with_the_same_head_share_what_was_read_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[Head, bytes]] = []
    found: list[tuple[str, str] | None] = []

    async def handler(exchange: Exchange) -> None:
        seen.append((exchange.head, await exchange.body()))
        found.append(exchange.head.checked)
        exchange.head.passed = exchange.head.checked = ("known", "stored")
        await exchange.respond(200, [], b"")

    async with express(handler) as lane, trio.open_nursery() as nursery:
        await lane.ask(POST)
        for number, (more, body) in enumerate(((b"", b"abc"), (b"", b"four"), (b"X-Api-Key: another\r\n", b"five"))):
            ours, theirs = memory_pair(65536)
            connection = Connection(lane.lane, ours, client=("10.0.0.2", number))
            nursery.start_soon(connection.serve)
            theirs.send_now(HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await trio.testing.wait_all_tasks_blocked()
            connection.close()
    heads = [head for head, _ in seen]
    assert [body for _, body in seen] == [b"abc", b"abc", b"four", b"five"]
    assert heads[1].headers is heads[0].headers
    assert heads[2].get(b"content-length") == b"4"
    assert [head.client for head in heads] == [("10.0.0.1", 5), *(("10.0.0.2", number) for number in range(3))]
    # What was found out of its lines holds for all of them; another head has other lines.
    assert found == [None, ("known", "stored"), ("known", "stored"), None]
