"""What closes a provider to requests: failures, 429, buckets, concurrency."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from infermux.actors.gate import Gate
from infermux.actors.lease import Lease
from infermux.actors.messages import Circuit, Standing, Want
from infermux.actors.plan import Plan
from infermux.actors.provider_messages import Verb
from infermux.actors.reply import Reply
from infermux.actors.router_messages import Acquire
from infermux.actors.strategy import Choice, Option
from infermux.config.settings import (
    RateLimits,
    Routing,
)
from infermux.errors import (
    FailureKind,
    InfermuxError,
    NoHealthyProviders,
    ProviderRefusal,
    RateLimited,
    UpstreamError,
)
from infermux.providers.interface import Usage
from tests.actors._scripted import (
    HANGS,
    OK,
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    USAGE,
    Step,
    World,
    crash,
    fails,
    provider,
    streams,
    world,
)

# What counts as a failure.

COUNTS = {
    FailureKind.CONNECT: True,
    FailureKind.CONNECT_TIMEOUT: True,
    FailureKind.FIRST_TOKEN_TIMEOUT: True,
    FailureKind.IDLE_TIMEOUT: True,
    FailureKind.TOTAL_TIMEOUT: True,
    FailureKind.SERVER_ERROR: True,
    FailureKind.BROKEN: True,
    FailureKind.MALFORMED: True,
    FailureKind.RATE_LIMITED: False,
    FailureKind.CREDENTIALS: False,
    FailureKind.MODEL_NOT_FOUND: False,
    FailureKind.CALLER: False,
}


@pytest.mark.parametrize("kind", list(FailureKind))
async def test_what_opens_the_circuit_and_what_never_does(kind: FailureKind, autojump_clock: MockClock) -> None:
    settings = provider("a", *(f"m{i}" for i in range(40)))
    async with world(settings, script={"a": [fails(kind, status=400, retry_after=0.0)] * 40}) as w:
        for i in range(40):
            with pytest.raises(InfermuxError):
                await w.chat(f"m{i}")
        await w.settled()
        assert (w.fleet.members["a"].standing.circuit is Circuit.OPEN) == COUNTS[kind]
        assert len(w["a"].asked) == (5 if COUNTS[kind] else 40)


async def test_an_open_circuit_is_a_503_that_says_when_it_may_be_better(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [SERVER_ERROR] * 5}) as w:
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await w.chat()
        await trio.sleep(10)
        with pytest.raises(NoHealthyProviders, match="a: circuit_open") as caught:
            await w.chat()
        assert caught.value.retry_after == pytest.approx(20)
        await trio.sleep(20)
        assert await w.answered_by() == "a"


async def test_the_circuit_opens_on_the_error_rate_too(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [SERVER_ERROR, OK] * 5}) as w:
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await w.chat()
            await w.chat()
        await w.settled()
        # Ten requests, half of them failed.
        assert w.fleet.members["a"].standing.circuit is Circuit.OPEN


# 429.


async def test_a_provider_that_answers_429_rests_for_as_long_as_it_asks(autojump_clock: MockClock) -> None:
    limited = fails(FailureKind.RATE_LIMITED, status=429, retry_after=17.0)
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script={"a": [limited]}) as w:
        assert await w.answered_by() == "b"
        await trio.sleep(16.9)
        assert await w.answered_by() == "b"
        await trio.sleep(0.2)
        assert await w.answered_by() == "a"


async def test_without_a_word_it_rests_a_second_doubling_to_a_minute(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [RATE_LIMITED] * 9}) as w:
        rests: list[float] = []
        for _ in range(9):
            with pytest.raises(RateLimited):
                await w.chat()
            await w.settled()
            with pytest.raises(RateLimited, match="cooling_down") as caught:
                await w.chat()
            assert caught.value.retry_after is not None
            rests.append(caught.value.retry_after)
            await trio.sleep(caught.value.retry_after)
        assert rests == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
        assert await w.answered_by() == "a"


# Limits.


async def test_two_hundred_callers_never_get_more_requests_through_than_the_limit(autojump_clock: MockClock) -> None:
    limit, seconds = 60, 60.0
    async with world(provider("a", "m", rate_limits=RateLimits(requests_per_minute=limit))) as w:
        with trio.move_on_after(seconds):
            await _hammer(w, 200)
        times = w["a"].times
        assert len(times) >= limit + limit * seconds / 60 - 2
        for i, start in enumerate(times):
            for j in range(i, len(times)):
                assert j - i + 1 <= limit + limit * (times[j] - start) / 60 + 1e-6


async def test_two_hundred_callers_never_get_more_tokens_through_than_the_limit(autojump_clock: MockClock) -> None:
    limit, seconds, each = 6000, 60.0, 150
    usage = Usage(prompt_tokens=100, completion_tokens=50)
    async with world(provider("a", "m", rate_limits=RateLimits(tokens_per_minute=limit))) as w:
        w["a"].rest = Step(usage=usage)
        with trio.move_on_after(seconds):
            await _hammer(w, 200, prompt_tokens=100, max_tokens=50)
        times = w["a"].times
        assert len(times) * each >= limit + limit * seconds / 60 - 2 * each
        for i, start in enumerate(times):
            for j in range(i, len(times)):
                assert (j - i + 1) * each <= limit + limit * (times[j] - start) / 60 + 1e-3


async def _hammer(w: World, callers: int, **want: Any) -> None:
    rng = random.Random(5)

    async def caller() -> None:
        while True:
            try:
                await w.chat(**want)
            except RateLimited:
                await trio.sleep(rng.random() * 16)

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(caller)


async def test_a_used_up_request_limit_says_when_to_come_back(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(requests_per_minute=2))) as w:
        await w.chat()
        await w.chat()
        with pytest.raises(RateLimited, match="a: requests_per_minute") as caught:
            await w.chat()
        assert caught.value.retry_after == pytest.approx(30)
        await trio.sleep(30)
        await w.chat()


async def test_a_reservation_is_prompt_and_max_tokens_and_is_settled_to_the_truth(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(tokens_per_minute=6000))) as w:
        bucket = w.fleet.members["a"].gate.tokens
        assert bucket is not None
        run = w.run(prompt_tokens=1000, max_tokens=2000, stream=True)
        w["a"].script = [streams(usage=Usage(prompt_tokens=900, completion_tokens=100))]
        await run.begin()
        assert bucket.available(0.0) == 3000
        while await run.receive() is not None:
            pass
        await w.settled()
        assert bucket.available(0.0) == 5000
        run.close()


async def test_without_max_tokens_the_average_is_reserved_and_1024_before_there_is_one(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(tokens_per_minute=600_000))) as w:
        gate = w.fleet.members["a"].gate
        assert gate.tokens is not None
        seen: list[float] = []
        for _ in range(2):
            w["a"].script = [Step(seconds=1e-6, usage=Usage(prompt_tokens=10, completion_tokens=200))]
            level = gate.tokens.available(trio.current_time())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask_with_prompt, w)
                await w.settled()
                seen.append(level - gate.tokens.available(trio.current_time()))
            await trio.sleep(60)
        assert seen == pytest.approx([1034, 210], abs=0.1)


async def _ask_with_prompt(w: World) -> None:
    await w.chat(prompt_tokens=10)


async def test_a_reservation_is_at_most_the_capacity(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(tokens_per_minute=500))) as w:
        await w.chat(prompt_tokens=10_000, max_tokens=10_000)
        assert len(w["a"].asked) == 1


async def test_a_debt_is_refilled_before_anything_is_admitted(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(tokens_per_minute=600))) as w:
        w["a"].script = [Step(usage=Usage(prompt_tokens=900, completion_tokens=300))]
        await w.chat(prompt_tokens=10, max_tokens=10)
        with pytest.raises(RateLimited, match="tokens_per_minute") as caught:
            await w.chat(prompt_tokens=1, max_tokens=1)
        # 600 in debt at ten a second.
        assert caught.value.retry_after == pytest.approx(60, abs=0.5)


async def test_what_a_provider_refuses_gives_its_reservation_back(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(tokens_per_minute=600))) as w:
        w["a"].script = [fails(FailureKind.CALLER, status=400)] * 3
        for _ in range(3):
            with pytest.raises(ProviderRefusal):
                await w.chat(prompt_tokens=100, max_tokens=400)


async def test_probes_draw_from_the_buckets(autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=10, tokens_per_minute=600)
    async with world(provider("a", "m", probed=True, rate_limits=limits), probes={"a": [Step(seconds=1e-6)]}) as w:
        gate = w.fleet.members["a"].gate
        assert gate.requests is not None
        assert gate.tokens is not None
        assert gate.requests.available(0.0) == 9
        assert gate.tokens.available(0.0) == 600 - 16
        await trio.sleep(1e-5)
        assert gate.tokens.available(trio.current_time()) == pytest.approx(600 - USAGE.total, abs=0.1)


async def test_a_probe_waits_for_the_buckets_and_traffic_cannot_overtake_it(autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=2)
    async with world(provider("a", "m", probed=True, rate_limits=limits)) as w:
        await trio.sleep(1)
        await w.chat()
        asked = trio.current_time()
        await w.fleet.command("a", Verb.PROBE)
        # Two were used at once, one came back half a minute later: the probe's.
        assert trio.current_time() - asked == pytest.approx(29, abs=0.1)
        with pytest.raises(RateLimited):
            await w.chat()


async def test_never_more_at_once_than_max_concurrent(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(max_concurrent=3))) as w:
        w["a"].rest = Step(seconds=1.0)
        refused: list[RateLimited] = []

        async def caller() -> None:
            try:
                await w.chat()
            except RateLimited as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(caller)
        assert (w["a"].peak, len(w["a"].asked), len(refused)) == (3, 3, 47)
        assert "max_concurrent" in str(refused[0])
        await w.chat()


async def test_an_asker_that_left_before_its_turn_gets_no_lease(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [Step(seconds=5.0)]}) as w:
        with trio.move_on_after(2.0):
            await w.chat()
        await trio.sleep(10)
        assert w["a"].asked == []
        assert w.in_flight("a") == 0


async def test_who_finds_a_provider_being_explored_goes_back_to_the_router(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script={"a": [HANGS]}) as w:
        ref = w.fleet.members["a"].ref
        explore = Choice(Option("a", "m", Standing()), 0.0, True)
        plans = [Plan(Want("m")) for _ in range(3)]
        replies: list[Reply[object]] = [Reply() for _ in plans]
        replies[2].abandon()
        for number, (plan, reply) in enumerate(zip(plans, replies, strict=True)):
            ref.forward(Acquire(plan, explore, w.fleet.router, number), reply)
        await w.settled()
        leases = [await reply.wait() for reply in replies[:2]]
        assert [isinstance(lease, Lease) and lease.explore for lease in leases] == [True, False]
        assert w.in_flight("a") == 2
        ref.tell(Acquire(plans[0], explore, w.fleet.router, 3))
        await w.settled()
        assert w.in_flight("a") == 2


async def test_a_probe_that_is_given_up_gives_back_what_it_drew(autojump_clock: MockClock) -> None:
    """A reload ends it, or the actor's crash: the next one draws anew."""
    limits = RateLimits(requests_per_minute=10, tokens_per_minute=60)
    probes = {"a": [Step(hangs=True), Step(hangs=True)]}
    async with world(provider("a", "m", probed=True, rate_limits=limits), probes=probes) as w:
        await trio.lowlevel.checkpoint()
        crash(w, "a")
        await trio.sleep(1)
        gate = w.fleet.members["a"].gate
        assert len(w["a"].probed) == 2
        assert gate.tokens is not None
        assert gate.tokens.available(trio.current_time()) == pytest.approx(60 - 16 + 1, abs=1)


def test_a_probe_that_was_never_sent_gives_back_its_request_too() -> None:
    limits = RateLimits(requests_per_minute=10, tokens_per_minute=60)
    gate = Gate(provider("a", "m", rate_limits=limits), Routing())
    assert gate.requests is not None
    for sent, left in ((False, 10), (True, 9)):
        gate.reserve_probe(16, 0.0)
        gate.probe_cut(16, 0.0, sent=sent)
        assert gate.requests.available(0.0) == left
