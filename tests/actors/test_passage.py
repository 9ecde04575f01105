from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from math import inf
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from infermux.actors.alarms import Alarms
from infermux.actors.attempt import Attempt
from infermux.actors.passage import Sink
from infermux.actors.pump import pump
from infermux.errors import CallerLeft, FailureKind, UpstreamFailure
from infermux.providers.arrivals import Arrivals, Polled
from infermux.providers.transport import Stoppable
from tests.actors._scripted import Person


class Coming(Polled):
    """A stream on a socket: what it receives, up to a line that says `end`, `break` or `bug`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.last: bytes | None = None
        self.waits = 0
        self.left: list[bytes] = []  # what is there at its end

    def descriptor(self) -> int | None:
        return self.sock.fileno()

    @property
    def over(self) -> bool:
        return self.last is not None

    def receive_now(self) -> bytes:
        data = self.sock.recv(1000)
        if data == b"bug":
            raise KeyError("bug")
        if data in (b"end", b"break"):
            self.last = data
            return b""
        return data

    async def receive(self) -> bytes | None:
        self.waits += 1
        if self.last is None:
            await trio.lowlevel.wait_readable(self.sock)
            data = self.receive_now()
            if data:
                return data
        if self.left:
            return self.left.pop(0)
        if self.last == b"break":
            raise UpstreamFailure(FailureKind.BROKEN, "broke")
        return None


@attrs.define(eq=False)
class Reader:
    """Takes what it is sent; `full` for as many times as it says so."""

    taken: list[bytes] = attrs.field(factory=list[bytes])
    full: int = 0
    flushed: int = 0
    bug: Exception | None = None

    def send_now(self, data: bytes) -> bool:
        if self.bug is not None:
            raise self.bug
        self.taken.append(data)
        if self.full:
            self.full -= 1
            return False
        return True

    async def flush(self) -> None:
        self.flushed += 1


class Revocable:
    """As much of a lease as there is to a stream."""

    provider = "p"

    def __init__(self, idle: float) -> None:
        self.settings = SimpleNamespace(timeouts=SimpleNamespace(idle=idle, total=None))
        self.revoked: str | None = None
        self.scope: Stoppable | None = None

    def run_in(self, scope: Stoppable) -> None:
        self.scope = scope
        if self.revoked is not None:
            scope.cancel()

    def revoke(self) -> None:
        self.revoked = "a test"
        assert self.scope is not None
        self.scope.cancel()


def _silent(now: float) -> UpstreamFailure:
    return UpstreamFailure(FailureKind.IDLE_TIMEOUT, f"nothing came until {now}")


def attempt_of(stream: Coming, idle: float = 60.0, last: float = inf) -> Attempt:
    lease: Any = Revocable(idle)
    attempt: Any = SimpleNamespace(lease=lease, stream=stream, held=b"first", last_moment=last)
    attempt.next = stream.receive
    attempt.why_stalled = _silent
    return cast("Attempt", attempt)


class Pumped:
    """A pump that runs: its provider's socket, who may end it, and what it came to."""

    def __init__(self, here: socket.socket, there: socket.socket, *, idle: float, last: float) -> None:
        self.there = there
        self.stream = Coming(here)
        self.attempt = attempt_of(self.stream, idle, last)
        self.caller = Person()
        self.arrivals, self.alarms = Arrivals(), Alarms()
        self.ends: list[Any] = []
        self.stop: Callable[[], None] = lambda: None

    @property
    def lease(self) -> Revocable:
        return cast("Revocable", self.attempt.lease)

    async def run(self, sink: Sink, scope: trio.CancelScope) -> None:
        self.stop = scope.cancel
        try:
            self.ends.append(await pump(self.attempt, sink, self.caller, self.arrivals, self.alarms))
        except (ZeroDivisionError, CallerLeft) as error:
            self.ends.append(error)
        scope.cancel()


