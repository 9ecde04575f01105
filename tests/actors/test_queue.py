"""Requests that wait for a provider to become routable: who goes first, who is turned away and when."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.messages import Priority, Reason, Want
from infermux.actors.phase import Phase
from infermux.actors.plan import Plan, Refusal
from infermux.actors.provider_messages import Verb
from infermux.actors.queue import WaitingRoom
from infermux.actors.reply import Reply
from infermux.config.settings import CircuitBreaker, Queue, RateLimits, Retry
from infermux.errors import (
    CallerLeft,
    DeadlineExceeded,
    InfermuxError,
    NoHealthyProviders,
    RateLimited,
    ShuttingDown,
    UpstreamError,
)
from tests._properties import examples
from tests.actors._scripted import PRIORITY, SERVER_ERROR, Person, Step, World, nothing_is_left, provider, world

PATIENT = Queue(max_wait=30.0)
ONE_AT_A_TIME = provider("a", "m", rate_limits=RateLimits(max_concurrent=1))
SECOND = Step(seconds=1.0)
NEVER_OPEN = CircuitBreaker(consecutive_failures=1000, min_requests=1000)


def plan(priority: Priority = Priority.DEFAULT, *refusals: Refusal) -> Plan:
    made = Plan(Want("m", priority=priority))
    for refusal in refusals or (Refusal("a", Reason.CONCURRENCY),):
        made.refuse(refusal)
    return made


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Priority), st.floats(0, 100)), max_size=30))
def test_they_go_by_class_then_by_deadline_then_by_arrival(asked: list[tuple[Priority, float]]) -> None:
    room = WaitingRoom(1000.0, 100)
    for priority, deadline in asked:
        each = plan(priority)
        each.deadline = deadline
        room.add(each, Reply(), 0.0)
    ranks = [(w.priority, w.deadline, w.number) for w in room.in_order()]
    assert ranks == sorted(ranks)
    assert len(ranks) == len(asked)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Priority), st.sampled_from("abc"), st.booleans()), max_size=30))
def test_claims_are_those_of_whoever_is_there(steps: list[tuple[Priority, str, bool]]) -> None:
    room, inside = WaitingRoom(10.0, 100), list[Plan]()
    for priority, name, leaves in steps:
        if leaves and inside:
            room.remove(inside.pop(0))
            continue
        inside.append(plan(priority, Refusal(name, Reason.CONCURRENCY)))
        room.add(inside[-1], Reply(), 0.0)
    for name in "abc":
        for priority in Priority:
            expected = any(name in each.refusals and each.want.priority <= priority for each in inside)
            assert room.is_claimed(name, priority) is expected


def test_the_wait_is_until_the_limit_frees_and_those_before_have_gone() -> None:
    room = WaitingRoom(100.0, 100)
    for at in (0.0, 2.0, 4.0):
        served = plan()
        room.add(served, Reply(), at)
        room.remove(served, at)
    assert room.pace == 2.0
    room.add(plan(Priority.INTERACTIVE), Reply(), 4.0)
    room.add(plan(Priority.BATCH), Reply(), 4.0)
    mine = room.add(plan(Priority.DEFAULT, Refusal("a", Reason.REQUEST_LIMIT, 9.0)), Reply(), 4.0)
    assert room.wait(mine, 4.0) == 5.0 + 2.0


def test_the_next_time_is_a_deadline_or_a_limit_that_frees() -> None:
    room = WaitingRoom(10.0, 100)
    assert room.next_time(0.0) == math.inf
    room.add(plan(), Reply(), 0.0)
    assert room.next_time(0.0) == 10.0
    room.add(plan(Priority.DEFAULT, Refusal("a", Reason.REQUEST_LIMIT, 3.0)), Reply(), 0.0)
    assert (room.next_time(0.0), room.next_time(3.0)) == (3.0, 10.0)


# With the actors.


async def _ask(w: World, order: list[str], name: str, **more: Any) -> None:
    run = w.run(**more)
    try:
        await run.begin()
        order.append(name)
    finally:
        run.close()


async def test_without_a_queue_a_limit_turns_away_at_once(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME) as w, trio.open_nursery() as nursery:
        w["a"].rest = SECOND
        nursery.start_soon(_ask, w, list[str](), "first")
        await trio.sleep(0.1)
        with pytest.raises(RateLimited):
            await w.chat()


async def test_with_one_a_request_waits_for_the_one_before_it_to_end(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w:
        w["a"].rest = SECOND
        async with trio.open_nursery() as nursery:
            for name in ("one", "two", "three", "four", "five"):
                nursery.start_soon(_ask, w, list[str](), name)
        assert w["a"].times == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])
        assert w["a"].peak == 1
        await nothing_is_left(w)


async def test_the_time_in_the_queue_is_not_the_providers(autojump_clock: MockClock) -> None:
    hasty = provider("a", "m", timeout=1.0, rate_limits=RateLimits(max_concurrent=1))
    async with world(hasty, queue=PATIENT) as w:
        w["a"].rest = Step(seconds=0.9)
        order: list[str] = []
        async with trio.open_nursery() as nursery:
            for name in ("one", "two", "three", "four", "five"):
                nursery.start_soon(_ask, w, order, name)
        assert len(order) == 5  # the last one waited for 3.6 s, longer than twice the timeout
        await nothing_is_left(w)


async def test_the_callers_own_deadline_counts_the_time_in_the_queue(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w, trio.open_nursery() as nursery:
        w["a"].rest = SECOND
        nursery.start_soon(_ask, w, list[str](), "running")
        await trio.sleep(0.1)
        with pytest.raises(DeadlineExceeded):
            await w.chat(timeout=1.5)
        assert trio.current_time() == pytest.approx(1.6)


async def test_the_better_class_and_the_earlier_deadline_go_first(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w:
        w["a"].rest = SECOND
        order: list[str] = []
        async with trio.open_nursery() as nursery:
            for name, priority, timeout in (
                ("running", Priority.BATCH, None),
                ("batch", Priority.BATCH, None),
                ("late", Priority.DEFAULT, None),
                ("early", Priority.DEFAULT, 20.0),
                ("interactive", Priority.INTERACTIVE, None),
            ):
                nursery.start_soon(partial(_ask, priority=priority, timeout=timeout), w, order, name)
                await trio.sleep(0.01)
        assert order == ["running", "interactive", "early", "late", "batch"]


async def test_who_comes_new_does_not_overtake_those_who_wait(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w:
        w["a"].rest = SECOND
        order: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ask, w, order, "running")
            await trio.sleep(0.5)
            nursery.start_soon(_ask, w, order, "waiting")
            await trio.sleep(0.5)  # the slot frees at this very moment
            nursery.start_soon(_ask, w, order, "new")
        assert order == ["running", "waiting", "new"]


async def test_a_request_limit_is_waited_for_to_the_moment(autojump_clock: MockClock) -> None:
    limited = provider("a", "m", rate_limits=RateLimits(requests_per_minute=60))
    async with world(limited, queue=PATIENT) as w:
        async with trio.open_nursery() as nursery:
            for _ in range(65):
                nursery.start_soon(_ask, w, list[str](), "x")
        assert w["a"].times[:60] == [0.0] * 60
        assert w["a"].times[60:] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0], abs=0.01)


async def test_a_cool_down_is_waited_for(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), queue=PATIENT) as w:
        w.fleet.members["a"].gate.cooldown.rate_limited(0.0, 7.0)
        await w.chat()
        assert w["a"].times == pytest.approx([7.0])


async def test_an_open_circuit_is_waited_for_and_one_request_is_its_probe(autojump_clock: MockClock) -> None:
    breaker = CircuitBreaker(consecutive_failures=1, recovery_window=5.0)
    async with world(provider("a", "m", circuit_breaker=breaker), queue=PATIENT, script={"a": [SERVER_ERROR]}) as w:
        with pytest.raises(Exception, match="500"):
            await w.chat()
        w["a"].rest = SECOND
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(_ask, w, list[str](), "x")
        assert w["a"].times[1] == pytest.approx(5.0)
        assert w["a"].times[2] >= 6.0


async def test_a_request_that_waits_counts_once_for_the_retry_budget(autojump_clock: MockClock) -> None:
    retry = Retry(max_attempts=9, same_provider=8, budget_ratio=1.0, budget_min_per_second=0.0)
    calm = provider("a", "m", rate_limits=RateLimits(max_concurrent=1), circuit_breaker=NEVER_OPEN)
    async with world(calm, queue=PATIENT, retry=retry) as w, trio.open_nursery() as nursery:
        w["a"].script, w["a"].rest = [SECOND], SERVER_ERROR
        nursery.start_soon(_ask, w, list[str](), "running")
        await trio.sleep(0.1)
        run = w.run()
        with pytest.raises(UpstreamError):
            await run.begin()
        assert run.attempts == 1 + 2  # two requests, so two tries on top


async def test_what_time_does_not_cure_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), queue=PATIENT) as w:
        await w.fleet.command("a", Verb.DISABLE)
        with pytest.raises(NoHealthyProviders):
            await w.chat()
        assert trio.current_time() == 0.0


async def test_a_wait_that_cannot_be_met_is_not_begun_and_says_how_long_it_would_be(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), queue=Queue(max_wait=5.0)) as w:
        w.fleet.members["a"].gate.cooldown.rate_limited(0.0, 40.0)
        with pytest.raises(RateLimited) as caught:
            await w.chat()
        assert caught.value.retry_after == pytest.approx(40.0)
        assert trio.current_time() == 0.0


async def test_who_has_waited_long_enough_is_told_why(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=Queue(max_wait=5.0)) as w, trio.open_nursery() as nursery:
        w["a"].rest = Step(hangs=True)
        nursery.start_soon(_hold, w)
        await trio.sleep(0.1)
        with pytest.raises(RateLimited, match="max_concurrent"):
            await w.chat()
        assert trio.current_time() == pytest.approx(5.1)
        nursery.cancel_scope.cancel()


async def _hold(w: World) -> None:
    run = w.run()
    try:
        await run.begin()
    finally:
        run.close()


async def test_a_full_queue_turns_away(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=Queue(max_wait=30.0, max_size=2)) as w, trio.open_nursery() as nursery:
        w["a"].rest = Step(hangs=True)
        for _ in range(3):
            nursery.start_soon(_hold, w)
        await trio.sleep(0.1)
        with pytest.raises(RateLimited, match=r"queue\.max_size is 2"):
            await w.chat()
        nursery.cancel_scope.cancel()


async def test_who_leaves_makes_room_and_is_not_served(autojump_clock: MockClock) -> None:
    person = Person()
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w:
        w["a"].rest = SECOND
        order: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ask, w, order, "running")
            await trio.sleep(0.1)

            async def leaving() -> None:
                run = w.run(caller=person)
                with pytest.raises(CallerLeft):
                    await run.begin()
                assert trio.current_time() == pytest.approx(0.5)
                run.close()

            nursery.start_soon(leaving)
            await trio.sleep(0.1)
            nursery.start_soon(_ask, w, order, "next")
            await trio.sleep(0.3)
            person.leave()
        assert order == ["running", "next"]
        assert w["a"].times == pytest.approx([0.0, 1.0])
        await nothing_is_left(w)


async def test_a_request_that_waits_says_so(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w, trio.open_nursery() as nursery:
        w["a"].rest = SECOND
        nursery.start_soon(_ask, w, list[str](), "running")
        await trio.sleep(0.1)
        run = w.run()
        nursery.start_soon(run.begin)
        phases = list[Phase]()
        for seconds in (0.1, 1.0):
            await trio.sleep(seconds)
            phases.append(run.phase)
        assert phases == [Phase.QUEUED, Phase.WAITING]


async def test_those_who_wait_when_the_server_ends_are_told(autojump_clock: MockClock) -> None:
    async with world(ONE_AT_A_TIME, queue=PATIENT) as w, trio.open_nursery() as nursery:
        w["a"].rest = Step(hangs=True)

        async def end() -> None:
            await trio.sleep(1.0)
            w.fleet.revoke_all("the server shut down")

        async def running() -> None:
            with pytest.raises(ShuttingDown):
                await w.chat()

        nursery.start_soon(running)
        await trio.sleep(0.1)
        nursery.start_soon(end)
        with pytest.raises(ShuttingDown, match="still waiting"):
            await w.chat()


async def test_the_first_of_several_providers_that_frees_takes_the_request(autojump_clock: MockClock) -> None:
    providers = [provider(n, "m", rate_limits=RateLimits(max_concurrent=1)) for n in "ab"]
    async with world(*providers, queue=PATIENT, routing=PRIORITY) as w:
        w["a"].rest, w["b"].rest = Step(seconds=5.0), Step(seconds=2.0)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(_ask, w, list[str](), "x")
        assert w["a"].times == pytest.approx([0.0])
        assert w["b"].times == pytest.approx([0.0, 2.0])


@pytest.mark.parametrize("seed", range(5))
async def test_nobody_is_forgotten_whatever_happens(seed: int, autojump_clock: MockClock) -> None:
    rng = random.Random(seed)
    limits = RateLimits(max_concurrent=2, requests_per_minute=120)
    ended = 0

    async def one(w: World) -> None:
        nonlocal ended
        person = Person()
        run = w.run(caller=person, priority=rng.choice(list(Priority)), timeout=rng.choice([None, 3.0, 60.0]))
        with trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + rng.choice([0.3, 5.0, 1000.0])
            try:
                await run.begin()
            except InfermuxError:
                pass
        run.close()
        ended += 1

    providers = [provider(name, "m", rate_limits=limits) for name in "ab"]
    async with world(*providers, queue=PATIENT) as w:
        for wire in (w["a"], w["b"]):
            wire.script = [Step(seconds=rng.random() * 2) if rng.random() < 0.9 else SERVER_ERROR for _ in range(200)]
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one, w)
                await trio.sleep(rng.random() * 0.2)
        assert ended == 100
        assert max(w["a"].peak, w["b"].peak) <= 2
        await nothing_is_left(w)
