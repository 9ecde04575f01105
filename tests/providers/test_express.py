"""The express transport on memory and a virtual clock: the pool, connecting, many streams at once."""

from __future__ import annotations

import socket
import ssl

import pytest
import trio
import trio.testing

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers import express, trust
from infermux.providers.express import ExpressTransport, dial
from infermux.providers.tls_wire import TlsWire
from infermux.providers.transport import CONNECTING, Origin, Stoppable, Stopped
from infermux.providers.wire import Wire, WireBroken, memory_pair
from tests.providers._far import CHUNKED, ORIGIN, Far, exchange, failing
from tests.providers._tls import Authority
from tests.providers._upstream import answering, ok, upstream


@pytest.fixture
def far() -> Far:
    return Far()


async def test_a_request_leaves_in_one_piece(far: Far, nursery: trio.Nursery) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    template = transport.template(b"POST", b"/v1/x", [(b"Authorization", b"Bearer s3cret")])
    nursery.start_soon(transport.send, template, b"body", [(b"X-Id", b"7")])
    await trio.testing.wait_all_tasks_blocked()
    assert await far.ends[0].receive() == (
        b"POST /v1/x HTTP/1.1\r\nHost: upstream.test\r\nUser-Agent: infermux/0.1.0\r\nAccept-Encoding: identity\r\n"
        b"Authorization: Bearer s3cret\r\nConnection: keep-alive\r\nX-Id: 7\r\nContent-Length: 4\r\n\r\nbody"
    )
    nursery.cancel_scope.cancel()


async def test_idle_connections_are_taken_last_in_first_out_and_expire(
    far: Far, autojump_clock: trio.testing.MockClock
) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial, idle_seconds=30)
    streams = [await exchange(transport, far, number, CHUNKED) for number in range(3)]
    for stream, end in zip(streams, far.ends, strict=True):
        await end.send(b"0\r\n\r\n")
        assert await stream.read() == b""
        await trio.sleep(10)
    assert transport.idle == 3
    await (await exchange(transport, far, 2, ok(b""))).read()
    await trio.sleep(11)  # the first was idle for 41 s, the second for 31, the third for 11
    transport.expire()
    assert [end.readable() for end in far.ends] == [True, True, False]
    assert transport.idle == 1
    await trio.sleep(20)
    await (await exchange(transport, far, 3, ok(b""))).read()
    assert transport.idle == 1
    assert len(far.ends) == 4
    assert "idle=1" in repr(transport)


async def test_no_more_connections_are_kept_than_allowed(far: Far) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial, max_idle=2)
    streams = [await exchange(transport, far, number, CHUNKED) for number in range(3)]
    for stream, end in zip(streams, far.ends, strict=True):
        await end.send(b"0\r\n\r\n")
        await stream.read()
    assert [end.readable() for end in far.ends] == [True, False, False]
    assert transport.idle == 2
    await transport.aclose()
    assert all(wire.closed for wire in far.near)


