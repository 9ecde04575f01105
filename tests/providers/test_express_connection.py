"""One connection of the express transport: where its framing ends, and uploads that meet an answer."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.express import ExpressTransport
from infermux.providers.express_connection import Connection
from infermux.providers.transport import Origin, Response
from infermux.providers.wire import MemoryWire, Wire, WireBroken, memory_pair
from tests._properties import examples
from tests.providers._far import CHUNKED, ORIGIN, Far, failing
from tests.providers._upstream import ok


async def trickle(end: MemoryWire, start: bytes, more: bytes, total: int) -> None:
    await end.receive()
    await end.send(start)
    try:
        for _ in range(total // len(more) // 20):
            await end.send(more * 20)
    except WireBroken:
        pass


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"bbbbbbbb"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: t\r\n"),
        (CHUNKED + b"1\r\nx\r\n5;e=", b"aaaaaaaaa"),
    ],
)
async def test_an_endless_head_is_malformed_wherever_it_stands(
    nursery: trio.Nursery, start: bytes, more: bytes
) -> None:
    near, end = memory_pair()
    nursery.start_soon(trickle, end, start, more, 200_000)

    async def reuse(origin: Origin) -> Wire:
        return near

    with pytest.raises(UpstreamFailure) as caught:
        await (await ExpressTransport(ORIGIN, dial=reuse).request(b"POST", b"/")).read()
    assert caught.value.kind is FailureKind.MALFORMED
    assert near.closed


async def test_a_large_body_behind_a_head_is_not_part_of_it() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n" + b"X-A: b\r\n" * 2000 + b"\r\n"
    near, end = memory_pair(capacity=200_000)

    async def reuse(origin: Origin) -> Wire:
        return near

    transport = ExpressTransport(ORIGIN, dial=reuse)
    await end.send(head[:9000])
    await end.send(head[9000:] + b"x" * 60000)
    assert len(await (await transport.request(b"POST", b"/")).read()) == 60000


async def test_a_refusal_ends_an_upload_that_nobody_reads() -> None:
    far = Far(capacity=1000)
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    got: list[Response] = []

    async def ask() -> None:
        got.append(await transport.request(b"POST", b"/", (), b"x" * 100_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await far.ends[0].send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert not got
        await far.ends[0].send(b"HTTP/1.1 429 Slow\r\nContent-Length: 4\r\n\r\nslow")
    assert (got[0].status, await got[0].read()) == (429, b"slow")
    assert far.near[0].closed
    assert transport.idle == 0


async def test_an_early_success_does_not_end_the_upload() -> None:
    far = Far(capacity=1000)
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    got: list[Response] = []

    async def ask() -> None:
        got.append(await transport.request(b"POST", b"/", (), b"x" * 100_000))

    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await far.ends[0].send(ok(b"so soon"))
        await trio.testing.wait_all_tasks_blocked()
        while not received.endswith(b"x" * 100_000):
            received += await far.ends[0].receive()
    assert await got[0].read() == b"so soon"
    assert transport.idle == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_dies_under_an_upload_is_broken(reset: bool) -> None:
    far = Far(capacity=1000)
    failures: list[UpstreamFailure] = []

    async def ask() -> None:
        failures.append(await failing(ExpressTransport(ORIGIN, dial=far.dial), b"x" * 100_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        far.ends[0].reset() if reset else far.ends[0].close()
    assert failures[0].kind is FailureKind.BROKEN
    assert far.near[0].closed


async def test_cancelling_an_upload_closes_the_connection() -> None:
    far = Far(capacity=1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ExpressTransport(ORIGIN, dial=far.dial).request, b"POST", b"/", (), b"x" * 100_000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert far.near[0].closed


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=6),
    st.lists(st.integers(0, 300), max_size=8),
    st.booleans(),
)
def test_an_answer_is_the_same_however_it_is_cut(chunks: list[bytes], places: list[int], length: bool) -> None:
    body = b"".join(chunks)
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    data = ok(body, b"X-A: 1") if length else CHUNKED + framed + b"0\r\n\r\n"
    marks = sorted({min(place, len(data)) for place in places} | {0, len(data)})

    async def main() -> bytes:
        near, end = memory_pair()
        connection = Connection(near)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for start, stop in itertools.pairwise(marks):
                    await end.send(data[start:stop])
                    await trio.testing.wait_all_tasks_blocked()

            nursery.start_soon(send)
            await connection.exchange(b"head", b"", without_body=False)
            while not connection.complete:
                await connection.advance()
            assert connection.reusable
        return b"".join(connection.pieces)

    assert trio.run(main) == body


PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: b c\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN,
        PLAIN + b"more",
        PLAIN.replace(b"200 OK", b"500"),
        PLAIN.replace(b"200", b"204"),
        PLAIN.replace(b"200", b"304"),
        PLAIN.replace(b"b c", b"b c \t"),
        PLAIN.replace(b"b c", b""),
        PLAIN.replace(b"b c", b"b\rc"),
        PLAIN.replace(b"b c", b"b\nc"),
        PLAIN.replace(b"b c", b"b\0c"),
        PLAIN.replace(b"X-A:", b" X-A:"),
        PLAIN.replace(b"X-A:", b"X-A :"),
        PLAIN.replace(b"X-A: b c", b"Content-Length: 2"),
        PLAIN.replace(b"X-A: b c", b"Content-Length: 3"),
        PLAIN.replace(b"X-A: b c", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"X-A: b c", b"Connection: close"),
        PLAIN.replace(b"X-A: b c", b"Connection: keep-alive"),
        PLAIN.replace(b"Length: 2", b"Length: +2"),
        PLAIN.replace(b"Length: 2", b"Length: 99999999999999999999"),
        PLAIN.replace(b"1.1", b"1.0"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"garbage" + PLAIN,
    ],
)
async def test_an_answer_in_one_piece_is_what_the_parser_makes_of_it(answer: bytes) -> None:
    async def read(*pieces: bytes) -> tuple[object, ...]:
        near, end = memory_pair()
        connection = Connection(near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say, end, pieces)
            try:
                await connection.exchange(b"head", b"", without_body=False)
                while not connection.complete:
                    await connection.advance()
            except UpstreamFailure as failure:
                return (failure.kind,)
        return (connection.status, connection.headers, b"".join(connection.pieces), connection.reusable)

    whole = await read(answer)
    assert whole == await read(answer[:9], answer[9:])
    assert whole == await read(answer)  # of lines that were read before


async def _say(end: MemoryWire, pieces: tuple[bytes, ...]) -> None:
    for piece in pieces:
        await end.send(piece)
        await trio.testing.wait_all_tasks_blocked()
    end.send_eof()
