"""How both ways out fail, and end: the kinds of failure, retries, cancellation, closing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.transport import Origin, Transport
from tests.providers._both import CHUNKED, KINDS, POST, Make, ask, build, failure_of
from tests.providers._upstream import Peer, answering, ok, open_files, upstream


@pytest.fixture(params=KINDS)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes transports of one kind, and closes them."""
    made: list[Transport] = []

    def one(origin: Origin, **options: Any) -> Transport:
        made.append(build(request.param, origin, **options))
        return made[-1]

    yield one
    for transport in made:
        await transport.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.",
        CHUNKED + b"5\r\nfive.\r\n",
        CHUNKED + b"5\r\nfiv",
        CHUNKED + b"5\r\nfive.\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_cut_short_is_broken(make: Make, nursery: trio.Nursery, answer: bytes, reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        if reset:
            await trio.sleep(0.01)
            peer.reset()

    server = await upstream(nursery, script)
    assert (await failure_of(make(server.origin))).kind is FailureKind.BROKEN


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 O"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_fresh_connection_that_dies_unanswered_is_broken_and_not_tried_again(
    make: Make, nursery: trio.Nursery, sent: bytes, reset: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        if reset:
            peer.reset()

    server = await upstream(nursery, script)
    assert (await failure_of(make(server.origin))).kind is FailureKind.BROKEN
    assert server.connections == 1


async def test_a_kept_connection_that_dies_unanswered_is_replaced_once(make: Make, nursery: trio.Nursery) -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            request = await peer.request()
            if request is None:
                return
            bodies.append(request[1])
            if len(bodies) in (2, 5, 6):
                return
            await peer.send(ok(b"fine"))

    server = await upstream(nursery, script)
    transport = make(server.origin)
    for body in (b"1", b"2"):  # the second one is asked twice, on two connections
        response = await transport.request(POST, b"/", (), body)
        assert await response.read() == b"fine"
    assert bodies == [b"1", b"2", b"2"]
    assert server.connections == 2
    response = await transport.request(POST, b"/", (), b"3")
    assert await response.read() == b"fine"
    assert (await failure_of(transport, b"4")).kind is FailureKind.BROKEN
    assert bodies[3:] in ([b"3", b"4", b"4"], [b"3", b"4"])


async def test_a_kept_connection_that_dies_inside_an_answer_is_not_replaced(make: Make, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"fine"))
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfi")

    server = await upstream(nursery, script)
    transport = make(server.origin)
    assert await (await transport.request(POST, b"/")).read() == b"fine"
    assert (await failure_of(transport)).kind is FailureKind.BROKEN
    assert server.connections == 1


async def test_a_connection_closed_while_idle_is_no_error(make: Make, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"fine"))

    server = await upstream(nursery, script)
    transport = make(server.origin)
    for _ in range(3):
        assert await (await transport.request(POST, b"/")).read() == b"fine"
        await trio.sleep(0.01)
    assert server.connections == 3


