"""Coming back after trouble, concurrency that is found out, and limits that the provider tells."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.gate import Gate
from infermux.actors.lease import Grant
from infermux.actors.messages import Circuit, Outcome, Reason, Want
from infermux.actors.plan import Refusal
from infermux.actors.provider_messages import Verb
from infermux.config.settings import CircuitBreaker, HealthCheck, ProviderSettings, RateLimits
from infermux.errors import FailureKind, RateLimited, UpstreamError
from infermux.providers.ratelimits import Quota, Quotas
from infermux.secret import Secret
from tests.actors._scripted import PRIORITY, SERVER_ERROR, Step, World, fails, provider, two, world

FRAGILE = CircuitBreaker(consecutive_failures=1, recovery_window=10.0)
SLOW = Step(seconds=30.0)


async def open_and_recover(w: World) -> None:
    """a's circuit opens, and its probe closes it again."""
    w["a"].script = [SERVER_ERROR]
    try:
        await w.chat()
    except UpstreamError:
        pass
    await trio.sleep(10.0)
    await w.chat()
    await w.settled()
    assert w.fleet.members["a"].standing.circuit is Circuit.CLOSED, "it should have recovered"


async def burst(w: World, count: int) -> Counter[str]:
    """Who answers that many requests at once."""
    found: Counter[str] = Counter()

    async def one() -> None:
        found[await w.answered_by()] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return found


# Slow start.


async def test_after_an_outage_a_burst_goes_to_the_others_first(autojump_clock: MockClock) -> None:
    async with world(*two(circuit_breaker=FRAGILE), routing=PRIORITY) as w:
        await open_and_recover(w)
        w["a"].rest = w["b"].rest = SLOW
        assert await burst(w, 20) == {"a": 1, "b": 19}


async def test_it_takes_more_with_each_second_and_all_in_the_end(autojump_clock: MockClock) -> None:
    async with world(*two(circuit_breaker=FRAGILE), routing=PRIORITY) as w:
        await open_and_recover(w)
        await trio.sleep(3.0)
        w["a"].rest = w["b"].rest = SLOW
        assert await burst(w, 20) == {"a": 8, "b": 12}
        assert await burst(w, 20) == {"a": 20}


async def test_nobody_is_turned_away_where_no_other_can_answer(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", circuit_breaker=FRAGILE)) as w:
        await open_and_recover(w)
        w["a"].rest = SLOW
        assert await burst(w, 20) == {"a": 20}
        assert w["a"].peak == 20


async def test_what_the_others_cannot_take_goes_to_it_all_the_same(autojump_clock: MockClock) -> None:
    a = provider("a", "m", circuit_breaker=FRAGILE)
    b = provider("b", "m", rate_limits=RateLimits(max_concurrent=3))
    async with world(a, b, routing=PRIORITY) as w:
        await open_and_recover(w)
        w["a"].rest = w["b"].rest = SLOW
        assert await burst(w, 10) == {"a": 7, "b": 3}


async def test_it_is_told_as_the_reason(autojump_clock: MockClock) -> None:
    async with world(*two(circuit_breaker=FRAGILE), routing=PRIORITY) as w:
        await open_and_recover(w)
        w["a"].rest = SLOW
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.chat)
            await w.settled()
            description = await w.fleet.describe("a")
            assert (description.reason, description.blocked_for) == ("slow_start", 1.0)
            assert description.buckets["slow_start"] == 1
            nursery.cancel_scope.cancel()


def a_gate(**more: Any) -> Gate:
    more.setdefault("health_check", HealthCheck(disabled=True))
    return Gate(ProviderSettings(name="a", type="openai", models=("m",), **more))


def test_the_end_of_a_cool_down_is_a_recovery() -> None:
    gate = a_gate()
    gate.slow_start.begin(gate.cooldown.rate_limited(0.0, 5.0))
    assert isinstance(gate.admit(Want("m"), "m", 5.0), Grant)
    refused = gate.admit(Want("m"), "m", 5.0)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.until) == (Reason.SLOW_START, 6.0)
    assert isinstance(gate.admit(Want("m"), "m", 5.0, insists=True), Grant)


async def test_so_are_a_429_that_is_over_and_health_that_returns(autojump_clock: MockClock) -> None:
    limited = fails(FailureKind.RATE_LIMITED, status=429, retry_after=5.0)
    a = provider("a", "m", probed=True, health_check=HealthCheck(interval=10.0))
    async with world(a, provider("b", "m"), routing=PRIORITY) as w:
        await trio.sleep(1)
        w["a"].script = [limited]
        await w.chat()
        await trio.sleep(5.0)
        w["a"].rest = w["b"].rest = SLOW
        assert (await burst(w, 10))["a"] == 1
        w["a"].probes = [fails(FailureKind.CONNECT)]
        await w.fleet.command("a", Verb.PROBE)
        await w.fleet.command("a", Verb.PROBE)
        assert (await burst(w, 10))["a"] == 1


async def test_a_start_is_no_recovery(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), provider("b", "m"), routing=PRIORITY) as w:
        await trio.sleep(1)
        w["a"].rest = SLOW
        assert await burst(w, 10) == {"a": 10}


