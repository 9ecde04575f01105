"""HTTP/2's rapid reset (CVE-2023-44487): streams that are begun and reset at once, so that no bound of open ones holds.

How many there may be on one connection is tested in tests/http/test_http2.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
import trio

from infermux.http.http2 import RESETS_A_MINUTE
from tests.e2e._attacks import BODY
from tests.e2e._router import WAYS
from tests.security._siege import LONG, MIB, Siege, besieged, certified

pytestmark = pytest.mark.slow

RESETS = 20_000 if LONG else 1000
BATCH = 50
ATTACKS = [(way, whole) for way in WAYS for whole in (False, True)] if LONG else [("serve", True)]
HEADERS = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/v1/chat/completions"),
    (":authority", "localhost"),
    ("content-type", "application/json"),
]


@pytest.mark.parametrize(("way", "whole"), ATTACKS)
async def test_streams_that_are_reset_at_once_leave_nothing(way: str, whole: bool, tmp_path: Path) -> None:
    if way == "asgi":  # h2c, by prior knowledge
        async with besieged(way) as siege:  # where hypercorn bounds the requests of a connection
            await _attacked(siege, await trio.open_tcp_stream("127.0.0.1", siege.process.port), whole=whole)
        return
    trusted, section = certified(tmp_path)
    async with besieged(way, verify=trusted, **section) as siege:
        trusted.set_alpn_protocols(["h2"])
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", siege.process.port, ssl_context=trusted)
        await _attacked(siege, stream, whole=whole)
        metrics = (await siege.web.get("/_infermux/metrics")).text
        found = re.search(r"^infermux_refused\S*\{.*rate_limited.*\} (\S+)$", metrics, re.MULTILINE)
        assert found is not None, "it was ended, and that was told"
        assert float(found[1]) == 1
        assert len(siege.upstream.chats) < RESETS_A_MINUTE + 50, "what came after the bound was not begun"


async def _attacked(siege: Siege, stream: trio.abc.Stream, *, whole: bool) -> None:
    connection = await _greeted(stream)
    began = siege.cpu()
    async with siege.bounded(16 * MIB):
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_read, stream)
            nursery.start_soon(_reset_rapidly, connection, stream, whole)
            await siege.serves()
        await siege.quiet()
        await siege.settled()
    print(f"{(siege.cpu() - began) / RESETS * 1e6:.0f} us of CPU a reset")


async def _greeted(stream: trio.abc.Stream) -> h2.connection.H2Connection:
    """A connection whose other side has said that it speaks HTTP/2."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    await stream.send_all(connection.data_to_send())
    settings: list[h2.events.Event] = []
    while not settings:
        said = connection.receive_data(await stream.receive_some(65536))
        settings = [event for event in said if isinstance(event, h2.events.RemoteSettingsChanged)]
    return connection


async def _reset_rapidly(connection: h2.connection.H2Connection, stream: trio.abc.Stream, whole: bool) -> None:
    """As many as go on the connection before it is closed."""
    try:
        for number in range(1, RESETS + 1):
            stream_id = connection.get_next_available_stream_id()
            connection.send_headers(stream_id, HEADERS)
            if whole and connection.local_flow_control_window(stream_id) > len(BODY):
                connection.send_data(stream_id, BODY, end_stream=True)
            connection.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
            if number % BATCH == 0:
                await stream.send_all(connection.data_to_send())
        await stream.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _read(stream: trio.abc.Stream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
