"""Whoever leaves, and however: nothing goes on running, every lease comes back once."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.actors.gate import Gate
from infermux.actors.lease import Lease
from infermux.actors.messages import Outcome
from infermux.actors.phase import Phase
from infermux.config.settings import CircuitBreaker, RateLimits
from infermux.errors import (
    CallerLeft,
    InfermuxError,
)
from infermux.providers.interface import Answer
from tests.actors._scripted import (
    HANGS,
    PRIORITY,
    SERVER_ERROR,
    Person,
    Step,
    Taken,
    World,
    breaking,
    nothing_is_left,
    provider,
    streams,
    two,
    world,
)


async def _serve(run: Run, sink: Taken) -> None:
    try:
        if not isinstance(await run.begin(), Answer):
            await run.pump(sink)
    finally:
        run.close()


async def leaving(w: World, person: Person, run: Run, after: float) -> float:
    """Run to the end in one task while the person leaves in another; returns how long the end took."""
    ended = 0.0
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            nonlocal ended
            with pytest.raises(CallerLeft):
                await _serve(run, Taken())
            ended = trio.current_time()

        nursery.start_soon(serve)
        await trio.sleep(after)
        person.leave()
        left_at = trio.current_time()
    return ended - left_at


PHASES: dict[str, tuple[Step, bool, Phase]] = {
    "waiting for an answer": (HANGS, False, Phase.WAITING),
    "waiting for the head of a stream": (HANGS, True, Phase.WAITING),
    "waiting for the first content": (streams(b"role", content_at=1, stalls=True), True, Phase.WAITING),
    "streaming": (streams(*[b"x"] * 99, gap=0.7), True, Phase.STREAMING),
    "streaming from a silent provider": (streams(stalls=True), True, Phase.STREAMING),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_a_caller_that_leaves_ends_its_attempt_at_once(phase: str, autojump_clock: MockClock) -> None:
    step, stream, expected = PHASES[phase]
    async with world(*two(), routing=PRIORITY, script={"a": [step]}) as w:
        person = Person()
        run = w.run(stream=stream, caller=person)
        phases: list[Phase] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_note_phase, run, phases, 5.0)
            assert await leaving(w, person, run, 5.5) == 0.0
        assert phases == [expected]
        await nothing_is_left(w)
        assert w["a"].cancelled == 1
        assert w["b"].asked == []
        gate = w.fleet.members["a"].gate
        assert (gate.breaker.consecutive_failures, gate.averages.response.samples) == (0, 0)


async def _note_phase(run: Run, phases: list[Phase], after: float) -> None:
    await trio.sleep(after)
    phases.append(run.phase)


async def test_a_caller_that_leaves_a_slow_read_ends_it_at_once(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams()]}) as w:
        person = Person()
        run = w.run(stream=True, caller=person)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:

                async def serve() -> None:
                    with pytest.raises(CallerLeft):
                        await _serve(run, Taken(seconds=60.0))

                nursery.start_soon(serve)
                await trio.sleep(10)
                person.leave()
        run.close()
        await nothing_is_left(w)


async def test_a_caller_that_leaves_while_it_waits_for_a_first_probe_is_gone_at_once(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [HANGS]}) as w:
        person = Person()
        run = w.run(caller=person)
        assert await leaving(w, person, run, 2.0) == 0.0
        assert w["a"].asked == []
        await nothing_is_left(w)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_had_left_before_it_began_costs_nothing(stream: bool, autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=600, tokens_per_minute=60_000)
    async with world(provider("a", "m", rate_limits=limits)) as w:
        person = Person()
        person.leave()
        run = w.run(caller=person, stream=stream, prompt_tokens=1000)
        with pytest.raises(CallerLeft):
            await run.begin()
        run.close()
        await nothing_is_left(w)
        assert trio.current_time() == 0
        assert w["a"].asked == []
        outcome = run.trail[0].outcome
        assert outcome is not None
        assert (outcome.usage, outcome.sent) == (None, False)
        assert w.fleet.members["a"].gate.is_settled(0)


async def test_a_reader_that_leaves_is_told_so(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(stalls=True)]}) as w:
        person = Person()
        run = w.run(stream=True, caller=person)
        await run.begin()
        assert await run.receive() == b"one"
        person.leave()
        with pytest.raises(CallerLeft):
            await run.receive()
        await nothing_is_left(w)


async def test_leaving_between_the_first_content_and_the_rest_is_seen(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(stalls=True)]}) as w:
        person = Person()
        run = w.run(stream=True, caller=person)
        await run.begin()
        person.leave()
        with pytest.raises(CallerLeft):
            await run.pump(Taken())
        await nothing_is_left(w)


async def test_cancellation_from_outside_releases_the_lease_when_the_run_is_closed(autojump_clock: MockClock) -> None:
    for step, stream in ((HANGS, False), (streams(stalls=True), True)):
        async with world(provider("a", "m"), script={"a": [step]}) as w:
            with trio.move_on_after(3.0):
                await w.chat(stream=stream)
            await nothing_is_left(w)
            assert w["a"].cancelled == 1


async def test_what_was_consumed_is_settled_when_the_caller_leaves(autojump_clock: MockClock) -> None:
    limits = RateLimits(tokens_per_minute=6000)
    async with world(provider("a", "m", rate_limits=limits), script={"a": [streams(*[b"x"] * 99, gap=1.0)]}) as w:
        person = Person()
        run = w.run(stream=True, caller=person, prompt_tokens=1000, max_tokens=3000)
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                with pytest.raises(CallerLeft):
                    await _serve(run, Taken())

            nursery.start_soon(serve)
            await trio.sleep(0.5)
            bucket = w.fleet.members["a"].gate.tokens
            assert bucket is not None
            assert bucket.available(trio.current_time()) == pytest.approx(2050)
            person.leave()
        await w.settled()
        # One chunk of about a token, and the prompt.
        assert bucket.available(trio.current_time()) == pytest.approx(6000 - 1001 + 50, abs=1)


async def test_a_thousand_cancellations_at_random_moments_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    rng = random.Random(20)
    steps: list[Callable[[], Step]] = [
        lambda: Step(seconds=rng.random() * 3),
        lambda: Step(seconds=rng.random(), failure=SERVER_ERROR.failure),
        lambda: streams(*[b"x"] * rng.randrange(1, 9), gap=rng.random(), seconds=rng.random()),
        lambda: streams(b"role", b"x", content_at=1, gap=rng.random(), breaks=breaking()),
        lambda: HANGS,
    ]
    limits = RateLimits(requests_per_minute=100_000, tokens_per_minute=10_000_000, max_concurrent=400)
    never = CircuitBreaker(consecutive_failures=10_000, error_rate_threshold=1.0, min_requests=10_000)
    settings = [provider(name, "m", rate_limits=limits, circuit_breaker=never, timeout=4.0) for name in "abc"]
    async with world(*settings) as w:
        releases = _count_settled(monkeypatch)
        for wire in w.wires.values():
            wire.script = [rng.choice(steps)() for _ in range(1500)]

        async def caller() -> None:
            await trio.sleep(rng.random() * 20)
            person = Person()
            stream = rng.random() < 0.5
            with trio.move_on_after(rng.random() * 4) as scope:
                if rng.random() < 0.3:
                    scope.deadline = float("inf")
                    nursery.start_soon(_leave_later, person, rng.random() * 4)
                try:
                    await w.chat(stream=stream, caller=person)
                except (InfermuxError, CallerLeft):
                    pass

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(caller)
        await nothing_is_left(w)
        assert sum(len(wire.asked) for wire in w.wires.values()) > 1000
        assert releases
        assert set(releases.values()) == {1}
        await trio.sleep(120)
        for member in w.fleet.members.values():
            assert member.gate.tokens is not None
            assert member.gate.tokens.available(trio.current_time()) == pytest.approx(10_000_000)


async def _leave_later(person: Person, seconds: float) -> None:
    await trio.sleep(seconds)
    person.leave()


def _count_settled(monkeypatch: pytest.MonkeyPatch) -> dict[Lease, int]:
    """How often each lease was settled while it was out."""
    counts: dict[Lease, int] = {}
    settle = Gate.settle

    def counted(gate: Gate, lease: Lease, outcome: Outcome, now: float) -> None:
        counts[lease] = counts.get(lease, 0) + (lease in gate.leases)
        settle(gate, lease, outcome, now)

    monkeypatch.setattr(Gate, "settle", counted)
    return counts
