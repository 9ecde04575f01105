"""The provider actor: probes, limits, cool-downs, the operator's commands, and what a crash leaves standing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.kit_errors import ActorDied
from infermux.actors.lease import Lease
from infermux.actors.messages import Circuit, Health, Reason, Standing, Want
from infermux.actors.plan import Plan
from infermux.actors.provider import Command, Describe, Description, Verb, probe_plan
from infermux.actors.reply import Reply
from infermux.actors.router import Acquire
from infermux.actors.strategy import Choice, Option
from infermux.config.settings import (
    CircuitBreaker,
    HealthCheck,
    ProbeMethod,
    ProviderSettings,
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
    CREDENTIALS,
    HANGS,
    OK,
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

PRIORITY = Routing(strategy="priority")


def health(w: World, name: str = "a") -> Health:
    return w.fleet.members[name].standing.health


def reason(w: World, name: str = "a") -> Reason | None:
    return w.fleet.members[name].standing.reason


# Probes.


async def test_every_provider_is_probed_at_start_all_at_once(autojump_clock: MockClock) -> None:
    settings = [provider(f"p{i}", "m", probed=True) for i in range(10)]
    async with world(*settings, probes={s.name: [Step(seconds=3.0)] for s in settings}) as w:
        await trio.sleep(3.1)
        assert [wire.probed[0][0] for wire in w.wires.values()] == [0.0] * 10
        assert {health(w, name) for name in w.wires} == {Health.HEALTHY}


async def test_a_start_is_one_probe(autojump_clock: MockClock) -> None:
    for seed in range(20):
        async with world(provider("a", "m", probed=True), seed=seed) as w:
            await trio.sleep(30)
            assert len(w["a"].probed) == 1


async def test_probes_come_every_interval_give_or_take_a_tenth(autojump_clock: MockClock) -> None:
    check = HealthCheck(interval=60.0)
    async with world(provider("a", "m", health_check=check)) as w:
        await trio.sleep(60 * 100)
        times = [at for at, _, _ in w["a"].probed]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert 90 < len(gaps) < 110
        assert all(54.0 <= gap <= 66.0 for gap in gaps)
        assert max(gaps) - min(gaps) > 5.0


async def test_a_recent_success_counts_as_a_probe(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True)) as w:
        for _ in range(100):
            await trio.sleep(30)
            await w.chat()
        assert len(w["a"].probed) == 1


async def test_a_failure_does_not_put_a_probe_off(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True)) as w:
        w["a"].rest = fails(FailureKind.CALLER, status=400)
        for _ in range(20):
            await trio.sleep(30)
            with pytest.raises(ProviderRefusal):
                await w.chat()
        assert len(w["a"].probed) > 8


PROBE_FAILURES = {
    "an error": (SERVER_ERROR, Health.UNHEALTHY),
    "a 429": (RATE_LIMITED, Health.UNHEALTHY),
    "no connection": (fails(FailureKind.CONNECT), Health.UNHEALTHY),
    "silence": (HANGS, Health.UNHEALTHY),
    "an answer that comes too late": (Step(seconds=10.5), Health.UNHEALTHY),
    "a bug": (Step(bug=KeyError("x")), Health.UNHEALTHY),
    "a refusal of our credentials": (CREDENTIALS, Health.CONFIG_ERROR),
}


@pytest.mark.parametrize("kind", PROBE_FAILURES)
async def test_a_probe_that_fails_excludes_the_provider_until_one_succeeds(
    kind: str, autojump_clock: MockClock
) -> None:
    step, expected = PROBE_FAILURES[kind]
    async with world(provider("a", "m", probed=True), provider("b", "m"), routing=PRIORITY, probes={"a": [step]}) as w:
        await trio.sleep(11)
        assert health(w) is expected
        assert await w.answered_by() == "b"
        await trio.sleep(70)
        assert health(w) is Health.HEALTHY
        assert await w.answered_by() == "a"


async def test_an_answer_just_within_the_timeout_is_healthy(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [Step(seconds=9.9)]}) as w:
        await trio.sleep(10)
        assert health(w) is Health.HEALTHY


async def test_the_reason_for_a_config_error_is_shown(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [CREDENTIALS]}) as w:
        await trio.sleep(1)
        with pytest.raises(NoHealthyProviders, match="a: config_error"):
            await w.chat()
        told = await w.fleet.describe("a")
        assert (told.reason, told.health) == (
            "config_error",
            {"state": "config_error", "error": "told to fail: credentials"},
        )


async def test_a_live_refusal_of_our_credentials_excludes_until_a_probe_succeeds(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), script={"a": [CREDENTIALS]}) as w:
        await trio.sleep(1)
        with pytest.raises(UpstreamError):
            await w.chat()
        await w.settled()
        assert health(w) is Health.CONFIG_ERROR
        await trio.sleep(70)
        assert await w.answered_by() == "a"


@pytest.mark.parametrize("check", [HealthCheck(disabled=True), HealthCheck(method=ProbeMethod.NONE)])
async def test_a_provider_without_checks_is_never_probed_and_always_passes(
    check: HealthCheck, autojump_clock: MockClock
) -> None:
    settings = provider("a", "m", health_check=check, circuit_breaker=CircuitBreaker(consecutive_failures=99))
    async with world(settings, script={"a": [CREDENTIALS, CREDENTIALS]}) as w:
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await w.chat()
        assert await w.answered_by() == "a"
        await trio.sleep(1000)
        assert (health(w), w["a"].probed) == (Health.UNCHECKED, [])


async def test_a_crash_of_a_probe_is_logged_and_named(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [Step(bug=KeyError("x"))]}) as w:
        await trio.sleep(1)
        assert "the adapter of provider a crashed in a probe" in caplog.text
        assert (await w.fleet.describe("a")).health["error"] == "its adapter crashed with KeyError"
        assert w.fleet.supervisor.statistics().restarts == 0


P = ProviderSettings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (P(name="a", type="openai", models=("m", "n")), (ProbeMethod.GENERATE, "m")),
        (P(name="a", type="openai", models=("text-embedding-3", "m")), (ProbeMethod.GENERATE, "m")),
        (P(name="a", type="openai", models=("text-embedding-3",)), (ProbeMethod.GENERATE, "text-embedding-3")),
        (P(name="a", type="openai"), (ProbeMethod.MODELS, None)),
        (P(name="a", type="openai", model_aliases={"x": "y"}), (ProbeMethod.MODELS, "y")),
        (P(name="a", type="ollama", models=("m",)), (ProbeMethod.MODELS, "m")),
        (P(name="a", type="ollama", health_check=HealthCheck(model="m")), (ProbeMethod.GENERATE, "m")),
        (
            P(name="a", type="openai", models=("m",), health_check=HealthCheck(method=ProbeMethod.MODELS)),
            (ProbeMethod.MODELS, "m"),
        ),
        (
            P(name="a", type="openai", models=("m",), health_check=HealthCheck(model="n")),
            (ProbeMethod.GENERATE, "n"),
        ),
    ],
)
def test_the_probe_asks_for_what_the_provider_declares(
    settings: ProviderSettings, expected: tuple[ProbeMethod, str | None]
) -> None:
    assert probe_plan(settings) == expected


async def test_an_ollama_without_a_list_is_asked_for_its_models(autojump_clock: MockClock) -> None:
    async with world(provider("a", type="ollama", probed=True), provider("b", type="ollama", probed=True)) as w:
        w["a"].listed = ("llama3:latest",)
        w["b"].listing_fails = True
        await trio.sleep(70)
        assert list(w.fleet.listed_models()) == ["llama3:latest"]
        w["a"].listing_fails = True
        await trio.sleep(70)
        assert list(w.fleet.listed_models()) == ["llama3:latest"]
        assert (health(w, "a"), health(w, "b")) == (Health.HEALTHY, Health.HEALTHY)


@pytest.mark.parametrize("how", ["hangs", "crashes"])
async def test_a_listing_that_fails_badly_is_no_failed_probe(
    how: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with world(provider("a", type="ollama", probed=True)) as w:
        w["a"].listed = ("llama3",)
        await trio.sleep(70)

        async def bad() -> Sequence[str]:
            if how == "hangs":
                await trio.sleep_forever()
            raise KeyError("models")

        monkeypatch.setattr(w["a"], "list_models", bad)
        await trio.sleep(100)
        assert health(w) is Health.HEALTHY
        assert list(w.fleet.listed_models()) == ["llama3"]


# Waiting for the first probe.


async def test_a_request_whose_candidates_are_all_unknown_waits_for_the_first_result(autojump_clock: MockClock) -> None:
    settings = [provider(name, "m", probed=True) for name in "ab"]
    async with world(*settings, probes={"a": [Step(seconds=4.0)], "b": [Step(seconds=2.0)]}) as w:
        assert await w.answered_by() == "b"
        assert trio.current_time() == pytest.approx(2)


async def test_a_first_result_that_is_bad_leaves_the_request_waiting_for_the_next(autojump_clock: MockClock) -> None:
    settings = [provider(name, "m", probed=True) for name in "ab"]
    bad = fails(FailureKind.CONNECT, seconds=1.0)
    async with world(*settings, probes={"a": [bad], "b": [Step(seconds=5.0)]}) as w:
        assert await w.answered_by() == "b"
        assert trio.current_time() == pytest.approx(5)


async def test_a_request_does_not_wait_for_a_probe_where_another_provider_is_known(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), provider("b", "m"), probes={"a": [HANGS]}) as w:
        assert await w.answered_by() == "b"
        assert trio.current_time() == 0


async def test_a_request_waits_for_first_probes_at_most_their_timeout(autojump_clock: MockClock) -> None:
    settings = [provider(name, "m", probed=True) for name in "ab"]
    async with world(*settings, probes={"a": [HANGS], "b": [HANGS]}) as w:
        with pytest.raises(NoHealthyProviders) as caught:
            await w.chat()
        assert trio.current_time() == pytest.approx(10)
        assert "a: unhealthy; b: unhealthy" in str(caught.value)


async def test_a_request_whose_probes_never_report_is_answered_all_the_same(autojump_clock: MockClock) -> None:
    # The probe waits for the bucket, so it does not even begin while the request waits for it.
    limits = RateLimits(requests_per_minute=1)
    async with world(provider("a", "m", probed=True, rate_limits=limits), probes={"a": [HANGS]}) as w:
        await trio.sleep(1)
        crash(w, "a")
        await trio.sleep(10)
        with pytest.raises(NoHealthyProviders, match="a: starting"):
            await w.chat()
        assert trio.current_time() == pytest.approx(21.5)
        assert len(w["a"].probed) == 1


async def test_many_requests_wait_for_one_probe_and_all_are_answered(autojump_clock: MockClock) -> None:
    done: list[float] = []

    async def caller(w: World) -> None:
        await w.chat()
        done.append(trio.current_time())

    async with world(provider("a", "m", probed=True), probes={"a": [Step(seconds=3.0)]}) as w:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(caller, w)
        assert done == [pytest.approx(3)] * 100


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


async def _hammer(w: World, callers: int, **want: int) -> None:
    rng = random.Random(5)

    async def caller() -> None:
        while True:
            try:
                await w.chat(**want)
            except RateLimited:
                await trio.sleep(rng.random() * 8)

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


# The operator.


async def test_a_disabled_provider_takes_nothing_and_is_not_probed_until_it_is_enabled(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("a", "m", probed=True), provider("b", "m"), routing=PRIORITY) as w:
        await trio.sleep(1)
        told = await w.fleet.command("a", Verb.DISABLE)
        assert (told.routable, told.reason) == (False, "disabled")
        assert await w.answered_by() == "b"
        await trio.sleep(1000)
        probes = len(w["a"].probed)
        assert probes <= 1
        told = await w.fleet.command("a", Verb.ENABLE)
        assert told.routable
        assert await w.answered_by() == "a"
        await w.settled()
        assert len(w["a"].probed) == probes + 1


async def test_a_draining_provider_takes_nothing_new_and_ends_what_it_has(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [Step(seconds=10.0)]}) as w, trio.open_nursery() as nursery:
        done: list[str] = []

        async def caller() -> None:
            done.append(await w.answered_by())

        nursery.start_soon(caller)
        await trio.sleep(1)
        told = await w.fleet.command("a", Verb.DRAIN)
        assert (told.reason, told.in_flight) == ("draining", 1)
        with pytest.raises(NoHealthyProviders, match="a: draining"):
            await w.chat()
        await trio.sleep(10)
        assert done == ["a"]
        assert (await w.fleet.command("a", Verb.ENABLE)).routable


async def test_a_probe_on_command_is_answered_with_its_result(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [SERVER_ERROR, Step(seconds=2.0)]}) as w:
        await trio.sleep(5)
        assert health(w) is Health.UNHEALTHY
        told = await w.fleet.command("a", Verb.PROBE)
        assert trio.current_time() == pytest.approx(7)
        assert told.health["state"] == "healthy"
        assert len(w["a"].probed) == 2


@pytest.mark.parametrize("seed", range(10))
async def test_no_command_to_probe_is_lost_however_it_meets_the_loop(seed: int, autojump_clock: MockClock) -> None:
    rng = random.Random(seed)
    async with world(provider("a", "m", probed=True)) as w:
        w["a"].probe_rest = Step(seconds=1.0)
        for _ in range(20):
            with trio.fail_after(3.0):
                await w.fleet.command("a", Verb.PROBE)
            await trio.sleep(rng.choice([0.0, 0.5, 1.0, 1.5]))


async def test_a_probe_asked_for_twice_at_once_is_one_probe(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True)) as w:
        await trio.sleep(1)
        w["a"].probe_rest = Step(seconds=2.0)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(w.fleet.command, "a", Verb.PROBE)
        await trio.sleep(20)
        assert len(w["a"].probed) == 2


async def test_a_provider_that_is_not_probed_answers_the_command_at_once(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        assert (await w.fleet.command("a", Verb.PROBE)).health["state"] == "unchecked"
        assert w["a"].probed == []


async def test_a_reset_forgets_circuit_cool_down_and_set_aside_models_but_no_limit(autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=7)
    a = provider("a", "m", "n", rate_limits=limits)
    missing = fails(FailureKind.MODEL_NOT_FOUND, status=404)
    async with world(a, script={"a": [missing, *[SERVER_ERROR] * 4, RATE_LIMITED]}) as w:
        for model in ("n", *"mmmm", "m"):
            with pytest.raises(InfermuxError):
                await w.chat(model)
        told = await w.fleet.command("a", Verb.RESET)
        assert (told.routable, told.circuit["consecutive_failures"]) == (True, 0)
        assert await w.answered_by("n") == "a"
        with pytest.raises(RateLimited, match="requests_per_minute"):
            await w.chat("m")


async def test_commands_without_an_asker_are_carried_out(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True)) as w:
        await trio.sleep(1)
        ref = w.fleet.members["a"].ref
        ref.tell(Command(Verb.DISABLE))
        ref.tell(Command(Verb.PROBE))
        ref.tell(Describe())
        ref.tell("gibberish")
        await trio.sleep(1)
        assert reason(w) is Reason.DISABLED
        assert len(w["a"].probed) == 2


async def test_a_description_tells_all(autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=10, tokens_per_minute=1000, max_concurrent=4)
    settings = provider("a", "m", model_aliases={"smart": "m"}, rate_limits=limits)
    async with world(settings, script={"a": [Step(seconds=2.0), SERVER_ERROR]}) as w:
        await w.chat(max_tokens=10)
        with pytest.raises(UpstreamError):
            await w.chat(max_tokens=10)
        await w.fleet.command("a", Verb.DRAIN)
        told = await w.fleet.describe("a")
    assert isinstance(told, Description)
    assert (told.name, told.type, told.transport, told.in_flight) == ("a", "openai", "scripted", 0)
    assert (told.models, told.aliases) == (["m"], {"smart": "m"})
    assert (told.routable, told.reason, told.blocked_for) == (False, "draining", None)
    assert told.circuit == {
        "state": "closed",
        "consecutive_failures": 1,
        "window": {"requests": 2, "error_rate": 0.5},
    }
    assert told.buckets["requests"] == {"limit": 10, "level": pytest.approx(8.3, abs=0.1)}
    assert told.buckets["max_concurrent"] == 4
    assert told.ewma["response"] == {"seconds": pytest.approx(2), "samples": 1}
    assert told.ewma["models"] == {"m": {"seconds": pytest.approx(2), "samples": 1}}
    assert [(t["of"], t["from"], t["to"]) for t in told.transitions] == [("operator", "enabled", "draining")]


async def test_a_description_says_for_how_long_it_is_blocked(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [SERVER_ERROR] * 5}) as w:
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await w.chat()
        await trio.sleep(10)
        told = await w.fleet.describe("a")
        assert (told.reason, told.blocked_for) == ("circuit_open", pytest.approx(20))
        assert told.transitions[-1]["seconds_ago"] == pytest.approx(10)


# Crashes.


async def test_a_crash_of_one_provider_is_not_noticed_by_the_others_and_their_requests(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("a", "m"), provider("b", "n")) as w, trio.open_nursery() as nursery:
        w["b"].rest = Step(seconds=5.0)
        answered: list[str] = []

        async def caller() -> None:
            answered.append(await w.answered_by("n"))

        for _ in range(10):
            nursery.start_soon(caller)
        for _ in range(4):
            await trio.sleep(1)
            crash(w, "a")
        await trio.sleep(2)
        assert answered == ["b"] * 10


async def test_limits_leases_and_health_survive_a_crash(autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=3, max_concurrent=2)
    settings = provider("a", "m", probed=True, rate_limits=limits)
    async with world(settings) as w, trio.open_nursery() as nursery:
        await trio.sleep(1)
        w["a"].rest = Step(seconds=20.0)
        done: list[str] = []

        async def caller() -> None:
            done.append(await w.answered_by())

        nursery.start_soon(caller)
        await trio.sleep(1)
        crash(w, "a")
        await trio.sleep(1)
        assert w.fleet.members["a"].ref.alive
        assert (health(w), w.in_flight("a"), len(w["a"].probed)) == (Health.HEALTHY, 1, 1)
        nursery.start_soon(caller)
        await trio.sleep(1)
        with pytest.raises(RateLimited):
            await w.chat()
        await trio.sleep(30)
        assert done == ["a", "a"]
        assert w.in_flight("a") == 0


async def test_a_lease_released_while_its_actor_is_down_comes_back_after_the_restart(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w, trio.open_nursery() as nursery:
        w["a"].script = [Step(seconds=1.05)]
        nursery.start_soon(w.chat)
        await trio.sleep(1)
        crash(w, "a")
        await trio.sleep(0.06)
        assert not w.fleet.members["a"].ref.alive
        assert not w.fleet.is_ready()
        await trio.sleep(1)
        assert w.in_flight("a") == 0
        assert w.fleet.is_ready()


async def test_whoever_waits_for_a_probe_learns_of_the_crash(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True)) as w, trio.open_nursery() as nursery:
        await trio.sleep(1)
        w["a"].probe_rest = HANGS

        async def operator() -> None:
            with pytest.raises(ActorDied):
                await w.fleet.command("a", Verb.PROBE)

        nursery.start_soon(operator)
        await trio.sleep(1)
        crash(w, "a")


async def test_a_crash_before_the_first_probe_ended_probes_again(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [HANGS]}) as w:
        await trio.sleep(1)
        crash(w, "a")
        await trio.sleep(1)
        assert health(w) is Health.HEALTHY


async def test_a_crash_does_not_make_a_provider_look_busy_for_ever(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m"), routing=Routing(strategy="least_busy")) as w:
        for _ in range(10):
            crash(w, "a")
            await w.chat()
            await trio.sleep(100.0)
        served = {name: len(w[name].asked) for name in "ab"}
        for _ in range(20):
            await w.chat()
        assert len(w["a"].asked) - served["a"] >= 8
