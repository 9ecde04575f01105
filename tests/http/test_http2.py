"""HTTP/2 connections: a caller may reset streams, but not without bound (CVE-2023-44487, CVE-2025-8671)."""

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

from infermux.errors import InfermuxError
from infermux.http import http2
from infermux.http.exchange import Exchange
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
