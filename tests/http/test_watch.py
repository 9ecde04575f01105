"""Seeing the other side hang up, by epoll and by polling."""

from __future__ import annotations

import select
import socket
from collections.abc import Generator

import pytest
import trio

from infermux.http.watch import EpollWatch, LeaveWatch, PollingWatch, leave_watch
from tests._turns import within

pytestmark = pytest.mark.slow


@pytest.fixture(params=["epoll", "polling"])
def watch(request: pytest.FixtureRequest) -> Generator[LeaveWatch]:
    made: LeaveWatch = EpollWatch() if request.param == "epoll" else PollingWatch()
    yield made
    made.close()


@pytest.fixture
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("how", ["close", "shutdown"])
async def test_a_hang_up_is_called_back_within_100_ms(
    watch: LeaveWatch, pair: Pair, nursery: trio.Nursery, how: str
) -> None:
    ours, theirs = pair
    nursery.start_soon(watch.run)
    left = trio.Event()
    watch.add(ours, left.set)
    await trio.sleep(0.02)
    assert not left.is_set()
    theirs.close() if how == "close" else theirs.shutdown(socket.SHUT_WR)
    async with within(0.1):
        await left.wait()


async def test_bytes_are_no_hang_up(watch: LeaveWatch, pair: Pair, nursery: trio.Nursery) -> None:
    ours, theirs = pair
    nursery.start_soon(watch.run)
    left = trio.Event()
    watch.add(ours, left.set)
    theirs.send(b"more")
    await trio.sleep(0.08)
    assert not left.is_set()


async def test_a_removed_socket_is_not_watched(watch: LeaveWatch, pair: Pair, nursery: trio.Nursery) -> None:
    ours, theirs = pair
    nursery.start_soon(watch.run)
    left = trio.Event()
    watch.add(ours, left.set)
    watch.remove(ours)
    watch.remove(ours)
    theirs.close()
    await trio.sleep(0.08)
    assert not left.is_set()


async def test_the_call_comes_once(watch: LeaveWatch, pair: Pair, nursery: trio.Nursery) -> None:
    ours, theirs = pair
    nursery.start_soon(watch.run)
    calls: list[int] = []
    left = trio.Event()

    def called() -> None:
        calls.append(1)
        left.set()

    watch.add(ours, called)
    theirs.close()
    await left.wait()
    await trio.sleep(0.12)
    assert calls == [1]


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="the system has no epoll")
async def test_epoll_sees_a_hang_up_behind_unread_bytes(pair: Pair, nursery: trio.Nursery) -> None:
    ours, theirs = pair
    watch = EpollWatch()
    nursery.start_soon(watch.run)
    left = trio.Event()
    watch.add(ours, left.set)
    theirs.send(b"pipelined")
    theirs.close()
    async with within(0.1):
        await left.wait()


async def test_a_socket_closed_by_its_owner_can_still_be_removed(watch: LeaveWatch, pair: Pair) -> None:
    ours, _ = pair
    watch.add(ours, lambda: None)
    ours.close()
    watch.remove(ours)


def test_the_best_watch_of_linux_is_epoll() -> None:
    watch = leave_watch()
    assert isinstance(watch, EpollWatch if hasattr(select, "epoll") else PollingWatch)
    assert "0 sockets" in repr(watch)
    watch.close()
