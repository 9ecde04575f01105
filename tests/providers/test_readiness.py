"""Sockets that stay registered: what is there is never missed, and nothing is armed anew."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from infermux.providers.arrivals import Arrivals, running
from infermux.providers.readiness import Readiness
from infermux.providers.wire import SocketWire, WireBroken, accepted, connect, interrupt
from infermux.watchdog import HOLD, Watchdog


@asynccontextmanager
async def looked_after() -> AsyncGenerator[tuple[SocketWire, SocketWire, Arrivals]]:
    """Two ends of a connection, the first of which has been waited for."""
    arrivals = Arrivals()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            await trio.testing.wait_all_tasks_blocked()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                here = await connect("127.0.0.1", listener.getsockname()[1])
                there = accepted(listener.accept()[0])
            nursery.start_soon(there.send, b"first")
            assert await here.receive() == b"first"
            try:
                yield here, there, arrivals
            finally:
                here.close()
                there.close()
                nursery.cancel_scope.cancel()


async def test_what_comes_wakes_who_waits_and_what_is_there_needs_no_wait() -> None:
    async with looked_after() as (here, there, _), trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(there.send, b"%d" % number)
            assert await here.receive() == b"%d" % number
        there.send_now(b"one")
        there.send_now(b"two")
        got = b""
        while len(got) < 6:
            got += await here.receive(2)
        assert got == b"onetwo"


async def test_the_end_is_told_however_it_comes() -> None:
    async with looked_after() as (here, there, _), trio.open_nursery() as nursery:
        there.send_now(b"last words")
        there.send_eof()
        assert await here.receive() == b"last words"
        assert await here.receive() == b""
        assert await here.receive() == b""
        nursery.start_soon(here.send, b"x")
        assert await there.receive() == b"x"


async def test_an_end_that_comes_later_wakes_who_waits() -> None:
    async with looked_after() as (here, there, _), trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.testing.wait_all_tasks_blocked()
            there.send_eof()

        nursery.start_soon(end)
        assert await here.receive() == b""


async def test_any_pieces_read_in_any_sizes_are_the_bytes_that_were_sent() -> None:
    rng = random.Random(1)
    data = rng.randbytes(400_000)
    async with looked_after() as (here, there, _), trio.open_nursery() as nursery:

        async def send() -> None:
            at = 0
            while at < len(data):
                size = rng.choice([1, 100, 5000, 60_000])
                await there.send(data[at : at + size])
                at += size
                if rng.random() < 0.3:
                    await trio.lowlevel.checkpoint()
            there.send_eof()

        nursery.start_soon(send)
        got = bytearray()
        while piece := await here.receive(rng.choice([1, 100, 5000, 65536])):
            got += piece
            if rng.random() < 0.2:
                got += here.receive_now(1000) or b""
        assert bytes(got) == data


async def test_waiting_is_until_something_is_there_and_not_for_what_was_read() -> None:
    async with looked_after() as (here, there, _):
        there.send_now(b"x")
        await here.wait_readable()
        await here.wait_readable()
        assert here.readable()
        assert here.receive_now() == b"x"
        assert here.receive_now() is None
        with trio.move_on_after(0.05) as scope:
            await here.wait_readable()
        assert scope.cancelled_caught
        there.send_now(b"y")
        assert await here.receive() == b"y"


async def test_who_waits_is_interrupted_and_the_socket_stays_usable() -> None:
    async with looked_after() as (here, there, arrivals):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(WireBroken):
                    await here.receive()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            interrupt(here.socket)
        there.send_now(b"x")
        assert await here.receive() == b"x"
        arrivals.interrupt(-1)


async def test_closing_tells_who_waits_and_leaves_nothing_registered() -> None:
    async with looked_after() as (here, _, arrivals):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(WireBroken):
                    await here.receive()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            here.close()
        arrivals.drop(here.socket.fileno())
        with pytest.raises(WireBroken):
            await here.receive()


@pytest.mark.parametrize("wait", [SocketWire.receive, SocketWire.wait_readable])
async def test_who_was_woken_when_it_was_closed_is_told_so(wait: Callable[[SocketWire], Awaitable[object]]) -> None:
    for _ in range(2):  # what is left behind would be seen by the next one
        async with looked_after() as (here, there, arrivals), trio.open_nursery() as nursery:

            async def refused() -> None:
                with pytest.raises(WireBroken):
                    await wait(here)

            nursery.start_soon(refused)
            await trio.testing.wait_all_tasks_blocked()
            there.send_now(b"x")
            arrivals.before_io_wait(0)
            here.close()


async def test_two_tasks_cannot_read_at_once() -> None:
    async with looked_after() as (here, _, _), trio.open_nursery() as nursery:
        nursery.start_soon(here.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await here.receive()
        nursery.cancel_scope.cancel()


async def test_a_stream_may_be_called_for_a_while() -> None:
    async with looked_after() as (here, there, arrivals):
        got: list[bytes | None] = []
        called = trio.Event()

        def call(_now: float) -> bool:
            got.append(here.receive_now())
            called.set()
            return True

        descriptor = here.socket.fileno()
        assert arrivals.add(descriptor, call)
        there.send_now(b"to the call")
        await called.wait()
        arrivals.remove(descriptor)
        there.send_now(b"to the task")
        assert await here.receive() == b"to the task"
        assert got == [b"to the call"]


async def test_when_nobody_looks_after_it_any_more_the_wait_goes_on() -> None:
    arrivals = Arrivals()
    with trio.fail_after(30):
        async with trio.open_nursery() as outer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(arrivals.run)
                await trio.testing.wait_all_tasks_blocked()
                assert running() is arrivals
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    here = await connect("127.0.0.1", listener.getsockname()[1])
                    there = accepted(listener.accept()[0])
                got: list[bytes] = []

                async def receive() -> None:
                    for _ in range(2):
                        got.append(await here.receive())

                outer.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert running() is None
            await trio.testing.wait_all_tasks_blocked()
            there.send_now(b"one")
            while not got:
                await trio.sleep(0.01)
            there.send_now(b"two")
        assert got == [b"one", b"two"]
        here.close()
        there.close()


async def test_only_one_looks_after_arrivals_in_a_run() -> None:
    async with looked_after() as (_, _, arrivals), trio.open_nursery() as nursery:
        other = Arrivals()
        nursery.start_soon(other.run)
        await trio.testing.wait_all_tasks_blocked()
        assert running() is arrivals
        assert other.keep(0) is None


async def test_waiting_for_connections_is_no_hold_where_it_is_asked_last() -> None:
    async with looked_after() as (_, _, arrivals):
        watchdog = Watchdog()
        with watchdog.watching():
            arrivals.be_last()
            await trio.sleep(HOLD * 1.5)
        assert watchdog.holds == 0
        assert repr(Readiness()) == "Readiness(nothing)"
