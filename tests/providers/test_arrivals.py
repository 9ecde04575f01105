from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
from trio.testing import MockClock

from infermux.providers.arrivals import BURST, Arrivals
from infermux.watchdog import HOLD, Watchdog


@contextmanager
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


@asynccontextmanager
async def running() -> AsyncGenerator[Arrivals]:
    arrivals = Arrivals()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrivals.run)
        await trio.testing.wait_all_tasks_blocked()
        yield arrivals
        nursery.cancel_scope.cancel()


async def test_who_is_added_is_called_for_what_is_there_and_for_what_comes() -> None:
    with pair() as (here, there), trio.fail_after(5):
        async with running() as arrivals:
            got: list[bytes] = []
            woken = trio.Event()

            def call(now: float) -> bool:
                assert now <= trio.current_time()
                got.append(here.recv(100))
                if len(got) == 1:
                    there.send(b"second")
                    return False
                woken.set()
                return True

            there.send(b"first")
            assert arrivals.add(here.fileno(), call)
            await woken.wait()
            assert got == [b"first", b"second"]


async def test_who_was_removed_is_not_called_and_another_of_the_same_burst_may_remove_it() -> None:
    with pair() as (here, there), pair() as (other, other_there), trio.fail_after(5):
        async with running() as arrivals:
            called: list[str] = []

            def call_of(name: str, mine: socket.socket, others: socket.socket) -> None:
                def call(_now: float) -> bool:
                    called.append(name)
                    arrivals.remove(mine.fileno())
                    arrivals.remove(others.fileno())
                    return False

                arrivals.add(mine.fileno(), call)

            there.send(b"x")
            other_there.send(b"x")
            call_of("one", here, other)
            call_of("other", other, here)
            await trio.sleep(0.01)
            assert len(called) == 1
            assert len(arrivals) == 0


async def test_the_loop_goes_on_when_its_time_has_come_and_when_something_else_is_there() -> None:
    with pair() as (silent, _), pair() as (here, there), trio.fail_after(5):
        async with running() as arrivals:
            arrivals.add(silent.fileno(), lambda _: False)
            await trio.sleep(0.01)
            there.send(b"x")
            await trio.lowlevel.wait_readable(here)
            assert await trio.to_thread.run_sync(lambda: "from a thread") == "from a thread"


async def test_a_task_that_a_call_wakes_by_other_means_does_not_wait_for_the_loop() -> None:
    """Whatever it tells: an event that is set, a channel that is sent to, a scope that is cancelled."""
    with pair() as (here, there), trio.fail_after(30):
        async with running() as arrivals, trio.open_nursery() as nursery:
            event, woken = trio.Event(), trio.Event()

            async def follow() -> None:
                await event.wait()
                woken.set()

            def call(_now: float) -> bool:
                here.recv(100)
                event.set()
                return False

            nursery.start_soon(follow)
            arrivals.add(here.fileno(), call)
            await trio.testing.wait_all_tasks_blocked()
            there.send(b"x")
            with trio.move_on_after(15) as late:
                await woken.wait()
            assert not late.cancelled_caught


async def test_streams_that_always_have_something_leave_the_loop_its_turn() -> None:
    with pair() as (here, there), trio.fail_after(5):
        async with running() as arrivals:
            there.send(b"never read")
            arrivals.add(here.fileno(), lambda _: False)
            for _ in range(BURST):
                await trio.lowlevel.checkpoint()
            await trio.sleep(0.01)


async def test_a_closed_descriptor_can_be_removed() -> None:
    with pair() as (here, _), trio.fail_after(5):
        async with running() as arrivals:
            descriptor = here.fileno()
            arrivals.add(descriptor, lambda _: False)
            here.close()
            arrivals.remove(descriptor)
            arrivals.remove(descriptor)
            await trio.lowlevel.checkpoint()


async def test_a_bug_in_a_call_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    def bug(_now: float) -> bool:
        raise KeyError("bug")

    with pair() as (here, there), pair() as (other, other_there), trio.fail_after(5):
        async with running() as arrivals:
            woken = trio.Event()

            def call(_now: float) -> bool:
                other.recv(100)
                woken.set()
                return True

            arrivals.add(here.fileno(), bug)
            arrivals.add(other.fileno(), call)
            with caplog.at_level(logging.ERROR, "infermux.providers"):
                there.send(b"x")
                await trio.sleep(0.01)
            other_there.send(b"x")
            await woken.wait()
    assert "cannot be handed on" in caplog.text


async def test_waiting_for_streams_is_no_hold_of_the_loop() -> None:
    with pair() as (here, _), trio.fail_after(5):
        watchdog = Watchdog()
        async with running() as arrivals:
            with watchdog.watching():
                arrivals.add(here.fileno(), lambda _: False)
                await trio.sleep(HOLD * 1.5)
        assert watchdog.holds == 0


async def test_nobody_is_added_while_it_does_not_run_nor_on_a_clock_that_stands() -> None:
    with pair() as (here, _):
        assert not Arrivals().add(here.fileno(), lambda _: False)
        arrivals = Arrivals()
        async with running() as ended:
            pass
        assert not ended.add(here.fileno(), lambda _: False)
        assert len(arrivals) == 0


async def test_on_a_clock_of_tests_nobody_is_added(autojump_clock: MockClock) -> None:
    with pair() as (here, _):
        async with running() as arrivals:
            assert not arrivals.add(here.fileno(), lambda _: False)
            assert repr(arrivals) == "Arrivals(0 streams)"
