"""After the commit point, and whoever leaves: honest ends, slow readers, and nothing that goes on running."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.dispatch import HELD_BYTES, HELD_EVENTS, Phase, Run
from infermux.actors.gate import Gate
from infermux.actors.lease import Lease
from infermux.actors.messages import Circuit, Outcome, Reason
from infermux.actors.provider import Revoke
from infermux.config.settings import CircuitBreaker, ProviderSettings, RateLimits, Routing, Timeouts
from infermux.errors import (
    CallerLeft,
    DeadlineExceeded,
    InfermuxError,
    NoHealthyProviders,
    ShuttingDown,
    UpstreamError,
    UpstreamTimeout,
)
from infermux.providers.interface import Answer, Usage
from tests.actors._scripted import (
    HANGS,
    OK,
    SERVER_ERROR,
    USAGE,
    Person,
    Step,
    Taken,
    World,
    breaking,
    crash,
    provider,
    streams,
    world,
)

PRIORITY = Routing(strategy="priority")


def two() -> tuple[ProviderSettings, ProviderSettings]:
    return provider("a", "m"), provider("b", "m")


async def nothing_is_left(w: World) -> None:
    await w.settled()
    for name, wire in w.wires.items():
        assert (name, w.in_flight(name), wire.open) == (name, 0, 0)
        assert all(stream.closed for stream in wire.streams)


# After the first content.


async def test_a_stream_is_passed_on_whole_with_what_was_held_back_in_front(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(b"role", b"one", b"two", content_at=1)]}) as w:
        run, sink = w.run(stream=True), Taken()
        await run.begin()
        await run.pump(sink)
        assert sink.data == [b"roleone", b"two"]
        assert (run.phase, run.usage) == (Phase.DONE, USAGE)
        run.close()
        await nothing_is_left(w)
        assert w["a"].cancelled == 0


async def test_what_is_held_back_is_bounded_in_events_and_bytes(autojump_clock: MockClock) -> None:
    many = streams(*[b"x"] * 100, content_at=99)
    large = streams(*[b"y" * (HELD_BYTES // 2)] * 4, content_at=3)
    async with world(provider("a", "m"), script={"a": [many, large]}) as w:
        for first in (HELD_EVENTS, HELD_BYTES):
            run, sink = w.run(stream=True), Taken()
            await run.begin()
            await run.pump(sink)
            assert len(sink.data[0]) == first


async def test_a_stream_without_usage_is_settled_by_estimate(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(usage=None)]}) as w:
        run = await w.chat(stream=True, prompt_tokens=4)
        assert run.usage == Usage(prompt_tokens=4, completion_tokens=3, estimated=True)


BREAKS = {
    "breaks": streams(breaks=breaking()),
    "stalls": streams(stalls=True),
    "has a bug": streams(breaks=KeyError("delta")),
}


@pytest.mark.parametrize("kind", BREAKS)
async def test_after_the_first_content_nothing_is_replaced_and_the_break_is_told(
    kind: str, autojump_clock: MockClock
) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [BREAKS[kind]]}) as w:
        run, sink = w.run(stream=True), Taken()
        await run.begin()
        with pytest.raises((UpstreamError, UpstreamTimeout)):
            await run.pump(sink)
        assert sink.data == [b"one", b"two", b"three"]
        assert w["b"].asked == []
        gate = w.fleet.members["a"].gate
        assert gate.breaker.consecutive_failures == 1
        run.close()
        await nothing_is_left(w)


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_broken_stream_that_is_read_never_seems_to_have_ended(kind: str, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [BREAKS[kind]]}) as w:
        run = w.run(stream=True)
        await run.begin()
        assert [await run.receive() for _ in range(3)] == [b"one", b"two", b"three"]
        for _ in range(2):
            with pytest.raises((UpstreamError, UpstreamTimeout)):
                await run.receive()
        run.close()
        await nothing_is_left(w)


async def test_a_stream_that_is_read_ends_with_none_again_and_again(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(b"one")]}) as w:
        run = w.run(stream=True)
        await run.begin()
        assert [await run.receive() for _ in range(3)] == [b"one", None, None]
        assert run.usage == USAGE
        run.close()
        await nothing_is_left(w)


async def test_a_run_that_was_closed_early_does_not_seem_to_have_ended(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams()]}) as w:
        run = w.run(stream=True)
        await run.begin()
        run.close()
        run.close()
        with pytest.raises(trio.ClosedResourceError):
            await run.receive()
        await nothing_is_left(w)
        assert w["a"].cancelled == 1


@pytest.mark.parametrize("reads", [True, False])
async def test_nothing_for_the_idle_time_is_an_idle_timeout(reads: bool, autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(idle=10.0))
    async with world(settings, script={"a": [streams(b"1", b"2", gap=4.0, stalls=True)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        with pytest.raises(UpstreamTimeout) as caught:
            await _consume(run, reads)
        assert caught.value.code == "idle_timeout"
        assert 14.0 <= trio.current_time() <= 14.3
        run.close()
        await nothing_is_left(w)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_stream_that_goes_on_slower_than_nothing_is_never_idle(reads: bool, autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(idle=10.0))
    async with world(settings, script={"a": [streams(*[b"x"] * 40, gap=9.9)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        await _consume(run, reads)
        assert trio.current_time() == pytest.approx(39 * 9.9)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_total_timeout_ends_a_stream(reads: bool, autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(total=15.0))
    async with world(settings, script={"a": [streams(*[b"x"] * 40, gap=2.0)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        with pytest.raises(UpstreamTimeout) as caught:
            await _consume(run, reads)
        assert (caught.value.code, trio.current_time()) == ("total_timeout", pytest.approx(15))


@pytest.mark.parametrize("reads", [True, False])
async def test_the_callers_deadline_ends_a_stream(reads: bool, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(*[b"x"] * 40, gap=2.0)]}) as w:
        run = w.run(stream=True, timeout=15.0)
        await run.begin()
        with pytest.raises(DeadlineExceeded):
            await _consume(run, reads)
        assert trio.current_time() == pytest.approx(15)
        await nothing_is_left(w)


async def _consume(run: Run, reads: bool) -> None:
    if not reads:
        await run.pump(Taken())
        return
    while await run.receive() is not None:
        pass


async def test_a_slow_reader_suspends_the_idle_timeout(autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(idle=5.0))
    async with world(settings, script={"a": [streams(b"1", b"2", b"3", gap=1.0)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        await run.pump(Taken(seconds=60.0))
        assert trio.current_time() == pytest.approx(182)
        run.close()
        await nothing_is_left(w)


async def test_silence_after_a_slow_read_is_counted_from_there(autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(idle=5.0))
    async with world(settings, script={"a": [streams(b"1", stalls=True)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        with pytest.raises(UpstreamTimeout):
            await run.pump(Taken(seconds=60.0))
        assert 65.0 <= trio.current_time() <= 65.3


async def test_a_reader_that_takes_its_time_between_reads_is_not_the_providers_silence(
    autojump_clock: MockClock,
) -> None:
    settings = provider("a", "m", timeouts=Timeouts(idle=5.0))
    async with world(settings, script={"a": [streams()]}) as w:
        run = w.run(stream=True)
        await run.begin()
        for _ in range(3):
            assert await run.receive() is not None
            await trio.sleep(100.0)
        assert await run.receive() is None


async def test_a_stream_that_never_waits_leaves_others_their_turn(autojump_clock: MockClock) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with world(provider("a", "m"), script={"a": [streams(*[b"x"] * 200)]}) as w, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await w.chat(stream=True)
        nursery.cancel_scope.cancel()
    assert turns > 10


async def test_what_the_sink_raises_passes_and_nothing_is_left(autojump_clock: MockClock) -> None:
    class Gone(Taken):
        def send_now(self, data: bytes) -> bool:
            raise CallerLeft

    async with world(provider("a", "m"), script={"a": [streams()]}) as w:
        run = w.run(stream=True)
        await run.begin()
        with pytest.raises(CallerLeft):
            await run.pump(Gone())
        run.close()
        await nothing_is_left(w)


# The caller leaves.


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
        assert (gate.breaker.consecutive_failures, gate.response.samples) == (0, 0)


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


async def test_a_caller_that_had_left_before_it_began_costs_nothing(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        person = Person()
        person.leave()
        run = w.run(caller=person)
        with pytest.raises(CallerLeft):
            await run.begin()
        run.close()
        await nothing_is_left(w)
        assert trio.current_time() == 0


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


# A lease that is revoked.


async def test_a_revoked_attempt_goes_on_elsewhere_before_the_commit_point(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [HANGS]}) as w, trio.open_nursery() as nursery:
        runs: list[Run] = []

        async def serve() -> None:
            runs.append(await w.chat())

        nursery.start_soon(serve)
        await trio.sleep(1)
        w.fleet.members["a"].ref.tell(Revoke("it is taken out"))
        await trio.sleep(1)
        assert runs[0].lease is not None
        assert runs[0].lease.provider == "b"
        assert w.fleet.members["a"].gate.breaker.consecutive_failures == 0
        await nothing_is_left(w)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_revoked_stream_is_cut_with_the_reason(reads: bool, autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [streams(stalls=True)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                with pytest.raises(ShuttingDown, match="it is taken out"):
                    await _consume(run, reads)

            nursery.start_soon(serve)
            await trio.sleep(1)
            w.fleet.members["a"].ref.tell(Revoke("it is taken out"))
        await nothing_is_left(w)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_stream_revoked_between_two_reads_is_cut_at_the_next(reads: bool, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(stalls=True)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        w.fleet.members["a"].ref.tell(Revoke("it is taken out"))
        await w.settled()
        with pytest.raises(ShuttingDown, match="it is taken out"):
            await _consume(run, reads)
        await nothing_is_left(w)


async def test_the_last_word_ends_the_request_before_the_commit_point_too(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [HANGS]}) as w, trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(ShuttingDown, match="the server shuts down"):
                await w.chat()

        nursery.start_soon(serve)
        await trio.sleep(1)
        w.fleet.revoke_all("the server shuts down")
        await trio.sleep(1)
        assert w["b"].asked == []
        await nothing_is_left(w)


# Crashes.


async def test_an_asker_that_hits_a_crash_is_served_by_another_provider(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with world(*two(), routing=PRIORITY) as w:
        crash(w, "a")
        assert await w.answered_by() == "b"
        await w.settled()
        assert "actor a crashed (RuntimeError); restarting in 0.1 s" in caplog.text
        await trio.sleep(0.2)
        assert await w.answered_by() == "a"


async def test_without_another_provider_a_crash_is_named(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        crash(w, "a")
        with pytest.raises(NoHealthyProviders, match="a: crashed"):
            await w.chat()


async def test_a_bug_of_an_adapter_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.ERROR)
    async with world(*two(), routing=PRIORITY, script={"a": [Step(bug=KeyError("choices"))]}) as w:
        assert await w.answered_by() == "b"
    [record] = [record for record in caplog.records if "adapter of provider a crashed" in record.getMessage()]
    assert record.exc_info


async def test_the_bug_of_an_only_adapter_is_told_without_its_words(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [Step(bug=KeyError("sk-secret"))]}) as w:
        with pytest.raises(UpstreamError) as caught:
            await w.chat()
        assert "its adapter crashed with KeyError" in str(caught.value)
        assert "sk-secret" not in str(caught.value)


# The half-open probe.

NERVOUS = CircuitBreaker(consecutive_failures=1, recovery_window=30.0, probe_timeout=5.0)


async def open_circuit(w: World, name: str = "a") -> None:
    """Fail once, and wait until the circuit is half-open."""
    w[name].script = [SERVER_ERROR]
    with pytest.raises(UpstreamError):
        await w.chat()
    await w.settled()
    assert w.fleet.members[name].standing.circuit is Circuit.OPEN
    await trio.sleep(30.0)


async def test_of_fifty_callers_one_probes_a_half_open_circuit(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", circuit_breaker=NERVOUS)) as w:
        await open_circuit(w)
        w["a"].rest = Step(seconds=2.0)
        w["a"].asked.clear()
        refused: list[str] = []

        async def caller() -> None:
            try:
                await w.chat()
            except NoHealthyProviders as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(caller)
        assert (len(w["a"].asked), len(refused)) == (1, 49)
        assert all(Reason.PROBING.value in said for said in refused)
        assert await w.answered_by() == "a"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_silent_probe_is_given_up_after_the_probe_timeout(stream: bool, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", circuit_breaker=NERVOUS)) as w:
        await open_circuit(w)
        w["a"].rest = HANGS
        began = trio.current_time()
        with pytest.raises(UpstreamTimeout):
            await w.chat(stream=stream)
        assert trio.current_time() - began == pytest.approx(5.0)
        await w.settled()
        assert w.fleet.members["a"].standing.circuit is Circuit.OPEN


async def test_a_streams_verdict_is_bound_to_its_first_token_however_long_answers_usually_take(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("a", "m", circuit_breaker=NERVOUS), script={"a": [Step(seconds=20.0)]}) as w:
        await w.chat()
        await open_circuit(w)
        w["a"].script = [HANGS, Step(seconds=20.0)]
        began = trio.current_time()
        with pytest.raises(UpstreamTimeout):
            await w.chat(stream=True)
        assert trio.current_time() - began == pytest.approx(5.0)
        # A whole answer has no earlier sign of life, so it gets the time it usually takes.
        await trio.sleep(30.0)
        await w.chat()
        await w.settled()
        assert w.fleet.members["a"].standing.circuit is Circuit.CLOSED


async def test_a_streaming_probe_closes_the_circuit_with_its_first_token(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", circuit_breaker=NERVOUS)) as w:
        await open_circuit(w)
        w["a"].rest = streams(*[b"x"] * 30, gap=1.0)
        run = w.run(stream=True)
        await run.begin()
        await w.settled()
        assert w.fleet.members["a"].standing.circuit is Circuit.CLOSED
        w["a"].rest = OK
        assert await w.answered_by() == "a"
        await run.pump(Taken())
        run.close()
        await nothing_is_left(w)


async def test_a_probe_whose_caller_leaves_lets_the_next_one_probe(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", circuit_breaker=NERVOUS)) as w:
        await open_circuit(w)
        w["a"].script = [HANGS]
        with trio.move_on_after(1.0):
            await w.chat()
        assert await w.answered_by() == "a"
        assert w.fleet.members["a"].standing.circuit is Circuit.CLOSED


# However it ends, a lease comes back once.


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
