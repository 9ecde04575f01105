"""Attempts that end for reasons of the router's own: revoked leases, crashes, and the half-open probe."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.actors.messages import Circuit, Reason
from infermux.actors.provider_messages import Revoke
from infermux.config.settings import CircuitBreaker, RateLimits
from infermux.errors import (
    NoHealthyProviders,
    ShuttingDown,
    UpstreamError,
    UpstreamTimeout,
)
from tests.actors._scripted import (
    HANGS,
    OK,
    PRIORITY,
    SERVER_ERROR,
    Step,
    Taken,
    World,
    consume,
    crash,
    nothing_is_left,
    provider,
    streams,
    two,
    world,
)


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
                    await consume(run, reads)

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
            await consume(run, reads)
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


async def test_a_revoked_attempt_has_used_its_prompt(autojump_clock: MockClock) -> None:
    limits = RateLimits(tokens_per_minute=6000)
    providers = [provider("a", "m", rate_limits=limits), provider("b", "m")]
    async with world(*providers, routing=PRIORITY, script={"a": [HANGS]}) as w, trio.open_nursery() as nursery:
        nursery.start_soon(partial(w.chat, prompt_tokens=1000, max_tokens=500))
        await trio.sleep(1)
        w.fleet.members["a"].ref.tell(Revoke("it is taken out"))
        await trio.lowlevel.checkpoint()
        await w.settled()
        bucket = w.fleet.members["a"].gate.tokens
        assert bucket is not None
        assert bucket.available(trio.current_time()) == pytest.approx(6000 - 1000 + 100)  # refilled in a second
