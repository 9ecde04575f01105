"""Crashes and changes while requests are under way: each is survived by every request."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.messages import Want
from infermux.actors.plan import Plan
from infermux.actors.provider_messages import Verb
from infermux.actors.router_messages import Advance, HealthKnown, Serve
from infermux.config.settings import (
    RateLimits,
    Routing,
)
from infermux.errors import (
    CallerLeft,
    DeadlineExceeded,
    NoHealthyProviders,
)
from infermux.providers.peek import Preferences
from tests.actors._scripted import (
    HANGS,
    PRIORITY,
    SERVER_ERROR,
    Person,
    Poison,
    Step,
    World,
    crash,
    provider,
    three,
    two,
    world,
)


def crash_router(w: World) -> None:
    w.fleet.router.tell(Poison())


async def test_a_crash_of_the_router_is_survived_by_everybody(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with world(*three(), routing=PRIORITY) as w, trio.open_nursery() as nursery:
        answered: list[str] = []
        w["a"].rest = Step(seconds=2.0)

        async def caller() -> None:
            answered.append(await w.answered_by())

        for _ in range(5):
            nursery.start_soon(caller)
        await trio.sleep(1)
        crash_router(w)
        await w.settled()
        assert not w.fleet.router.alive
        for _ in range(5):
            nursery.start_soon(caller)
        await trio.sleep(5)
        assert answered == ["a"] * 10
        assert "actor infermux.router crashed" in caplog.text


async def test_a_request_that_waits_in_the_router_when_it_crashes_waits_on_in_the_next(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [Step(seconds=4.0)]}) as w:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.chat)
            await trio.sleep(1)
            crash_router(w)
        assert trio.current_time() == pytest.approx(4)


async def test_its_wait_stays_bounded_after_the_crash(autojump_clock: MockClock) -> None:
    settings = provider("a", "m", probed=True, rate_limits=RateLimits(requests_per_minute=1))
    async with world(settings, probes={"a": [HANGS]}) as w:
        await trio.sleep(1)
        crash(w, "a")  # the next probe waits for the bucket: nothing will be known for a minute
        await trio.sleep(1)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:

                async def caller() -> None:
                    with pytest.raises(NoHealthyProviders, match="a: starting"):
                        await w.chat()

                nursery.start_soon(caller)
                await trio.sleep(1)
                crash_router(w)


async def test_a_router_that_does_not_come_back_is_a_503(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        for _ in range(6):
            crash_router(w)
            await trio.sleep(4.0)
        crash_router(w)
        await w.settled()
        began = trio.current_time()
        with pytest.raises(NoHealthyProviders, match="the router is restarting") as caught:
            await w.chat()
        assert caught.value.retry_after == 1
        assert trio.current_time() - began == pytest.approx(2.0)


async def test_a_caller_that_leaves_while_the_router_restarts_is_gone_at_once(autojump_clock: MockClock) -> None:
    async with world(*three()) as w, trio.open_nursery() as nursery:
        crash_router(w)
        await w.settled()
        person = Person()

        async def caller() -> None:
            with pytest.raises(CallerLeft):
                await w.chat(caller=person)

        nursery.start_soon(caller)
        await trio.sleep(0.05)
        person.leave()
        await w.settled()
        assert trio.current_time() == pytest.approx(0.05)


async def test_a_deadline_that_passes_while_the_router_restarts_is_kept(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        crash_router(w)
        await w.settled()
        with pytest.raises(DeadlineExceeded):
            await w.chat(timeout=0.03)
        assert trio.current_time() == pytest.approx(0.03)


async def test_after_a_crash_the_router_knows_what_is_under_way(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="least_busy")) as w, trio.open_nursery() as nursery:
        for _ in range(10):
            await w.chat()
        crash_router(w)
        await trio.sleep(1)
        for wire in w.wires.values():
            wire.rest = Step(seconds=1.0)
        for _ in range(30):
            nursery.start_soon(w.chat)
        await trio.sleep(0.5)
        assert [wire.open for wire in w.wires.values()] == [10, 10, 10]


async def test_messages_without_an_asker_do_no_harm(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        refs = {name: member.ref for name, member in w.fleet.members.items()}
        for message in (Advance(Plan(Want("m"))), HealthKnown("nobody"), "gibberish", Serve(w.fleet.catalogue, refs)):
            w.fleet.router.tell(message)
        await w.chat()
        assert w.fleet.supervisor.statistics().restarts == 0


async def test_a_provider_that_is_down_is_passed_over_and_named(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY) as w:
        crash(w, "a")
        await w.settled()
        assert not w.fleet.members["a"].ref.alive
        assert await w.answered_by() == "b"
        with pytest.raises(NoHealthyProviders, match="a: crashed"):
            await w.chat(preferences=Preferences(only=("a",)))


# What changes between the ordering and a candidate's turn.


async def test_a_candidate_that_went_down_before_its_turn_is_passed_over(autojump_clock: MockClock) -> None:
    failing = Step(seconds=5.0, failure=SERVER_ERROR.failure)
    for change in ("crashed", "drained", "removed"):
        async with world(*three(), routing=PRIORITY, script={"a": [failing]}) as w, trio.open_nursery() as nursery:
            answered: list[str] = []

            async def caller(w: World, answered: list[str]) -> None:
                answered.append(await w.answered_by())

            nursery.start_soon(caller, w, answered)
            await trio.sleep(4.95)
            if change == "crashed":
                crash(w, "b")
            elif change == "drained":
                await w.fleet.command("b", Verb.DRAIN)
            else:
                await w.fleet.remove("b")
            await trio.sleep(1)
            assert (change, answered) == (change, ["c"])
            assert w["b"].asked == []
