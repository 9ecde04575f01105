"""Listening, accepting, draining."""

from __future__ import annotations

import errno
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from infermux.config.settings import LimitSettings, TlsSettings
from infermux.http import server
from infermux.http.exchange import Exchange
from infermux.http.server import Running, open_listeners, serve, tls_context
from tests._turns import within
from tests.http._caller import calling
from tests.http._serving import echo, is_inference, plain_app, serving

pytestmark = pytest.mark.slow


async def test_port_0_is_any_port_and_told() -> None:
    async with serving() as served:
        assert served.running is not None
        assert served.running.addresses == (("127.0.0.1", served.port),)
        assert served.port > 0


async def test_an_empty_host_listens_on_all_interfaces_with_one_port() -> None:
    listeners = await open_listeners(("", 0))
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


async def test_a_socket_can_be_given() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    [listener] = await open_listeners(given)
    assert listener is given
    given.close()


async def test_an_address_in_use_is_said_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            await open_listeners(("127.0.0.1", port))
        assert caught.value.errno == errno.EADDRINUSE


async def test_management_sockets_serve_management_only() -> None:
    async def management(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await plain_app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 418, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(management_listen=[("127.0.0.1", 0)], management_app=management) as served:
        assert served.running is not None
        [(_, port)] = served.running.management_addresses
        async with calling(port) as caller:
            for _ in range(2):
                await caller.post(b"abc")
                assert (await caller.reply()).status == 418
        async with calling(served.port) as caller:
            await caller.post(b"abc")
            assert (await caller.reply()).body == b"3"


async def test_an_application_that_does_not_start_stops_the_server() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no disk"), flatten_subgroups=True):
        async with serving(app=app):
            pass


async def test_the_lifespan_s_end_is_told_after_the_last_request() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for _ in range(2):
            message = await receive()
            order.append(message["type"])
            await send({"type": message["type"] + ".complete"})

    async def handler(exchange: Exchange) -> None:
        await trio.sleep(0.1)
        order.append("request")
        await exchange.respond(200, [], b"")

    async with serving(handler, app=app) as served, calling(served.port) as caller:
        await caller.post()
        await trio.sleep(0.02)
        served.shutdown.set()
        await caller.reply()
    assert order == ["lifespan.startup", "request", "lifespan.shutdown"]


async def test_draining_lets_requests_finish_and_closes_the_rest() -> None:
    begun, go_on = trio.Event(), trio.Event()

    async def handler(exchange: Exchange) -> None:
        begun.set()
        await go_on.wait()
        assert exchange.shutting_down
        await exchange.respond(200, [], b"late")

    async with (
        serving(handler, grace=5) as served,
        calling(served.port) as busy,
        calling(served.port) as idle,
    ):
        await busy.post()
        await begun.wait()
        assert served.running is not None
        with trio.fail_after(30):
            while (statistics := served.running.statistics()).connections < 2:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.01)
        assert (statistics.connections, statistics.idle, statistics.in_flight) == (2, 1, 1)
        served.shutdown.set()
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", served.port)
        go_on.set()
        reply = await busy.reply()
        assert (reply.body, reply.headers["connection"]) == (b"late", "close")
        assert await busy.rest() == b""
    assert served.running.statistics().connections == 0


async def test_after_the_grace_period_handlers_are_cancelled_and_have_a_last_word() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.send_now(b"data")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            assert exchange.shutting_down
            exchange.send_now(b"error")
            exchange.abort()
            raise

    async with serving(handler, grace=0.1) as served, calling(served.port) as caller:
        await caller.post()
        await caller.head()
        served.shutdown.set()
        async with within(0.5):
            assert await caller.rest() == b"4\r\ndata\r\n5\r\nerror\r\n"


async def test_a_handler_that_shields_itself_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LAST_WORDS", 0.1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await plain_app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    with trio.fail_after(30):
        async with serving(app=app, grace=0.1) as served, calling(served.port) as caller:
            await caller.get(b"/big")  # hypercorn shields the sending of what is never read
            await caller.head()


async def test_cancelling_the_server_cuts_everything_at_once(nursery: trio.Nursery) -> None:
    running: Running = await nursery.start(
        partial(
            serve,
            listen=[("127.0.0.1", 0)],
            handler=_hang,
            is_inference=is_inference,
            app=plain_app,
            shutdown=trio.Event(),
        )
    )
    async with calling(running.addresses[0][1]) as caller:
        await caller.post()
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def _hang(_: Exchange) -> None:
    await trio.sleep_forever()


async def test_http_2_connections_drain_too() -> None:
    async with serving(grace=600) as served, calling(served.port) as caller:
        await caller.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        await caller.exactly(9)
        served.shutdown.set()
        with trio.fail_after(30):
            await caller.rest()


async def test_running_out_of_descriptors_delays_callers_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = socket.socket.accept
    failures = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

    def accept(self: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "no room")
        return real(self)

    async with serving() as served:
        monkeypatch.setattr(socket.socket, "accept", accept)
        async with calling(served.port) as caller:
            await caller.post(b"abc")
            assert (await caller.reply()).body == b"3"
        monkeypatch.undo()
    assert not failures
    assert caplog.text.count("Cannot accept connections") == 2


async def test_a_full_server_gives_up_idle_connections_for_new_ones() -> None:
    limits = LimitSettings(max_concurrent_requests=1)
    async with serving(echo, limits=limits) as served, trio.open_nursery() as nursery:
        for _ in range(4):
            await nursery.start(_hold, served.port)
        async with calling(served.port) as fifth:
            await fifth.post(b"abc")
            assert (await fifth.reply()).body == b"3"
        nursery.cancel_scope.cancel()


async def _hold(port: int, *, task_status: trio.TaskStatus[None]) -> None:
    async with calling(port) as caller:
        await caller.post()
        await caller.reply()
        task_status.started()
        await caller.rest()


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_context(TlsSettings()) is None


def test_a_certificate_makes_a_context(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    assert isinstance(tls_context(TlsSettings(cert_file=str(cert), key_file=str(key))), ssl.SSLContext)
    with pytest.raises(OSError, match="No such file"):
        tls_context(TlsSettings(cert_file=str(tmp_path / "none"), key_file=str(key)))