# Concurrency that is found out.


async def test_auto_begins_with_a_bound_and_refusals_lower_it(autojump_clock: MockClock) -> None:
    a = provider("a", "m", rate_limits=RateLimits(max_concurrent="auto"))
    async with world(a, provider("b", "m"), routing=PRIORITY) as w:
        w["a"].rest = SLOW
        assert await burst(w, 30) == {"a": 20, "b": 10}
        w["a"].rest = fails(FailureKind.SERVER_ERROR, status=503)
        await w.chat()
        description = await w.fleet.describe("a")
        assert description.buckets["max_concurrent"] == 16


@pytest.mark.parametrize(
    ("outcome", "limit"),
    [
        (Outcome(failure=FailureKind.RATE_LIMITED, status=429), 16),
        (Outcome(failure=FailureKind.SERVER_ERROR, status=529), 16),
        (Outcome(failure=FailureKind.FIRST_TOKEN_TIMEOUT), 16),
        (Outcome(failure=FailureKind.SERVER_ERROR, status=500), 20),
        (Outcome(failure=FailureKind.CALLER, status=400), 20),
        (Outcome(cancelled=True), 20),
    ],
)
async def test_only_what_speaks_of_load_lowers_it(outcome: Outcome, limit: int, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(max_concurrent="auto"))) as w:
        run = w.run()
        w["a"].rest = Step(hangs=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.begin)
            await w.settled()
            assert run.lease is not None
            run.lease.release(outcome)
            assert w.fleet.members["a"].gate.max_concurrent == limit
            nursery.cancel_scope.cancel()


# Limits that the provider tells.


async def test_a_provider_that_told_that_nothing_is_left_is_not_asked_until_the_reset(
    autojump_clock: MockClock,
) -> None:
    told = Step(quotas=Quotas(Quota(0, 30.0)))
    async with world(*two(), routing=PRIORITY, script={"a": [told]}) as w:
        order = [await w.answered_by(), await w.answered_by()]
        await trio.sleep(30.0)
        assert [*order, await w.answered_by()] == ["a", "b", "a"]


async def test_it_holds_for_that_model_only(autojump_clock: MockClock) -> None:
    told = Step(quotas=Quotas(Quota(0, 30.0)))
    async with world(provider("a", "m", "n"), script={"a": [told]}) as w:
        await w.chat("m")
        await w.chat("n")
        with pytest.raises(RateLimited) as caught:
            await w.chat("m")
        assert caught.value.retry_after == pytest.approx(30.0)
        assert "requests_per_minute (as it told)" in caught.value.message


async def test_no_more_requests_are_in_flight_than_it_told(autojump_clock: MockClock) -> None:
    told = Step(quotas=Quotas(Quota(3, 60.0)))
    async with world(*two(), routing=PRIORITY, script={"a": [told]}) as w:
        await w.chat()
        w["a"].rest = w["b"].rest = SLOW
        assert await burst(w, 10) == {"a": 3, "b": 7}


async def test_tokens_count_where_none_are_configured(autojump_clock: MockClock) -> None:
    told = Step(quotas=Quotas(tokens=Quota(1000, 60.0)))
    async with world(*two(), routing=PRIORITY, script={"a": [told]}) as w:
        await w.chat()
        answered = [await w.answered_by(prompt_tokens=500, max_tokens=200) for _ in range(2)]
        assert answered == ["a", "b"]


async def test_what_is_told_never_loosens_what_is_configured(autojump_clock: MockClock) -> None:
    generous = Step(quotas=Quotas(Quota(10_000, 60.0, 10_000)))
    a = provider("a", "m", rate_limits=RateLimits(requests_per_minute=2))
    async with world(a, script={"a": [generous, generous]}) as w:
        await w.chat()
        await w.chat()
        with pytest.raises(RateLimited):
            await w.chat()


async def test_a_429_tells_as_well_and_the_operator_can_forget_it(autojump_clock: MockClock) -> None:
    limited = Step(
        failure=fails(FailureKind.RATE_LIMITED, status=429, retry_after=1.0).failure, quotas=Quotas(Quota(0, 50.0))
    )
    async with world(*two(), routing=PRIORITY, script={"a": [limited]}) as w:
        await w.chat()
        await trio.sleep(2.0)
        assert await w.answered_by() == "b"
        told = (await w.fleet.describe("a")).buckets["told"]
        assert told == [
            {"key": 1, "model": "m", "requests": {"limit": None, "remaining": 0.0, "reset_in": 48.0}, "tokens": None}
        ]
        w.fleet.members["a"].gate.reset(trio.current_time())
        await w.settled()
        assert await w.answered_by() == "a"


async def test_what_is_told_of_one_key_leaves_the_other(autojump_clock: MockClock) -> None:
    keys = (Secret("one"), Secret("two"))
    told = Step(quotas=Quotas(Quota(0, 30.0)))
    async with world(provider("a", "m", api_keys=keys), script={"a": [told]}) as w:
        for _ in range(5):
            await w.chat()
        used = [call.key for _, call in w["a"].asked]
        assert used[0] not in used[1:]