@asynccontextmanager
async def streaming(sink: Sink, *, idle: float = 60.0, last: float = inf) -> AsyncGenerator[Pumped]:
    here, there = socket.socketpair()
    here.setblocking(False)
    pumped = Pumped(here, there, idle=idle, last=last)
    with here, there, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pumped.arrivals.run)
            nursery.start_soon(pumped.alarms.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(pumped.run, sink, nursery.cancel_scope)
            yield pumped
    assert len(pumped.arrivals) == len(pumped.alarms) == 0
    assert pumped.caller.scope is None


async def say(there: socket.socket, *pieces: bytes) -> None:
    """Each when the one before it was read: two that wait together would be read as one."""
    for piece in pieces:
        there.send(piece)
        await trio.sleep(0.002)
        while struct.unpack("i", fcntl.ioctl(there, termios.TIOCOUTQ, bytes(4))) != (0,):  # noqa: ASYNC110 - no event
            await trio.sleep(0.001)


async def test_bytes_are_handed_on_without_waking_the_task_until_the_end() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        await say(pumped.there, b"a", b"b", b"c", b"end")
    assert reader.taken == [b"first", b"a", b"b", b"c"]
    assert pumped.ends == [None]
    assert pumped.stream.waits == 1
    assert reader.flushed == 0


async def test_a_failure_is_told_after_what_came_before_it() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        await say(pumped.there, b"a", b"break")
    assert reader.taken == [b"first", b"a"]
    assert pumped.ends[0].kind is FailureKind.BROKEN


async def test_a_slow_reader_is_flushed_by_the_task_and_then_goes_on() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        await say(pumped.there, b"a")
        reader.full = 1
        await say(pumped.there, b"b", b"c", b"d", b"end")
    assert reader.taken == [b"first", b"a", b"b", b"c", b"d"]
    assert reader.flushed == 1
    assert pumped.ends == [None]


async def test_a_bug_of_the_adapter_is_a_failure_of_its_provider() -> None:
    async with streaming(Reader()) as pumped:
        await say(pumped.there, b"a", b"bug")
    assert pumped.ends[0].kind is FailureKind.MALFORMED


async def test_what_the_sink_raises_comes_out() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        await say(pumped.there, b"a")
        reader.bug = ZeroDivisionError()
        await say(pumped.there, b"b")
    assert pumped.ends == [reader.bug]


@pytest.mark.slow
async def test_only_silence_is_an_idle_timeout_however_long_the_stream_lasts() -> None:
    reader = Reader()
    async with streaming(reader, idle=0.7) as pumped:
        for _ in range(8):
            await trio.sleep(0.1)
            await say(pumped.there, b"a")
        spoke = trio.current_time()
    assert reader.taken == [b"first", *[b"a"] * 8]
    assert pumped.ends[0].kind is FailureKind.IDLE_TIMEOUT
    assert trio.current_time() - spoke > 0.69


async def until_open(pumped: Pumped) -> None:
    while not len(pumped.arrivals):  # noqa: ASYNC110 - it tells nobody
        await trio.sleep(0.001)


async def test_a_caller_that_leaves_ends_it_at_once() -> None:
    async with streaming(Reader()) as pumped:
        await until_open(pumped)
        pumped.caller.leave()
    assert isinstance(pumped.ends[0], CallerLeft)


async def test_a_caller_that_had_left_is_not_waited_for() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        pumped.caller.left = True
    assert isinstance(pumped.ends[0], CallerLeft)


async def test_a_lease_that_is_revoked_ends_it_at_once() -> None:
    async with streaming(Reader()) as pumped:
        await until_open(pumped)
        pumped.lease.revoke()
    assert isinstance(pumped.ends[0], UpstreamFailure)


async def test_its_last_moment_comes_however_much_comes_before() -> None:
    async with streaming(Reader(), last=trio.current_time() + 0.05) as pumped:
        while not pumped.ends:
            await say(pumped.there, b"a")
    assert isinstance(pumped.ends[0], UpstreamFailure)


async def test_an_alarm_without_a_reason_is_set_anew() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        await until_open(pumped)
        cast("Any", pumped.lease.scope).cancel()
        assert len(pumped.alarms) == 1
        await say(pumped.there, b"a", b"end")
    assert reader.taken == [b"first", b"a"]
    assert pumped.ends == [None]


async def test_who_leaves_while_it_is_flushed_ends_it() -> None:
    class Stuck(Reader):
        async def flush(self) -> None:
            pumped.caller.leave()
            await trio.sleep_forever()

    async with streaming(Stuck(full=1)) as pumped:
        pass
    assert isinstance(pumped.ends[0], CallerLeft)


async def test_it_is_cancelled_from_outside_as_any_wait_is() -> None:
    async with streaming(Reader()) as pumped:
        await until_open(pumped)
        pumped.there.send(b"a")
        pumped.stop()
    assert pumped.ends == []


async def test_what_is_left_of_a_stream_that_is_over_is_sent_before_its_end() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        pumped.stream.left = [b"x", b"y"]
        await say(pumped.there, b"a", b"end")
    assert reader.taken == [b"first", b"a", b"x", b"y"]
    assert pumped.ends == [None]


async def test_a_slow_reader_is_flushed_before_the_end_too() -> None:
    reader = Reader()
    async with streaming(reader) as pumped:
        await until_open(pumped)
        pumped.stream.left = [b"x", b"y"]
        await say(pumped.there, b"a")
        reader.full = 2
        await say(pumped.there, b"end")
    assert reader.taken == [b"first", b"a", b"x", b"y"]
    assert reader.flushed == 2
    assert pumped.ends == [None]