@pytest.mark.parametrize("excess", [b"junk", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Other: y\r\n\r\nz", b"\0"])
async def test_bytes_after_an_answer_spoil_the_connection_only(far: Far, excess: bytes) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    response = await exchange(transport, far, 0, ok(b"fine") + excess)
    assert (await response.read(), response.get(b"x-other")) == (b"fine", None)
    assert transport.idle == 0
    assert far.near[0].closed


async def test_unasked_bytes_on_an_idle_connection_drop_it(far: Far) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    await (await exchange(transport, far, 0, ok(b"fine"))).read()
    await far.ends[0].send(ok(b"for nobody"))
    assert await (await exchange(transport, far, 1, ok(b"mine"))).read() == b"mine"
    assert far.near[0].closed


async def test_what_arrives_at_once_is_received_at_once(far: Far) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    response = await exchange(transport, far, 0, CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n")
    assert await response.receive() == b"onetwo"
    await far.ends[0].send(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    assert await response.receive() == b"ab"
    assert transport.idle == 1  # given back with the last byte, not with the next call
    assert await response.receive() is None
    response.close()
    assert "ended=True" in repr(response)


async def test_reading_after_closing_is_broken(far: Far) -> None:
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    response = await exchange(transport, far, 0, CHUNKED)
    response.close()
    response.close()
    with pytest.raises(UpstreamFailure) as caught:
        await response.receive()
    assert caught.value.kind is FailureKind.BROKEN
    assert far.near[0].closed


async def test_a_declared_length_over_the_limit_is_refused_unread(far: Far) -> None:
    response = await exchange(ExpressTransport(ORIGIN, dial=far.dial), far, 0, ok(b"")[:-6] + b"99\r\n\r\n")
    assert response.get(b"content-length") == b"99"
    with pytest.raises(UpstreamFailure, match="over 50 bytes"):
        await response.read(limit=50)
    assert far.near[0].closed


async def test_connecting_is_bounded_and_what_it_opened_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    async def never(origin: Origin) -> Wire:
        await trio.sleep_forever()
        raise AssertionError

    failure = await failing(ExpressTransport(ORIGIN, dial=never, connect_timeout=7))
    assert failure.kind is FailureKind.CONNECT_TIMEOUT
    assert trio.current_time() >= 7


class Waiting:
    """Somebody who asks for a request."""

    connecting = False
    waits_on: Stoppable | None = None


async def test_who_stops_asking_while_it_connects_is_told_so(autojump_clock: trio.testing.MockClock) -> None:
    asker = Waiting()

    async def stopped(origin: Origin) -> Wire:
        assert asker.connecting
        assert asker.waits_on is not None
        asker.waits_on.cancel()
        await trio.sleep_forever()
        raise AssertionError

    CONNECTING.set(asker)
    with pytest.raises(Stopped):
        await ExpressTransport(ORIGIN, dial=stopped, connect_timeout=7).request(b"POST", b"/")
    assert trio.current_time() < 7


async def test_who_stops_asking_just_as_it_is_connected_is_told_so_too(autojump_clock: trio.testing.MockClock) -> None:
    asker, connected = Waiting(), trio.Event()
    near, far = memory_pair()

    async def dial(origin: Origin) -> Wire:
        await connected.wait()
        return near

    async def ask() -> None:
        CONNECTING.set(asker)
        with pytest.raises(Stopped):
            await ExpressTransport(ORIGIN, dial=dial).request(b"POST", b"/")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        connected.set()
        assert asker.waits_on is not None
        asker.waits_on.cancel()
    assert await far.receive() == b""
    far.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (ssl.SSLError(1, "wrong"), "TLS failed (SSLError)"),
        (WireBroken("Connection reset by peer"), "reset"),
        (UnicodeError("label too long"), "label too long"),
        (OSError("something"), "something"),
    ],
)
async def test_why_connecting_failed_is_said(error: Exception, words: str) -> None:
    async def broken(origin: Origin) -> Wire:
        raise error

    failure = await failing(ExpressTransport(ORIGIN, dial=broken))
    assert failure.kind is FailureKind.CONNECT
    assert "http://upstream.test: " in failure.message
    assert words in failure.message


async def test_tls_is_verified_by_the_system_and_agreed_to_be_http_1(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    certified = authority.server_context("http/1.1")
    server = await upstream(nursery, answering(ok(b"safe"), ok(b"again")), context=certified, host="localhost")
    failure = await failing(ExpressTransport(server.origin))
    assert failure.kind is FailureKind.CONNECT
    assert "not trusted" in failure.message

    trusting = authority.trust(trust.client_context())
    trusting.set_alpn_protocols(["http/1.1"])
    monkeypatch.setattr(express, "http1_context", lambda: trusting)
    transport = ExpressTransport(server.origin)
    for body in (b"safe", b"again"):
        assert await (await transport.request(b"GET", b"/")).read() == body
    assert transport.idle == 1
    assert server.connections == 2
    wire = await dial(server.origin)
    assert isinstance(wire, TlsWire)
    wire.close()
    await transport.aclose()


async def test_what_does_not_speak_tls_is_a_connect_error(nursery: trio.Nursery) -> None:
    server = await upstream(nursery, lambda peer: peer.send(b"SSH-2.0-OpenSSH_9.9\r\n"))
    failure = await failing(ExpressTransport(Origin("127.0.0.1", server.origin.port, True)))
    assert failure.kind is FailureKind.CONNECT
    assert "TLS" in failure.message or "closed" in failure.message


@pytest.mark.slow
async def test_a_thousand_streams_at_once_lose_nothing() -> None:
    far = Far()
    transport = ExpressTransport(ORIGIN, dial=far.dial)
    done = 0

    async def caller() -> None:
        nonlocal done
        response = await transport.request(b"POST", b"/", (), b"{}")
        assert await response.read() == b"onetwo"
        done += 1

    async with trio.open_nursery() as callers:
        for _ in range(1000):
            callers.start_soon(caller)
        await trio.testing.wait_all_tasks_blocked()
        for piece in (CHUNKED, b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"):
            for end in far.ends:
                await end.send(piece)
            await trio.testing.wait_all_tasks_blocked()
    assert done == 1000
    assert transport.idle == 1000
    await transport.aclose()
