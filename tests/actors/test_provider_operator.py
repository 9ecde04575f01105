"""The operator's commands, and what a crash of the actor leaves standing."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.description import Description
from infermux.actors.kit_errors import ActorDied
from infermux.actors.messages import Health, Reason
from infermux.actors.provider_messages import Command, Describe, Verb
from infermux.config.settings import (
    RateLimits,
    Routing,
)
from infermux.errors import (
    FailureKind,
    InfermuxError,
    NoHealthyProviders,
    RateLimited,
    UpstreamError,
)
from tests.actors._scripted import (
    HANGS,
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    Step,
    crash,
    fails,
    health,
    provider,
    reason,
    world,
)

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
        assert told.reason == "circuit_open"
        assert told.blocked_for == pytest.approx(20)
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
