"""HTTP/2 connections: hypercorn's handling of them, with the gaps closed that it leaves.

Undocumented classes of hypercorn are relied upon; the version is pinned, tests/http/test_http2.py pins what is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import trio
from h2.errors import ErrorCodes
from h2.events import Event as H2Event
from h2.events import StreamReset
from h2.exceptions import ProtocolError
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from infermux.actors.bucket import TokenBucket

ServerArguments = tuple[Any, Config, WorkerContext, Any, Any]
"""Of `TCPServer`: the wrapped application, configuration, context, lifespan state, stream."""

RESETS_A_MINUTE = 500
"""Streams a caller may reset on one connection: so many at once, and as many a minute. It may have 100 open."""


class Http2(TCPServer):
    """One connection, from its preface to its end; `too_many_resets` is told when it is closed for them.

    A stream whose application ended without ending its answer is reset: for HTTP/1.1 hypercorn closes the connection
    then, on HTTP/2 it does nothing, and the caller would wait for ever. And reading the preface does not stop the idle
    timer, which otherwise would not run before the first request has ended. But that timer does not hold a connection
    whose caller has left.
    """

    def __init__(self, arguments: ServerArguments, *, tls: bool, too_many_resets: Callable[[], None]) -> None:
        super().__init__(*arguments)
        self._tls = tls
        self._too_many_resets = too_many_resets

    async def run(self) -> None:
        """As hypercorn's does, but it is HTTP/2 that is spoken here: its handshake or its preface have shown it."""
        sock = self.stream.socket
        try:
            client, server = (parse_socket_addr(sock.family, at) for at in (sock.getpeername(), sock.getsockname()))
            async with TaskGroup() as tasks:
                self._task_group = tasks
                about = self.app, self.config, self.context, tasks, ConnectionState(self.state), self._tls
                self._http2 = _Calm(*about, client, server, self.protocol_send, too_many_resets=self._too_many_resets)
                self.protocol = cast(Any, self._http2)  # where hypercorn has a wrapper that finds the version out
                await self.protocol.initiate()
                await self.idle_task.restart(tasks, self._idle_timeout)  # pyright: ignore[reportUnknownMemberType]
                await self._read_data()
        except OSError:
            pass
        finally:
            await self._close()

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            await _reset_abandoned(self._http2)
        await super().protocol_send(event)


class _Calm(H2Protocol):
    """Ends a connection on which too many streams are reset (CVE-2023-44487), with ENHANCE_YOUR_CALM.

    A reset stream counts against no bound of streams any more, so one connection could begin as many as it likes. Those
    that the caller makes us reset (CVE-2025-8671) count as well. The bound is a bucket, as in nghttp2
    (`nghttp2_option_set_stream_reset_rate_limit`, 1000 and 33 a second); of what comes in one read nothing beyond it
    is begun.
    """

    def __init__(self, *arguments: Any, too_many_resets: Callable[[], None]) -> None:
        super().__init__(*arguments)
        self._too_many_resets = too_many_resets
        self._resets = TokenBucket(RESETS_A_MINUTE)

    async def _handle_events(self, events: list[H2Event]) -> None:
        now = trio.current_time()
        for number, event in enumerate(events):
            if isinstance(event, StreamReset) and not self._resets.take(1, now):
                await super()._handle_events(events[:number])
                await self._give_up()
                return
        await super()._handle_events(events)

    async def _give_up(self) -> None:
        self._too_many_resets()
        self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        await self._flush()
        await self.send(Closed())


async def _reset_abandoned(protocol: H2Protocol) -> None:
    for stream_id in protocol.stream_buffers.keys() - protocol.streams.keys():
        buffer = protocol.stream_buffers[stream_id]
        if buffer._complete:  # pyright: ignore[reportPrivateUsage]
            continue
        if buffer.buffer:
            await buffer.drain()  # what the application did send goes first; on a dead connection it is set as well
        try:
            protocol.connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        except ProtocolError:
            continue  # the caller has reset it itself
        await buffer.close()
        await protocol.send(RawData(protocol.connection.data_to_send()))
