"""Calls over a socket pair, in both directions."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from infermux.errors import FailureKind, Problem, UpstreamFailure
from infermux.workers.link import Failed, Link, LinkLost
from infermux.workers.messages import NotLoaded

pytestmark = pytest.mark.slow


class Unspeakable(Exception):
    """Cannot be pickled for what it holds."""


async def _answer(message: Any) -> Any:
    match message:
        case "fail":
            raise NotLoaded("no", (Problem("f", 1, "a", "is bad"),), 409, "conflict")
        case "cannot go":
            raise Unspeakable(threading.Lock())
        case "cannot come":
            raise UpstreamFailure(FailureKind.CONNECT, "the provider is away")
        case "no answer":
            return threading.Lock()
        case _:
            return message * 2


@asynccontextmanager
async def linked() -> AsyncGenerator[tuple[Link, Link, trio.Nursery]]:
    here, there = socket.socketpair()
    left, right = Link(here), Link(there)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run, _answer)
        nursery.start_soon(right.run, _answer)
        yield left, right, nursery
        nursery.cancel_scope.cancel()


async def test_both_sides_ask_and_answer_at_once() -> None:
    async with linked() as (left, right, nursery):
        found: list[Any] = []

        async def ask(link: Link, message: Any) -> None:
            found.append(await link.ask(message))

        async with trio.open_nursery() as asking:
            for number in range(10):
                asking.start_soon(ask, left, number)
                asking.start_soon(ask, right, b"x" * 100_000)
        assert sorted(each for each in found if isinstance(each, int)) == [2 * number for number in range(10)]
        assert [len(each) for each in found if isinstance(each, bytes)] == [200_000] * 10
        assert nursery.child_tasks


async def test_what_is_raised_there_is_raised_here_as_it_was() -> None:
    async with linked() as (left, _, _):
        with pytest.raises(NotLoaded) as caught:
            await left.ask("fail")
        refused = caught.value
        assert (refused.message, refused.status, refused.code) == ("no", 409, "conflict")
        assert refused.problems == (Problem("f", 1, "a", "is bad"),)


@pytest.mark.parametrize(
    ("message", "said"),
    [("cannot go", "Unspeakable"), ("cannot come", "UpstreamFailure"), ("no answer", "TypeError")],
)
async def test_what_cannot_be_sent_as_it_is_costs_neither_side_its_life(message: str, said: str) -> None:
    async with linked() as (left, right, _):
        with pytest.raises(Failed, match=said):
            await left.ask(message)
        assert await left.ask(1) == await right.ask(1) == 2


async def test_what_was_not_foreseen_is_named_by_its_type_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with linked() as (left, _, _):
        with pytest.raises(Failed, match=r"^UpstreamFailure$"):
            await left.ask("cannot come")
    assert "UpstreamFailure" in caplog.text


async def test_when_the_other_side_is_gone_nobody_waits_for_it() -> None:
    here, there = socket.socketpair()
    link = Link(here)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, _answer)
        nursery.start_soon(_lost, link)
        await trio.testing.wait_all_tasks_blocked()
        there.close()
    assert link.lost.is_set()
    with pytest.raises(LinkLost):
        await link.ask(1)


async def _lost(link: Link) -> None:
    with pytest.raises(LinkLost):
        await link.ask(1)
