"""Who watches is told of what happens, and is dropped before it costs anything."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.provider_messages import Verb
from infermux.actors.record import Record, Tried
from infermux.actors.treasury import Exceeded
from infermux.config.settings import Budget, Price
from infermux.errors import Overloaded, ShuttingDown
from infermux.http.events import BEHIND, MOST_READERS, MOST_REQUESTS, Hub, event
from infermux.http.history import STEP, STEPS, History
from infermux.http.inference import Inference
from infermux.http.observing import overlook
from infermux.http.rules import Rules
from infermux.watchdog import Watchdog
from tests.actors._scripted import provider, world

Events = trio.MemoryReceiveChannel[bytes]


@asynccontextmanager
async def watched() -> AsyncGenerator[Hub]:
    async with world(provider("a", "m")) as w:
        yield overlook(Inference(w.fleet, Rules.of(w.fleet.config)), Watchdog())


def parsed(data: bytes) -> tuple[str, Any]:
    name, told, *rest = data.decode().split("\n")
    assert rest == ["", ""]
    return name.removeprefix("event: "), json.loads(told.removeprefix("data: "))


def waiting(events: Events) -> list[tuple[str, Any]]:
    """What has come so far."""
    found: list[tuple[str, Any]] = []
    while True:
        try:
            found.append(parsed(events.receive_nowait()))
        except trio.WouldBlock:
            return found


async def test_the_whole_comes_first_then_a_snapshot_every_second(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        _, events = hub.join()
        await trio.sleep(3.1)
        names = [name for name, _ in waiting(events)]
    assert names == ["overview", "snapshot", "snapshot", "snapshot"]


async def test_a_change_of_a_provider_is_told_within_a_fifth_of_a_second(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        _, events = hub.join()
        await trio.sleep(0.5)
        fleet = hub.overview.inference.fleet
        await fleet.command("a", Verb.DISABLE)
        await fleet.command("a", Verb.ENABLE)
        await trio.sleep(0.21)
        [change, back] = [told for name, told in waiting(events) if name == "change"]
    assert (change["provider"], change["of"], change["to"], change["why"]) == ("a", "operator", "disabled", "operator")
    assert back["from"] == "disabled"


async def test_ended_requests_are_told_up_to_a_bound_and_then_counted(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        _, events = hub.join()
        await trio.sleep(0.5)
        for number in range(MOST_REQUESTS + 5):
            hub.note(Record(id=str(number), at=0.0))
        await trio.sleep(0.6)
        told = waiting(events)
        assert [each["id"] for name, each in told if name == "request"] == [str(n) for n in range(MOST_REQUESTS)]
        assert [each["requests_left_out"] for name, each in told if name == "snapshot"] == [5]
        hub.note(Record(id="next", at=0.0))
        assert [name for name, _ in waiting(events)] == ["request"]


async def test_a_reader_that_falls_behind_is_dropped_and_the_others_are_not(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        _, slow = hub.join()
        _, quick = hub.join()
        seen = 0
        for _ in range(BEHIND + 10):
            await trio.sleep(1)
            seen += len(waiting(quick))
        assert seen > BEHIND
        kept = [data async for data in slow]  # it ends
    assert len(kept) == BEHIND


async def test_without_readers_nothing_runs_and_the_next_one_is_told_again(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        tasks = len(hub.nursery.child_tasks)
        reader, _ = hub.join()
        hub.drop(reader)
        again, events = hub.join()  # before the task that told the first one has ended
        await trio.sleep(1.1)
        assert len(hub.nursery.child_tasks) == tasks + 1
        assert [name for name, _ in waiting(events)] == ["overview", "snapshot"]
        hub.drop(again)
        await trio.sleep(1)
        assert len(hub.nursery.child_tasks) == tasks


async def test_there_are_only_so_many_readers(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        for _ in range(MOST_READERS):
            hub.join()
        with pytest.raises(Overloaded):
            hub.join()


async def test_draining_ends_the_streams(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        _, events = hub.join()
        hub.overview.inference.draining = True
        with trio.fail_after(0.5):
            assert len([data async for data in events]) == 1
        with pytest.raises(ShuttingDown):
            hub.join()


def test_an_event_is_one_line_of_data_whatever_is_in_it() -> None:
    assert event("request", {"id": "a\nb\r\n\nc"}) == b'event: request\ndata: {"id":"a\\nb\\r\\n\\nc"}\n\n'


# The history.


def tried(provider: str = "a", *, seconds: float = 1.0, **more: Any) -> Record:
    return Record(
        id="x", at=0.0, attempts=(Tried(provider=provider, model="m", started=1.0, ended=1.0 + seconds, **more),)
    )


async def test_the_history_has_averages_by_step_and_forgets_old_ones(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m")) as w:
        history = History(w.fleet)
        history.note(tried(seconds=2.0, first_token=1.5))
        history.note(tried(seconds=4.0))
        history.note(tried(outcome="server_error"))
        history.note(tried(outcome="cancelled"))
        shown = history.shown()
        assert shown["providers"] == {"a": [[shown["now"], 2, 1, 3.0, 0.5]], "b": []}
        await trio.sleep(STEP)
        history.note(tried())
        assert [step[0] - shown["now"] for step in history.shown()["providers"]["a"]] == [0, 1]
        assert [step[0] - shown["now"] for step in history.shown(1)["providers"]["a"]] == [1]
        await trio.sleep(STEP * STEPS)
        assert history.shown()["providers"]["a"] == []


async def test_the_history_of_a_provider_that_is_gone_goes(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m")) as w:
        history = History(w.fleet)
        history.note(tried("b"))
        await w.fleet.remove("b")
        history.note(tried("a"))
        assert list(history.shown()["providers"]) == ["a"]
        await w.fleet.add(provider("b", "m"))
        assert history.shown()["providers"]["b"] == []


async def test_a_budget_that_is_used_up_is_told_once(autojump_clock: MockClock) -> None:
    budgets = (Budget(limit_usd=3, period="day", hard=False),)
    async with world(provider("a", "m"), budgets=budgets, pricing={"a": {"m": Price(per_request=2.0)}}) as w:
        hub = overlook(Inference(w.fleet, Rules.of(w.fleet.config)), Watchdog())
        _, events = hub.join()
        for _ in range(3):
            await w.chat()
        [told] = [told for name, told in waiting(events) if name == "budget"]
        until = told.pop("until")
    assert told == {"budget": "all/day", "limit_usd": 3.0, "spent_usd": 4.0, "hard": False}
    assert until.endswith("T00:00:00Z")


async def test_no_more_budgets_are_told_at_once_than_a_reader_can_take(autojump_clock: MockClock) -> None:
    async with watched() as hub:
        _, events = hub.join()
        for _ in range(BEHIND * 2):
            hub.note_budget(Exceeded(budget="caller:a/day", limit_usd=1, spent_usd=1, hard=True, until=0.0))
        assert [name for name, _ in waiting(events)].count("budget") == MOST_REQUESTS