async def test_a_refused_connection_is_a_connect_error(make: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        failure = await failure_of(make(Origin("127.0.0.1", unused.getsockname()[1], False)))
    assert failure.kind is FailureKind.CONNECT
    assert "refused" in failure.message


async def test_an_unanswered_connect_is_a_connect_timeout(make: Make) -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # takes one connection that nobody accepts; what comes after it stays unanswered
        filler.connect(full.getsockname())
        failure = await failure_of(make(Origin("127.0.0.1", full.getsockname()[1], False), connect_timeout=0.05))
    assert failure.kind is FailureKind.CONNECT_TIMEOUT
    assert "0.05 s" in failure.message


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nno colon s3cret\r\n\r\n",
        CHUNKED + b"zz\r\nabc\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: s3cret\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X-Long: s3cret\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Endless: " + b"s3cret" * 40_000,
        ok(b"\x1f\x8b", b"Content-Encoding: gzip"),
    ],
)
async def test_what_is_not_an_answer_is_malformed(make: Make, nursery: trio.Nursery, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.left()

    server = await upstream(nursery, script)
    failure = await failure_of(make(server.origin))
    assert failure.kind is FailureKind.MALFORMED
    assert "s3cret" not in failure.message


async def test_an_encoded_error_is_given_as_it_is(make: Make, nursery: trio.Nursery) -> None:
    answer = ok(b"\x1f\x8b", b"Content-Encoding: gzip").replace(b"200 OK", b"503 No")
    server = await upstream(nursery, answering(answer))
    response = await make(server.origin).request(POST, b"/")
    assert (response.status, await response.read()) == (503, b"\x1f\x8b")


@pytest.mark.parametrize("answer", [ok(b"x" * 5000), CHUNKED + b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"])
async def test_a_body_over_the_limit_is_malformed(make: Make, nursery: trio.Nursery, answer: bytes) -> None:
    server = await upstream(nursery, answering(answer))
    transport = make(server.origin)
    assert len(await (await transport.request(POST, b"/")).read(limit=5000)) == 5000
    response = await transport.request(POST, b"/")
    with pytest.raises(UpstreamFailure) as caught:
        await response.read(limit=4999)
    assert caught.value.kind is FailureKind.MALFORMED


async def hold(peer: Peer, answer: bytes, gone: trio.Event) -> None:
    await peer.request()
    await peer.send(answer)
    await peer.left()
    gone.set()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + b"3\r\nabc\r\n"])
async def test_cancelling_closes_the_connection(make: Make, nursery: trio.Nursery, answer: bytes) -> None:
    gone = trio.Event()
    before = open_files()
    server = await upstream(nursery, lambda peer: hold(peer, answer, gone))
    listening = open_files() - before
    transport = make(server.origin)
    with trio.move_on_after(0.05):
        await ask(transport)
    with trio.fail_after(1):
        await gone.wait()
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert open_files() == before + listening
    with trio.move_on_after(0.02):
        await ask(transport)
    assert server.connections == 2


@pytest.mark.parametrize("received", [0, 1])
async def test_closing_a_half_read_answer_closes_the_connection(
    make: Make, nursery: trio.Nursery, received: int
) -> None:
    gone = trio.Event()
    server = await upstream(nursery, lambda peer: hold(peer, CHUNKED + b"3\r\nabc\r\n", gone))
    transport = make(server.origin)
    response = await transport.request(POST, b"/")
    for _ in range(received):
        assert await response.receive() == b"abc"
    response.close()
    response.close()
    with trio.fail_after(0.1):
        await gone.wait()
    if received:
        with pytest.raises(UpstreamFailure):
            await response.receive()


async def test_a_refusal_that_comes_before_the_body_was_sent_is_read(make: Make, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.receive_some(1000)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
        await trio.sleep(0.02)

    server = await upstream(nursery, script)
    with trio.fail_after(2):
        response = await make(server.origin).request(POST, b"/", (), b"x" * 20_000_000)
        assert (response.status, await response.read()) == (413, b"large")
    response.close()


async def test_a_closed_transport_connects_no_more(make: Make, nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(ok(b"x")))
    transport = make(server.origin)
    await (await transport.request(POST, b"/")).read()
    await transport.aclose()
    assert (await failure_of(transport)).kind is FailureKind.CONNECT
    assert server.connections == 1


@pytest.mark.parametrize(
    "header", [(b"X", b"s3cret\r\nY: z"), (b"X", b"s3cret\0"), (b"X: y", b"s3cret"), (b"", b"s3cret")]
)
async def test_nothing_can_be_smuggled_into_a_head(make: Make, header: tuple[bytes, bytes]) -> None:
    transport = make(Origin("127.0.0.1", 1, False))
    with pytest.raises(ValueError, match="header") as caught:
        transport.template(POST, b"/", [header])
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="header"):
        await transport.send(transport.template(POST, b"/"), b"", [header])
    for target in (b"/ HTTP/1.1\r\nX: y", b"x", b"/\xff"):
        with pytest.raises(ValueError, match="path of visible ASCII"):
            transport.template(POST, target)
