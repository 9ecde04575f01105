from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from infermux.actors.attempt import Attempt
from infermux.actors.caller import Anyone
from infermux.actors.passage import Sink
from infermux.actors.pump import pump
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.arrivals import Arrivals, Polled


class Coming(Polled):
    """A stream on a socket: what it receives, up to a line that says `end`, `break` or `bug`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.last: bytes | None = None
        self.waits = 0

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


def _nothing(_scope: object) -> None:
    """Nobody revokes its lease."""


def _silent(now: float) -> UpstreamFailure:
    return UpstreamFailure(FailureKind.IDLE_TIMEOUT, f"nothing came until {now}")


def attempt_of(stream: Coming, idle: float = 60.0) -> Attempt:
    timeouts = SimpleNamespace(idle=idle, total=None)
    lease: Any = SimpleNamespace(
        settings=SimpleNamespace(timeouts=timeouts), revoked=None, provider="p", run_in=_nothing
    )
    attempt: Any = SimpleNamespace(lease=lease, stream=stream, held=b"first", last_moment=float("inf"))
    attempt.next = stream.receive
    attempt.why_stalled = _silent
    return cast("Attempt", attempt)


@asynccontextmanager
async def streaming(sink: Sink, idle: float = 60.0) -> AsyncGenerator[tuple[Coming, socket.socket, list[Any]]]:
    """A pump that runs, its provider's socket, and what it came to."""
    here, there = socket.socketpair()
    here.setblocking(False)
    arrivals, ends = Arrivals(), list[Any]()
    stream = Coming(here)

    async def run(scope: trio.CancelScope) -> None:
        try:
            ends.append(await pump(attempt_of(stream, idle), sink, Anyone(), arrivals))
        except ZeroDivisionError as error:
            ends.append(error)
        scope.cancel()

    with here, there, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(run, nursery.cancel_scope)
            yield stream, there, ends
    assert len(arrivals) == 0


async def say(there: socket.socket, *pieces: bytes) -> None:
    for piece in pieces:
        there.send(piece)
        await trio.sleep(0.002)


async def test_bytes_are_handed_on_without_waking_the_task_until_the_end() -> None:
    reader = Reader()
    async with streaming(reader) as (stream, there, ends):
        await say(there, b"a", b"b", b"c", b"end")
    assert reader.taken == [b"first", b"a", b"b", b"c"]
    assert ends == [None]
    assert stream.waits == 1
    assert reader.flushed == 0


async def test_a_failure_is_told_after_what_came_before_it() -> None:
    reader = Reader()
    async with streaming(reader) as (_, there, ends):
        await say(there, b"a", b"break")
    assert reader.taken == [b"first", b"a"]
    assert ends[0].kind is FailureKind.BROKEN


async def test_a_slow_reader_is_flushed_by_the_task_and_then_goes_on() -> None:
    reader = Reader()
    async with streaming(reader) as (_, there, ends):
        await say(there, b"a")
        reader.full = 1
        await say(there, b"b", b"c", b"d", b"end")
    assert reader.taken == [b"first", b"a", b"b", b"c", b"d"]
    assert reader.flushed == 1
    assert ends == [None]


async def test_a_bug_of_the_adapter_is_a_failure_of_its_provider() -> None:
    async with streaming(Reader()) as (_, there, ends):
        await say(there, b"a", b"bug")
    assert ends[0].kind is FailureKind.MALFORMED


async def test_what_the_sink_raises_comes_out() -> None:
    reader = Reader()
    async with streaming(reader) as (_, there, ends):
        await say(there, b"a")
        reader.bug = ZeroDivisionError()
        await say(there, b"b")
    assert ends == [reader.bug]


@pytest.mark.slow
async def test_only_silence_is_an_idle_timeout_however_long_the_stream_lasts() -> None:
    reader = Reader()
    async with streaming(reader, idle=0.3) as (_, there, ends):
        for _ in range(6):
            await trio.sleep(0.1)
            there.send(b"a")
        spoke = trio.current_time()
    assert reader.taken == [b"first", *[b"a"] * 6]
    assert ends[0].kind is FailureKind.IDLE_TIMEOUT
    assert 0.29 < trio.current_time() - spoke < 1
