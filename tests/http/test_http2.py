"""HTTP/2: by hypercorn to the end; streams may be reset, but not without bound (CVE-2023-44487, CVE-2025-8671)."""

from __future__ import annotations

from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import WindowUpdateFrame

from infermux.config.settings import LimitSettings
from infermux.errors import InfermuxError
from infermux.http import handover, http2
from infermux.http.exchange import Exchange
from tests._turns import within
from tests.http._caller import Caller, calling
from tests.http._serving import INFERENCE, serving

pytestmark = pytest.mark.slow

BOUND = 10
HEADERS = [(":method", "POST"), (":path", INFERENCE.decode()), (":scheme", "http"), (":authority", "x")]


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "RESETS_A_MINUTE", BOUND)


@attrs.define(eq=False)
class Asked:
    """A handler that never answers."""

    begun: int = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.begun += 1
        with trio.CancelScope() as scope:
            exchange.watch(scope)
            await trio.sleep_forever()


def _client() -> h2.connection.H2Connection:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    return connection


def _begin(connection: h2.connection.H2Connection) -> int:
    stream_id = connection.get_next_available_stream_id()
    connection.send_headers(stream_id, HEADERS, end_stream=True)
    return stream_id


def _begin_and_reset(connection: h2.connection.H2Connection, count: int) -> bytes:
    for _ in range(count):
        connection.reset_stream(_begin(connection), ErrorCodes.CANCEL)
    return connection.data_to_send()


async def _ended(connection: h2.connection.H2Connection, caller: Caller) -> h2.events.ConnectionTerminated:
    """How the server ended the connection, which it closes."""
    with trio.fail_after(5):
        said = connection.receive_data(await caller.rest())
    return next(event for event in said if isinstance(event, h2.events.ConnectionTerminated))


async def _answers(connection: h2.connection.H2Connection, caller: Caller) -> None:
    connection.ping(b"still on")
    await caller.say(connection.data_to_send())
    await caller.until(b"still on")


async def test_streams_may_be_reset_up_to_a_bound() -> None:
    async with serving(Asked()) as served, calling(served.port) as caller:
        connection = _client()
        await caller.say(_begin_and_reset(connection, BOUND))
        await _answers(connection, caller)


async def test_too_many_resets_end_the_connection_and_nothing_beyond_them_is_begun() -> None:
    asked, refused = Asked(), list[InfermuxError]()

    def note(error: InfermuxError, _client: Any) -> None:
        refused.append(error)

    async with serving(asked, refused=note) as served, calling(served.port) as caller:
        connection = _client()
        await caller.say(_begin_and_reset(connection, 3 * BOUND))
        assert (await _ended(connection, caller)).error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert [error.code for error in refused] == ["rate_limited"]
        assert asked.begun <= BOUND + 1
        async with httpx.AsyncClient(http1=False, http2=True, base_url=f"http://127.0.0.1:{served.port}") as other:
            assert (await other.get("/v1/models")).status_code == 200


async def test_what_else_is_under_way_on_the_connection_is_cancelled() -> None:
    left = trio.Event()

    async def handler(exchange: Exchange) -> None:
        try:
            await Asked()(exchange)
        finally:
            left.set()

    async with serving(handler) as served, calling(served.port) as caller:
        connection = _client()
        _begin(connection)
        await caller.say(_begin_and_reset(connection, BOUND + 1))
        await _ended(connection, caller)
        with trio.fail_after(5):
            await left.wait()


async def test_resets_that_the_caller_provokes_count_as_its_own() -> None:
    """CVE-2025-8671: a window beyond its bound makes the server reset the stream."""
    async with serving(Asked()) as served, calling(served.port) as caller:
        connection = _client()
        for _ in range(BOUND + 1):
            overflowing = WindowUpdateFrame(_begin(connection), window_increment=2**31 - 1)
            await caller.say(connection.data_to_send() + overflowing.serialize())
        assert (await _ended(connection, caller)).error_code == ErrorCodes.ENHANCE_YOUR_CALM


def h2_client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(http1=False, http2=True, base_url=f"http://127.0.0.1:{port}", timeout=2)


async def test_http_2_by_prior_knowledge_serves_both() -> None:
    async with serving() as served, h2_client(served.port) as client:
        reply = await client.get("/v1/models")
        assert (reply.http_version, reply.json()["version"]) == ("HTTP/2", "2")
        assert (await client.post(INFERENCE.decode(), content=b"abc")).content == b"3"


async def test_an_aborted_stream_on_http_2_is_reset_after_what_was_sent() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.send_now(b"data")
        await exchange.flush()
        exchange.abort()

    async with serving(handler) as served, h2_client(served.port) as client:
        async with client.stream("POST", INFERENCE.decode(), content=b"x") as reply:
            pieces = reply.aiter_raw()
            assert await anext(pieces) == b"data"
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(pieces)
        assert (await client.get("/v1/models")).status_code == 200


async def test_a_reset_on_http_2_is_the_caller_s_leaving() -> None:
    left = trio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.send_now(b"data")
        await exchange.flush()
        with trio.CancelScope() as scope:
            exchange.watch(scope)
            await trio.sleep_forever()
        left.set()

    async with serving(handler) as served, calling(served.port) as caller:
        connection = h2.connection.H2Connection()
        connection.initiate_connection()
        pseudo = [(":method", "POST"), (":path", INFERENCE.decode()), (":scheme", "http"), (":authority", "x")]
        connection.send_headers(1, pseudo, end_stream=True)
        await caller.say(connection.data_to_send())
        await caller.until(b"data")
        connection.reset_stream(1)
        await caller.say(connection.data_to_send())
        async with within(0.1):
            await left.wait()


async def test_a_caller_on_http_2_that_gives_no_window_is_left_after_the_write_timeout() -> None:
    left = trio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        try:
            while True:
                exchange.send_now(b"x" * 30_000)
                await exchange.flush()
        finally:
            left.set()

    limits = LimitSettings(write_timeout=0.2)
    async with (
        serving(handler, limits=limits) as served,
        h2_client(served.port) as client,
        client.stream("POST", INFERENCE.decode(), content=b"x"),
    ):
        with trio.fail_after(30):
            await left.wait()


async def test_an_http_2_connection_without_requests_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "IDLE_TIMEOUT", 0.1)
    async with serving() as served, calling(served.port) as caller:
        await caller.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        with trio.fail_after(30):
            await caller.rest()
