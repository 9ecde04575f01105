"""The express lane: one task per accepted connection, HTTP/1.1 straight on its wire.

A connection reads a head, checks it, and either calls the inference handler with an `Exchange` or lets `Elsewhere`
(hypercorn) answer this one request. There is no cancel scope, nursery or watcher per request: each connection has one
`deadline` for what it waits for now, a sweeper shared by all of them cuts those that are over it, and the shared
`LeaveWatch` reports callers that hang up.
"""

from __future__ import annotations

import enum
import re
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from math import inf
from typing import Final, Protocol

import attrs
import msgspec
import trio

from infermux.config.settings import LimitSettings
from infermux.errors import InfermuxError, RequestTimeout
from infermux.providers.transport import Stoppable
from infermux.providers.wire import Wire, WireBroken, interrupt

from .answers import MIN_BODY_RATE, Answer, render_headers, run_handler, too_large
from .errors import error_answer
from .exchange import CallerLeft, Handler, Head, IsInference
from .express import ExpressExchange, status_line
from .framing import HTTP2_PREFACE, Again, ParsedHead, check_head, check_partial
from .watch import LeaveWatch, leave_watch

_HEAD_READ = 16384
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
SWEEP_INTERVAL = 0.5  # seconds between two looks at the deadlines: they are exact to this much
IDLE_TIMEOUT = 75.0  # seconds a connection is kept for the next request
LINGER_TIMEOUT = 2.0
"""Seconds for which a refused caller's further bytes are read away, so that the refusal is not lost to a reset."""


