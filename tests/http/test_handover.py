"""Requests that are not inference, on the same port: by hypercorn, with the connection given back afterwards."""

from __future__ import annotations

import inspect
import json
import ssl
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import h11
import httpx
import pytest
import trio
import trustme
from hypercorn.trio.tcp_server import TCPServer

from infermux.config.settings import LimitSettings
from infermux.http import handover, server
from infermux.http.connection import Connection, Lane
from infermux.http.exchange import Exchange
from infermux.providers.wire import memory_pair
from tests._turns import within
from tests.http._caller import Caller, calling
from tests.http._serving import INFERENCE, LIMITS, echo, is_inference, plain_app, serving

pytestmark = pytest.mark.slow

CHAT = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" % INFERENCE


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def told(body: bytes) -> Any:
    return json.loads(body)


def test_hypercorn_is_the_version_whose_insides_are_known() -> None:
    assert version("hypercorn") == "0.18.0"
    parameters = ["self", "app", "config", "context", "state", "stream"]
    assert list(inspect.signature(TCPServer.__init__).parameters) == parameters


async def test_models_chat_health_chat_work_on_one_connection() -> None:
    async with serving() as served, calling(served.port) as caller:
        for _ in range(2):
            await caller.get(b"/v1/models?x=1")
            assert told((await caller.reply()).body)["path"] == "/v1/models"
            await caller.post(b"abc")
            assert (await caller.reply()).body == b"3"
            await caller.get(b"/_infermux/health")
            assert told((await caller.reply()).body)["path"] == "/_infermux/health"
            await caller.post(b"abcd")
            assert (await caller.reply()).body == b"4"
        assert served.running is not None
        assert served.running.statistics().connections == 1


async def test_a_client_s_session_mixes_paths() -> None:
    async with serving() as served, httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as client:
        ports: set[int] = set()
        for _ in range(2):
            for method, path, body in [
                ("GET", "/v1/models", b""),
                ("POST", INFERENCE.decode(), b"abc"),
                ("HEAD", "/health", b""),
                ("POST", "/other", b"abc"),
            ]:
                reply = await client.request(method, path, content=body)
                assert reply.status_code == 200
                ports.add(reply.extensions["network_stream"].get_extra_info("client_addr")[1])
        assert len(ports) == 1


async def test_a_chat_pipelined_after_another_request_is_answered_after_it() -> None:
    async with serving() as served, calling(served.port) as caller:
        other = b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
        await caller.say(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + CHAT + other + CHAT)
        assert told((await caller.reply()).body)["path"] == "/v1/models"
        assert (await caller.reply()).body == b"3"
        assert told((await caller.reply()).body)["body"] == "ok"
        assert (await caller.reply()).body == b"3"


async def test_a_chunked_body_ends_where_it_ends() -> None:
    async with serving() as served, calling(served.port) as caller:
        head = b"POST /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await caller.say(head + b"2\r\nab\r\n")
        await trio.sleep(0.02)
        await caller.say(b"1\r\nc\r\n0\r\n\r\n" + CHAT)
        assert told((await caller.reply()).body)["body"] == "abc"
        assert (await caller.reply()).body == b"3"


async def test_ill_formed_chunks_never_reach_hypercorn() -> None:
    async with serving() as served, calling(served.port) as caller:
        await caller.say(b"POST /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\n0\n\n")
        assert b" 200 " not in await caller.rest()


async def test_a_caller_that_waits_to_be_asked_is_asked_for_its_body() -> None:
    async with serving() as served, calling(served.port) as caller:
        await caller.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await caller.head()).status == 100
        await caller.say(b"abc")
        assert told((await caller.reply()).body)["body"] == "abc"


