"""Many candidates: who has changed is read again before the next decision, and nobody else is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors import field
from infermux.actors.decisions import decided
from infermux.actors.explain import explained
from infermux.actors.field import FEW
from infermux.actors.provider_messages import Verb
from infermux.actors.record import Record
from infermux.actors.strategies import STRATEGY_NAMES
from infermux.config.settings import LeastLatency, ProviderSettings, RateLimits, Retry, Routing
from infermux.errors import FailureKind, RateLimited
from tests.actors._scripted import PRIORITY, SERVER_ERROR, Step, crash, fails, provider, world

NAMES = [f"p{at}" for at in range(FEW + 4)]


def many(**more: Any) -> list[ProviderSettings]:
    return [provider(name, "m", **more) for name in NAMES]


async def test_many_take_turns_as_few_do(autojump_clock: MockClock) -> None:
    async with world(*many()) as w:
        assert [await w.answered_by() for _ in range(2 * len(NAMES))] == 2 * NAMES


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
async def test_whoever_is_disabled_is_not_asked_until_it_is_enabled(strategy: str, autojump_clock: MockClock) -> None:
    async with world(*many(), routing=Routing(strategy=strategy)) as w:
        await w.answered_by(affinity=b"k")
        for name in NAMES[:-1]:
            await w.fleet.command(name, Verb.DISABLE)
        assert {await w.answered_by(affinity=b"k") for _ in range(5)} == {NAMES[-1]}
        await w.fleet.command(NAMES[0], Verb.ENABLE)
        await w.fleet.command(NAMES[-1], Verb.DISABLE)
        assert {await w.answered_by(affinity=b"k") for _ in range(3)} == {NAMES[0]}


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
async def test_whoever_has_a_limit_comes_back_when_time_has_freed_it(strategy: str, autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=1)
    async with world(*many(rate_limits=limits), routing=Routing(strategy=strategy)) as w:
        first = Counter([await w.answered_by() for _ in NAMES])
        assert first == dict.fromkeys(NAMES, 1)
        with pytest.raises(RateLimited) as caught:
            await w.chat()
        assert all(name in caught.value.message for name in NAMES)
        await trio.sleep(60)
        assert Counter([await w.answered_by() for _ in NAMES]) == first


async def test_the_next_ones_come_when_the_first_fail(autojump_clock: MockClock) -> None:
    async with world(*many()) as w:
        for name in NAMES[:3]:
            w.wires[name].rest = SERVER_ERROR
        assert await w.answered_by() == NAMES[3]


async def test_all_are_put_in_order_when_several_fail(autojump_clock: MockClock) -> None:
    async with world(*many(), retry=Retry(max_attempts=len(NAMES), same_provider=0), routing=PRIORITY) as w:
        for name in NAMES[:-1]:
            w.wires[name].rest = fails(FailureKind.CONNECT)
        run = await w.chat()
        assert [lease.provider for lease in run.trail] == NAMES
        assert [look.whole for look in run.plan.looks] == [True]


async def test_what_is_explained_of_many_is_the_one_that_was_picked(autojump_clock: MockClock) -> None:
    async with world(*many()) as w:
        run = await w.chat()
        rows = explained(decided(Record(id="r", at=0.0, requested="m"), run))["candidates"]
    assert [row["place"] for row in rows] == [1, *[None] * (len(NAMES) - 1)]
    assert {row["reason"] for row in rows[1:]} == {"not_needed"}


async def test_a_crashed_provider_is_passed_over_until_it_is_back(autojump_clock: MockClock) -> None:
    async with world(*many(), routing=PRIORITY) as w:
        assert await w.answered_by() == NAMES[0]
        crash(w, NAMES[0])
        await w.settled()
        assert await w.answered_by() == NAMES[1]
        await trio.sleep(60)
        assert await w.answered_by() == NAMES[0]


async def test_the_fastest_is_first_again_when_its_failure_has_faded(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="least_latency", least_latency=LeastLatency(min_samples=1))
    async with world(*many(), routing=routing) as w:
        for name, wire in w.wires.items():
            wire.rest = Step(seconds=0.1 if name == NAMES[0] else 1.0)
        assert {await w.answered_by() for _ in NAMES} == set(NAMES)
        assert await w.answered_by() == NAMES[0]
        w.wires[NAMES[0]].script = [SERVER_ERROR]
        assert NAMES[0] not in {await w.answered_by() for _ in range(3)}
        await trio.sleep(100)
        assert await w.answered_by() == NAMES[0]


async def test_invented_names_of_models_leave_a_bounded_number_of_fields(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(field, "KEPT_FIELDS", 3)
    async with world(*[provider(name) for name in NAMES]) as w:
        for number in range(5):
            await w.chat(f"invented-{number}")
        cell = w.fleet.members[NAMES[0]].ref._cell  # pyright: ignore[reportPrivateUsage]
        assert len(cell.watchers) == 3
