"""What both ways out promise, each against a scripted upstream on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from infermux.providers.transport import Origin, Transport
from tests.providers._both import CHUNKED, KINDS, POST, Make, build
from tests.providers._upstream import Peer, answering, ok, upstream


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


async def test_a_request_arrives_with_its_headers_and_the_answer_comes_back(make: Make, nursery: trio.Nursery) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)
            await peer.send(ok(b'{"a":1}', b"Content-Type: application/json", b"X-Two: 1", b"X-Two: 2"))

    server = await upstream(nursery, script)
    transport = make(server.origin)
    template = transport.template(
        POST, b"/v1/chat?x=1", [(b"Authorization", b"Bearer s3cret"), (b"Content-Type", b"a/b")]
    )
    response = await transport.send(template, b"hello", [(b"X-Request-Id", b"r1")])
    assert (response.status, response.content_type, response.framed) == (200, b"application/json", True)
    assert response.get(b"x-two") == b"1"
    assert response.get(b"x-three") is None
    assert [value for name, value in response.headers if name == b"x-two"] == [b"1", b"2"]
    assert await response.read() == b'{"a":1}'
    assert await response.receive() is None
    response.close()
    [(head, body)] = seen
    lines = head.lower().split(b"\r\n")
    assert head.startswith(b"POST /v1/chat?x=1 HTTP/1.1\r\n")
    assert body == b"hello"
    for line in (
        b"accept-encoding: identity",
        b"authorization: bearer s3cret",
        b"x-request-id: r1",
        b"content-length: 5",
    ):
        assert lines.count(line) == 1
    assert lines.count(f"host: {server.origin.authority}".encode()) == 1
    assert sum(line.startswith(b"user-agent: infermux/") for line in lines) == 1
    assert "s3cret" not in repr(template) + repr(transport) + repr(response)


async def test_a_connection_is_used_again(make: Make, nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(ok(b"one"), ok(b"two")))
    transport = make(server.origin)
    for expected in (b"one", b"two"):
        response = await transport.request(POST, b"/")
        assert await response.read() == expected
        response.close()
        response.close()
    assert server.connections == 1


async def test_the_last_one_given_back_is_the_first_one_taken(make: Make, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(ok(b"%d" % peer.number))

    server = await upstream(nursery, script)
    transport = make(server.origin)
    first, second = await transport.request(POST, b"/"), await transport.request(POST, b"/")
    bodies = [await first.read(), await second.read()]
    third = await transport.request(POST, b"/")
    assert await third.read() in bodies
    assert server.connections <= 2


async def test_localhost_is_found_whatever_its_family(make: Make, nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(ok(b"here")), host="localhost")
    response = await make(server.origin).request(b"GET", b"/")
    assert await response.read() == b"here"


async def test_chunks_trailers_and_extensions_come_out_as_the_body(make: Make, nursery: trio.Nursery) -> None:
    answer = CHUNKED + b'3;a="b"\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n'
    server = await upstream(nursery, answering(answer))
    transport = make(server.origin)
    for _ in range(2):
        response = await transport.request(POST, b"/")
        assert (response.framed, await response.read()) == (True, b"abcde")
        assert response.get(b"x-trailer") is None
    assert server.connections == 1


async def test_a_stream_is_received_as_it_arrives(make: Make, nursery: trio.Nursery) -> None:
    go = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"3\r\none\r\n")
        await go.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.left()

    server = await upstream(nursery, script)
    response = await make(server.origin).request(POST, b"/")
    assert await response.receive() == b"one"
    go.set()
    assert await response.receive() == b"two"
    assert await response.receive() is None
    assert await response.receive() is None


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_that_has_no_body_ends_with_its_head(make: Make, nursery: trio.Nursery, status: bytes) -> None:
    server = await upstream(nursery, answering(b"HTTP/1.1 " + status + b"\r\nEtag: x\r\n\r\n"))
    transport = make(server.origin)
    for _ in range(2):
        response = await transport.request(b"GET", b"/")
        assert (response.framed, await response.read()) == (True, b"")
    assert server.connections == 1


async def test_the_answer_to_a_head_has_no_body(make: Make, nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))
    response = await make(server.origin).request(b"HEAD", b"/")
    assert (response.status, response.framed, await response.read()) == (200, True, b"")


async def test_informational_answers_are_skipped(make: Make, nursery: trio.Nursery) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    server = await upstream(nursery, answering(hints + ok(b"real")))
    response = await make(server.origin).request(POST, b"/", (), b"x")
    assert (response.status, response.get(b"link"), await response.read()) == (200, None, b"real")


async def test_a_redirect_is_an_answer(make: Make, nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(b"HTTP/1.1 307 Go\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n"))
    response = await make(server.origin).request(POST, b"/x")
    assert (response.status, response.get(b"location"), await response.read()) == (307, b"/y", b"")


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ],
)
async def test_a_connection_that_may_not_be_kept_is_not(make: Make, nursery: trio.Nursery, answer: bytes) -> None:
    server = await upstream(nursery, answering(answer))
    transport = make(server.origin)
    for _ in range(2):
        response = await transport.request(POST, b"/")
        assert await response.read() == b"x"
        response.close()
    assert server.connections == 2


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_without_framing_ends_with_the_connection(
    make: Make, nursery: trio.Nursery, version: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/" + version + b" 200 OK\r\n\r\nall of it")

    server = await upstream(nursery, script)
    response = await make(server.origin).request(POST, b"/")
    assert (response.framed, await response.read()) == (False, b"all of it")


async def test_a_body_larger_than_every_buffer_arrives_whole(make: Make, nursery: trio.Nursery) -> None:
    body = bytes(range(256)) * 32768
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        await trio.sleep(0.02)
        request = await peer.request()
        assert request is not None
        received.append(request[1])
        await peer.send(ok(b"thanks"))
        request = await peer.request()
        await peer.send(ok(b"again"))

    server = await upstream(nursery, script)
    transport = make(server.origin)
    assert await (await transport.request(POST, b"/", (), body)).read() == b"thanks"
    assert received == [body]
    assert await (await transport.request(POST, b"/")).read() == b"again"
    assert server.connections == 1


async def test_closing_the_transport_lets_an_answer_be_read_to_its_end(make: Make, nursery: trio.Nursery) -> None:
    gone, closed = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        await closed.wait()
        await peer.send(b"3\r\ndef\r\n0\r\n\r\n")
        await peer.left()
        gone.set()

    server = await upstream(nursery, script)
    transport = make(server.origin)
    response = await transport.request(POST, b"/")
    await transport.aclose()
    closed.set()
    assert await response.read() == b"abcdef"
    with trio.fail_after(0.5):
        await gone.wait()


async def test_host_and_user_agent_can_be_given(make: Make, nursery: trio.Nursery) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            heads.append(request[0].lower())
            await peer.send(ok(b""))

    server = await upstream(nursery, script)
    headers = [(b"host", b"api.example"), (b"user-agent", b"mine")]
    await (await make(server.origin).request(b"GET", b"/", headers)).read()
    assert heads[0].count(b"\r\nhost:") == 1
    assert b"\r\nhost: api.example" in heads[0]
    assert b"\r\nuser-agent: mine" in heads[0]
    assert b"content-length" not in heads[0]