@pytest.mark.parametrize("line", [b"Content-Length: 1\r\nContent-Length: 1", b"X-A : 1", b"Host: y", b"X-A: 1\r\n b"])
async def test_heads_are_checked_before_hypercorn_sees_them(line: bytes) -> None:
    async with serving() as served, calling(served.port) as caller:
        await caller.get(b"/v1/models")
        await caller.reply()
        await caller.get(b"/v1/models", line + b"\r\n")
        reply = await caller.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert told(reply.body)["error"]["code"] == "invalid_request"
        assert await caller.rest() == b""


async def test_a_longer_body_than_allowed_is_refused_by_its_length() -> None:
    async with serving() as served, calling(served.port) as caller:
        await caller.say(b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n" + b"x" * 50_000)
        assert (await caller.reply()).status == 413


async def test_a_body_that_does_not_come_is_cut() -> None:
    limits = LimitSettings(header_timeout=0.2)
    async with serving(limits=limits) as served, calling(served.port) as caller:
        await caller.say(b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        assert b" 200 " not in await caller.rest()


async def test_an_application_that_answers_before_the_body_came_is_heard() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await plain_app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async with serving(app=app) as served, calling(served.port) as caller:
        await caller.say(b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + b"x" * 45_000)
        assert (await caller.reply()).body == b"no"
        assert await caller.rest() == b""


async def test_http_1_0_and_close_end_the_connection() -> None:
    async with serving() as served:
        for request in (b"GET /a HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            async with calling(served.port) as caller:
                await caller.say(request)
                assert (await caller.reply()).headers["connection"] == "close"
                assert await caller.rest() == b""


async def test_the_application_is_told_within_100_ms_that_the_caller_left() -> None:
    disconnected = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await plain_app(scope, receive, send)
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        disconnected.set()

    async with serving(app=app) as served, calling(served.port) as caller:
        await caller.get(b"/_infermux/events")
        await trio.sleep(0.05)
        await caller.stream.aclose()
        async with within(0.1):
            await disconnected.wait()


async def test_a_caller_that_stops_reading_is_cut() -> None:
    done = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await plain_app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000, "more_body": True})
        done.set()

    async with serving(app=app, limits=LimitSettings(write_timeout=0.2)) as served, calling(served.port) as caller:
        await caller.get(b"/big")
        with trio.fail_after(30):
            await done.wait()
        assert len(await caller.rest()) < 20_000_000


async def test_an_application_that_breaks_is_a_500_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await plain_app(scope, receive, send)
            return
        raise KeyError("oh")

    async with serving(app=app) as served, calling(served.port) as caller:
        await caller.get(b"/a")
        assert (await caller.reply()).status == 500
        async with calling(served.port) as other:
            await other.say(CHAT)
            assert (await other.reply()).body == b"3"
    assert [record.name for record in caplog.records] == ["infermux.hypercorn"]


async def test_an_upgrade_to_http_2_in_the_clear_is_answered_in_http_1_1() -> None:
    async with serving() as served, calling(served.port) as caller:
        upgrade = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
        await caller.get(b"/a", upgrade)
        assert told((await caller.reply()).body)["version"] == "1.1"
        await caller.post(b"abc", headers=upgrade)
        assert (await caller.reply()).body == b"3"


WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def _websocket_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await plain_app(scope, receive, send)
        return
    await receive()
    if scope["path"] != "/ws":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "bytes": message["bytes"][::-1]})


async def test_a_web_socket_is_hypercorn_s() -> None:
    async with serving(app=_websocket_app) as served, calling(served.port) as caller:
        await caller.get(b"/ws", WEBSOCKET)
        assert (await caller.head()).status == 101
        await caller.say(b"\x82\x83\0\0\0\0abc")  # a masked binary frame, RFC 6455, 5.2
        assert await caller.exactly(5) == b"\x82\x03cba"


async def test_a_refused_web_socket_does_not_leave_the_connection_to_hypercorn() -> None:
    async with serving(app=_websocket_app) as served, calling(served.port) as caller:
        await caller.get(b"/nothing", WEBSOCKET)
        assert (await caller.head()).status == 403
        await caller.rest()