class Phase(enum.Enum):
    """What a connection's task waits for; the deadline means something else in each."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    HANDLER = "handler"
    WRITE = "write"
    LINGER = "linger"
    ELSEWHERE = "elsewhere"


# Members of an enum are looked up in Python code, and these at every request.
_IDLE: Final = Phase.IDLE
_HANDLER: Final = Phase.HANDLER


Refused = Callable[[InfermuxError, tuple[str, int] | None], None]
"""Is told what was refused, and of whom: host and port."""


def untold(_error: InfermuxError, _client: tuple[str, int] | None) -> None:
    """Nobody wants to know."""


class Elsewhere(Protocol):
    """Who answers what is not inference."""

    async def answer(self, connection: Connection, head: ParsedHead) -> bool:
        """Answer this request; True when the connection can go on with the next one."""
        ...

    async def take_http2(self, connection: Connection) -> None:
        """Serve HTTP/2 on the connection to its end."""
        ...


@attrs.frozen(kw_only=True)
class Statistics:
    """`connections` are open, of them `idle` wait for a request; `in_flight` requests are in the inference handler."""

    connections: int
    idle: int
    in_flight: int
    requests: int


@attrs.define(eq=False, kw_only=True)
class Lane:
    """What the connections of one server share."""

    handler: Handler
    is_inference: IsInference
    elsewhere: Elsewhere
    limits: LimitSettings = attrs.field(factory=LimitSettings)
    idle_timeout: float = IDLE_TIMEOUT
    sweep_interval: float = SWEEP_INTERVAL
    refused: Refused = untold  # what never became an exchange, and is not elsewhere either
    watch: LeaveWatch = attrs.field(factory=leave_watch)
    leaving: bool = False  # answers close their connections, so that callers go elsewhere
    shutting_down: bool = False
    connections: set[Connection] = attrs.field(factory=set["Connection"], init=False)
    in_flight: int = attrs.field(default=0, init=False)
    requests: int = attrs.field(default=0, init=False)
    last: tuple[Again, Head] | None = attrs.field(default=None, init=False, repr=False)  # read by any connection
    opened: trio.Event = attrs.field(factory=trio.Event, init=False)  # some connection is
    _emptied: trio.Event = attrs.field(factory=trio.Event, init=False)
    _date: int = attrs.field(default=0, init=False)
    _date_lines: bytes = attrs.field(default=b"", init=False)

    def statistics(self) -> Statistics:
        idle, count = sum(each.phase is _IDLE for each in self.connections), len(self.connections)
        return Statistics(connections=count, idle=idle, in_flight=self.in_flight, requests=self.requests)

    async def run(self) -> None:
        """Sweep and watch until cancelled; without it no deadline and no leaving is noticed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            nursery.start_soon(self.watch.run)

    async def _sweep(self) -> None:
        while True:
            if not self.connections:
                self.opened = trio.Event()
                await self.opened.wait()
            await trio.sleep(self.sweep_interval)
            now = trio.current_time()
            for connection in [each for each in self.connections if each.deadline < now]:
                connection.expire()

    def forget(self, connection: Connection) -> None:
        """`connection` is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    async def wait_empty(self) -> None:
        """Return when no connection is open."""
        while self.connections:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def shut_down(self) -> None:
        """Close what is idle; the others close after the answer they are at."""
        self.leaving = self.shutting_down = True
        self.close_idle(inf)

    def close_idle(self, count: float) -> int:
        """Close at most `count` idle connections, those that would time out first; how many were closed."""
        idle = sorted((each for each in self.connections if each.phase is _IDLE), key=lambda each: each.deadline)
        chosen = idle if count == inf else idle[: int(count)]
        for connection in chosen:
            connection.close()
        return len(chosen)

    def date_lines(self) -> bytes:
        """The Date and Server lines of an answer."""
        now = int(time.time())
        if now != self._date:
            self._date = now
            self._date_lines = f"date: {formatdate(now, usegmt=True)}\r\nserver: infermux\r\n".encode()
        return self._date_lines


@attrs.define(eq=False)
class Connection:
    """One accepted connection. Closing it, from any task, ends `serve`."""

    lane: Lane
    wire: Wire
    sock: socket.socket | None = None
    client: tuple[str, int] | None = None
    tls: bool = False
    alpn: str | None = None
    buffer: bytes = attrs.field(default=b"", init=False)
    phase: Phase = attrs.field(default=_IDLE, init=False)
    deadline: float = attrs.field(default=inf, init=False)
    left: bool = attrs.field(default=False, init=False)
    broken: bool = attrs.field(default=False, init=False)
    expired: bool = attrs.field(default=False, init=False)
    stalled: bool = attrs.field(default=False, init=False)
    closed: bool = attrs.field(default=False, init=False)
    leave_callback: Callable[[], None] | None = attrs.field(default=None, init=False)
    _watched: Stoppable | None = attrs.field(default=None, init=False)
    _again: Again | None = attrs.field(default=None, init=False)
    _head: Head | None = attrs.field(default=None, init=False)  # of `_again`
    _body_deadline: float = attrs.field(default=inf, init=False)
    _now: Callable[[], float] = attrs.field(default=trio.current_time, init=False)

    def __repr__(self) -> str:
        return f"Connection({self.client}, {self.phase.value}{', closed' if self.closed else ''})"

    async def serve(self) -> None:
        """Serve requests until one side is done. The connection is closed in every case."""
        self.lane.connections.add(self)
        self._now = trio.lowlevel.current_clock().current_time  # the same with two calls less
        self.lane.opened.set()
        if self.sock is not None:
            self.lane.watch.add(self.sock, self.on_left)
        try:
            if self.alpn == "h2":
                await self._http2()
            else:
                self._wait_for(_IDLE, self.lane.limits.header_timeout)
                while (found := await self._next_request()) is not None:
                    (parsed, head), found = found, None
                    if not await (self._answer(parsed, head) if head else self.lane.elsewhere.answer(self, parsed)):
                        break
                    self._wait_for(_IDLE, self.lane.idle_timeout)
        except WireBroken:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close at once; whoever waits on the connection is told. Idempotent."""
        if self.closed:
            return
        self.closed = self.broken = True
        self.deadline = inf
        self.lane.forget(self)
        if self.sock is not None:  # before the descriptor's number can be given to another socket
            self.lane.watch.remove(self.sock)
        self.wire.close()

    # What the connection waits for, and since when.

    def _wait_for(self, phase: Phase, seconds: float) -> None:
        self.phase = phase
        self.deadline = self._now() + seconds

    def expect_body(self, received: int) -> None:
        """A body is awaited, of which `received` bytes are here already."""
        if self.phase is not Phase.BODY:
            self._wait_for(Phase.BODY, self.lane.limits.header_timeout)
            self._body_deadline = self.deadline
        self.deadline = self._body_deadline + received / MIN_BODY_RATE

    def expect_piece(self, seconds: float) -> None:
        """More of a body is awaited, for at most `seconds`."""
        self._wait_for(Phase.BODY, seconds)

    def expect_write(self) -> None:
        """The caller has `write_timeout` to take more of the answer."""
        self._wait_for(Phase.WRITE, self.lane.limits.write_timeout)

    def expect_nothing(self) -> None:
        """Only the handler is awaited, as long as it likes."""
        self.phase = _HANDLER
        self.deadline = inf

    def expire(self) -> None:
        """The deadline has passed: cut what was waited for."""
        self.deadline = inf
        if self.phase is Phase.BODY:
            self.expired = True  # the handler still answers, with 408 in its own dialect
            self.interrupt()
            return
        if self.phase is Phase.HEAD:
            self._refuse(RequestTimeout("The request's head came too slowly."))
        self.expired, self.stalled = True, self.phase is Phase.WRITE
        self.on_left()
        self.close()

    def interrupt(self) -> None:
        """Wake whoever waits on the wire, with WireBroken. A socket stays usable: for an answer, a lingering close."""
        if self.sock is None:
            self.wire.close()
        elif not self.closed:
            interrupt(self.sock)

    # The caller's leaving.

    def watch(self, scope: Stoppable | None) -> None:
        self._watched = scope
        if scope is not None and self.left:
            scope.cancel()

    def on_left(self) -> None:
        """The caller has hung up."""
        self.left = True
        if self._watched is not None:
            self._watched.cancel()
        if self.leave_callback is not None:
            self.leave_callback()

    def broke(self) -> None:
        """A write failed: nothing reaches the caller any more."""
        self.broken = True
        self.on_left()

    # Requests.

    def take(self, count: int) -> bytes:
        """The first `count` bytes of what was read ahead."""
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def _next_request(self) -> tuple[ParsedHead, Head | None] | None:
        """The next request's head, in both forms where it is inference; None: there is none."""
        try:
            raw = await self._read_head()
            if not raw:
                return None
            if raw == HTTP2_PREFACE:
                self.buffer = raw + self.buffer
                await self._http2()
                return None
            known = self._known(raw)
            if known is not None:
                return known
            head = check_head(raw)
            path, _, query = head.target.partition(b"?")
            if self.lane.is_inference(head.method, path):
                self._again = Again(raw, head)
                self._head = Head(head.method, path, query, head.headers, self.client)
                self.lane.last = self._again, self._head
                return head, self._head
            if head.length is not None and head.length > self.lane.limits.max_body_bytes:
                raise too_large(self.lane.limits.max_body_bytes)
        except InfermuxError as refusal:
            self._refuse(refusal)
            await self.linger()
            return None
        self.phase, self.deadline = Phase.ELSEWHERE, inf
        return head, None

    def _known(self, raw: bytes) -> tuple[ParsedHead, Head] | None:
        """A head like the last one, of this connection or at first of any: 5000 copies of one are several megabytes."""
        again, head = self._again, self._head
        if again is None and self.lane.last is not None:
            again, head = self.lane.last[0], self.lane.last[1].of_client(self.client)
        if again is None or head is None:
            return None
        if raw == again.raw:
            found = again.parsed, head
        elif (length := again.length_of(raw)) is not None:
            found = msgspec.structs.replace(again.parsed, length=int(length)), head.of_length(length)
        else:
            return None
        self._again, self._head = again, head
        return found

    async def _read_head(self) -> bytes:
        """The next head with its empty line, b"" when the caller is done."""
        seen = 0
        while True:
            if self.buffer:
                if self.buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request line are skipped
                    self.buffer = _EMPTY_LINES.sub(b"", self.buffer, count=1)
                end = self.buffer.find(b"\r\n\r\n", seen - 3 if seen > 3 else 0)
                if end >= 0:
                    return self.take(end + 4)
            if self.buffer:
                if self.phase is _IDLE:
                    self._wait_for(Phase.HEAD, self.lane.limits.header_timeout)
                if self.buffer != b"\r":
                    check_partial(self.buffer, seen)
            seen = len(self.buffer)
            data = await self.wire.receive(_HEAD_READ)
            if not data:
                return b""
            self.buffer = self.buffer + data if self.buffer else data

    async def _answer(self, parsed: ParsedHead, head: Head) -> bool:
        lane = self.lane
        self.expect_nothing()
        exchange = ExpressExchange(self, parsed, head)
        lane.in_flight += 1
        lane.requests += 1
        try:
            await run_handler(lane.handler, exchange)
        except CallerLeft:
            return False
        finally:
            self._watched = None
            lane.in_flight -= 1
        if exchange.reusable:
            return True
        if exchange.answer is Answer.DONE and (exchange.body_unread or self.buffer):
            await self.linger()
        return False

    async def _http2(self) -> None:
        self.phase, self.deadline = Phase.ELSEWHERE, inf
        await self.lane.elsewhere.take_http2(self)

    def _refuse(self, error: InfermuxError) -> None:
        """Answer a request that never became an exchange. What does not fit the socket's buffer is lost."""
        self.lane.refused(error, self.client)
        headers, body = error_answer(error)
        framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        head = b"%b%b%b%b\r\n" % (status_line(error.status), self.lane.date_lines(), render_headers(headers), framing)
        try:
            self.wire.send_now(head + body)
        except WireBroken:
            self.broke()

    async def linger(self) -> None:
        """End our side and read the caller's bytes away: closing on unread ones would reset the answer on its way."""
        if self.broken:
            return
        self._wait_for(Phase.LINGER, LINGER_TIMEOUT)
        self.buffer = b""
        self.wire.send_eof()
        while await self.wire.receive():
            pass
