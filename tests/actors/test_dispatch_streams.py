"""After the commit point: honest ends, idle and total timeouts, slow readers."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.hold_back import HELD_BYTES, HELD_EVENTS
from infermux.actors.phase import Phase
from infermux.config.settings import Timeouts
from infermux.errors import (
    CallerLeft,
    DeadlineExceeded,
    UpstreamError,
    UpstreamTimeout,
)
from infermux.providers.interface import Usage
from tests.actors._scripted import (
    PRIORITY,
    USAGE,
    Taken,
    breaking,
    consume,
    nothing_is_left,
    provider,
    streams,
    two,
    world,
)


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


async def test_events_that_were_left_out_are_counted_for_the_provider(autojump_clock: MockClock) -> None:
    script = {"a": [streams(malformed_events=2), streams(malformed_events=1, breaks=breaking())]}
    async with world(provider("a", "m"), script=script) as w:
        await w.chat(stream=True)
        with pytest.raises(UpstreamError):
            await w.chat(stream=True)
        assert (await w.fleet.describe("a")).malformed_events == 3


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("words", [b"[DONE]", b""])
async def test_a_provider_that_falls_silent_after_the_finish_reason_has_answered(
    words: bytes, reads: bool, autojump_clock: MockClock
) -> None:
    settings = provider("a", "m", timeouts=Timeouts(idle=10.0))
    async with world(settings, script={"a": [streams(b"stop", stalls=True, last_words=words)]}) as w:
        run, sink = w.run(stream=True), Taken()
        await run.begin()
        if reads:
            while (data := await run.receive()) is not None:
                sink.data.append(data)
        else:
            await run.pump(sink)
        assert b"".join(sink.data) == b"stop" + words
        assert (run.phase, w.fleet.members["a"].gate.breaker.consecutive_failures) == (Phase.DONE, 0)
        run.close()
        await nothing_is_left(w)


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
            await consume(run, reads)
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
        await consume(run, reads)
        assert trio.current_time() == pytest.approx(39 * 9.9)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_total_timeout_ends_a_stream(reads: bool, autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(total=15.0))
    async with world(settings, script={"a": [streams(*[b"x"] * 40, gap=2.0)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        with pytest.raises(UpstreamTimeout) as caught:
            await consume(run, reads)
        assert caught.value.code == "total_timeout"
        assert trio.current_time() == pytest.approx(15)


@pytest.mark.parametrize("reads", [True, False])
async def test_the_callers_deadline_ends_a_stream(reads: bool, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(*[b"x"] * 40, gap=2.0)]}) as w:
        run = w.run(stream=True, timeout=15.0)
        await run.begin()
        with pytest.raises(DeadlineExceeded):
            await consume(run, reads)
        assert trio.current_time() == pytest.approx(15)
        await nothing_is_left(w)


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