async def test_tls_offers_both_versions(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async with serving(tls=server_tls) as served:
        for http2, expected in ((True, "HTTP/2"), (False, "HTTP/1.1")):
            base = f"https://localhost:{served.port}"
            async with httpx.AsyncClient(http2=http2, verify=client_tls, base_url=base) as client:
                for _ in range(2):
                    reply = await client.get("/v1/models")
                    assert (reply.http_version, reply.status_code) == (expected, 200)
                    assert (await client.post(INFERENCE.decode(), content=b"abc")).content == b"3"


async def test_leaving_is_seen_under_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    left = trio.Event()

    async def handler(exchange: Exchange) -> None:
        with trio.CancelScope() as scope:
            exchange.watch(scope)
            await trio.sleep_forever()
        left.set()

    async with serving(handler, tls=server_tls) as served, calling(served.port, client_tls) as caller:
        await caller.post(b"{}")
        await trio.sleep(0.02)
        await caller.stream.aclose()
        async with within(0.1):
            await left.wait()


async def test_plain_http_on_a_tls_port_ends_quietly(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tls=server_tls) as served:
        async with calling(served.port) as caller:
            await caller.say(CHAT)
            await caller.rest()
        async with calling(served.port, client_tls) as secured:
            await secured.say(CHAT)
            assert (await secured.reply()).body == b"3"
    assert not caplog.records


async def test_silent_callers_under_tls_give_way_to_others_when_it_is_full(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FULL_HANDSHAKE", 0.05)
    limits = LimitSettings(max_concurrent_requests=1, header_timeout=60)
    async with serving(tls=server_tls, limits=limits) as served, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(calling(served.port)) for _ in range(4)]
        async with calling(served.port, client_tls) as fifth:
            await fifth.say(CHAT)
            assert (await fifth.reply()).body == b"3"
        for each in silent:
            assert await each.rest() == b""


async def test_tls_on_a_plain_port_is_refused_at_once() -> None:
    async with serving() as served, calling(served.port) as caller:
        await caller.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert (await caller.reply()).status == 400


async def test_h11_reads_what_both_lanes_answer() -> None:
    async with serving() as served, calling(served.port) as caller:
        for target in (INFERENCE, b"/a"):
            await caller.post(b"abc", path=target, headers=b"Connection: close\r\n" if target == b"/a" else b"")
            await _check_with_h11(caller)


async def _check_with_h11(caller: Caller) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    reply = await caller.reply()
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in reply.headers.items())
    connection.receive_data(b"HTTP/1.1 %d \r\n%b\r\n%b" % (reply.status, lines, reply.body))
    assert isinstance(connection.next_event(), h11.Response)
    assert isinstance(connection.next_event(), h11.Data)
    assert isinstance(connection.next_event(), h11.EndOfMessage)


async def test_hypercorn_lets_go_of_a_connection_it_is_done_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "LET_GO", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await plain_app(scope, receive, send)
        if scope["type"] == "http":
            await trio.sleep_forever()

    async with serving(app=app) as served, calling(served.port) as caller:
        await caller.get(b"/a", b"Connection: close\r\n")
        await caller.reply()
        assert await caller.rest() == b""
        await trio.sleep(0.1)
        assert served.running is not None
        assert served.running.statistics().connections == 0


async def test_cancelling_does_not_lose_the_close() -> None:
    lane = Lane(handler=echo, is_inference=is_inference, elsewhere=handover.Hypercorn(plain_app, LIMITS), limits=LIMITS)
    connection = Connection(lane, memory_pair()[0])
    stream = handover.replay_stream(connection, LIMITS)
    with trio.move_on_after(0) as scope:
        await stream.send_eof()  # as hypercorn closes: one after the other, unshielded
        await stream.aclose()
    assert scope.cancelled_caught
    assert connection.closed
