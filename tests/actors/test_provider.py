"""The provider actor's health: probes, their verdicts, and the requests that wait for the first one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.messages import Health
from infermux.actors.provider import probe_plan
from infermux.config.settings import (
    CircuitBreaker,
    HealthCheck,
    ProbeMethod,
    ProviderSettings,
    RateLimits,
)
from infermux.errors import (
    FailureKind,
    NoHealthyProviders,
    ProviderRefusal,
    UpstreamError,
)
from tests.actors._scripted import (
    CREDENTIALS,
    HANGS,
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    Step,
    World,
    crash,
    fails,
    health,
    provider,
    world,
)

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
