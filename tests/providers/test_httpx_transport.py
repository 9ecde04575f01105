"""What only the httpx way out does: custom trust, HTTP/2, proxies, closing what httpx can only close by awaiting."""

from __future__ import annotations

import logging
import pathlib

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.httpx_transport import HttpxTransport
from infermux.providers.transport import Origin
from tests.providers._tls import Authority
from tests.providers._upstream import Peer, answering, ok, upstream


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def body_of(transport: HttpxTransport, body: bytes = b"") -> bytes:
    response = await transport.request(b"POST", b"/x?y=1", (), body)
    return await response.read()


async def failure_of(transport: HttpxTransport) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await body_of(transport)
    await transport.aclose()
    return caught.value


async def test_trust_is_the_systems_a_files_or_everybody(
    authority: Authority, nursery: trio.Nursery, tmp_path: pathlib.Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.pem)
    server = await upstream(
        nursery, answering(ok(b"safe")), context=authority.server_context("http/1.1"), host="localhost"
    )
    failure = await failure_of(HttpxTransport(server.origin))
    assert failure.kind is FailureKind.CONNECT
    assert "not trusted" in failure.message
    for transport in (HttpxTransport(server.origin, ca_file=str(ca_file)), HttpxTransport(server.origin, verify=False)):
        assert await body_of(transport) == b"safe"
        await transport.aclose()


async def test_a_ca_file_that_is_none_is_a_value_error(tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing here")
    for path, words in ((tmp_path / "missing.pem", "No such file"), (empty, "certificates")):
        with pytest.raises(ValueError, match=words):
            HttpxTransport(Origin("localhost", 1, True), ca_file=str(path))


async def test_what_is_sent_is_not_logged(
    authority: Authority, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = await upstream(nursery, serve_h2, context=authority.server_context("h2"), host="localhost")
    transport = HttpxTransport(server.origin, http2=True, verify=False)
    response = await transport.request(b"POST", b"/x", [(b"authorization", b"Bearer s3cret")])
    assert await response.read() == b"/x"
    await transport.aclose()
    names = ("httpx", "httpcore", "hpack")
    assert not [record for record in caplog.records if record.name.startswith(names)]


async def serve_h2(peer: Peer) -> None:
    """Answers every request with its path and body; one for /reset is reset, one for /hold is left open."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    await peer.send(connection.data_to_send())
    paths: dict[int, bytes] = {}
    bodies: dict[int, bytes] = {}
    while data := await peer.stream.receive_some(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                paths[event.stream_id] = dict(event.headers)[b":path"]
                bodies[event.stream_id] = b""
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream = event.stream_id
                connection.send_headers(stream, [(b":status", b"200"), (b"x-body", bodies[stream])])
                connection.send_data(stream, paths[stream], end_stream=paths[stream] != b"/reset")
                if paths[stream] == b"/reset":
                    connection.reset_stream(stream)
        await peer.send(connection.data_to_send())


async def test_http_2_shares_one_connection(authority: Authority, nursery: trio.Nursery) -> None:
    server = await upstream(nursery, serve_h2, context=authority.server_context("h2"), host="localhost")
    transport = HttpxTransport(server.origin, http2=True, verify=False)
    first = await transport.request(b"POST", b"/one", (), b"1")
    second = await transport.request(b"POST", b"/two", (), b"2")
    assert (first.framed, first.get(b"x-body"), await first.read()) == (True, b"1", b"/one")
    assert (second.framed, second.get(b"x-body"), await second.read()) == (True, b"2", b"/two")
    assert server.connections == 1
    with pytest.raises(UpstreamFailure) as caught:
        await (await transport.request(b"POST", b"/reset")).read()
    assert caught.value.kind is FailureKind.BROKEN
    await transport.aclose()


async def test_a_plain_target_is_asked_of_the_proxy_by_its_whole_url(nursery: trio.Nursery) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            heads.append(request[0])
            await peer.send(ok(b"by proxy"))

    proxy = await upstream(nursery, script)
    transport = HttpxTransport(
        Origin("api.test", 80, False), proxy=f"http://user:s3cret@{proxy.origin.authority}", connect_timeout=1
    )
    assert await body_of(transport) == b"by proxy"
    assert heads[0].startswith(b"POST http://api.test/x?y=1 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic " in heads[0]
    assert b"\r\nHost: api.test" in heads[0]
    assert "s3cret" not in repr(transport)
    await transport.aclose()


async def test_a_tls_target_is_tunnelled_through_the_proxy(authority: Authority, nursery: trio.Nursery) -> None:
    server = await upstream(
        nursery, answering(ok(b"inside")), context=authority.server_context("http/1.1"), host="localhost"
    )

    async def tunnel(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        assert request[0].startswith(b"CONNECT localhost:%d " % server.origin.port)
        await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        there = await trio.open_tcp_stream("127.0.0.1", server.origin.port)
        async with there, trio.open_nursery() as pumps:
            pumps.start_soon(pump, there, peer.stream, pumps.cancel_scope)
            await pump(peer.stream, there, pumps.cancel_scope)

    proxy = await upstream(nursery, tunnel)
    transport = HttpxTransport(server.origin, proxy=str(proxy.origin), verify=False)
    assert await body_of(transport) == b"inside"
    await transport.aclose()


async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(65536):
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    scope.cancel()


async def test_a_proxy_that_refuses_is_a_connect_error(nursery: trio.Nursery) -> None:
    proxy = await upstream(nursery, answering(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n"))
    failure = await failure_of(HttpxTransport(Origin("api.test", 443, True), proxy=str(proxy.origin)))
    assert failure.kind is FailureKind.CONNECT
    assert "407" in failure.message


async def test_at_most_twenty_idle_connections_are_kept(nursery: trio.Nursery) -> None:
    gone = 0

    async def script(peer: Peer) -> None:
        nonlocal gone
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await peer.send(b"0\r\n\r\n")
        gone += 1

    server = await upstream(nursery, script)
    transport = HttpxTransport(server.origin)
    responses = [await transport.request(b"POST", b"/") for _ in range(23)]
    for response in responses:
        assert await response.read() == b""
    await trio.sleep(0.02)
    assert (server.connections, gone) == (23, 3)
    assert "in_use=0" in repr(transport)
    await transport.aclose()


async def test_the_last_answer_of_a_closed_transport_takes_its_connections_along() -> None:
    server_gone = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        await peer.left()
        server_gone.set()

    async with trio.open_nursery() as nursery:
        server = await upstream(nursery, script)
        transport = HttpxTransport(server.origin)
        response = await transport.request(b"POST", b"/")
        await transport.aclose()
        assert "closed=True" in repr(transport)
        response.close()
        with trio.fail_after(0.2):
            await server_gone.wait()
        nursery.cancel_scope.cancel()
    assert "ended=False" in repr(response)
