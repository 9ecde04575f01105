"""Start-up events are held back for two seconds, then the caller gets them and with them this stream."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.hold_back import HELD_SECONDS, HoldBack
from infermux.config.settings import Timeouts
from infermux.errors import FailureKind, InfermuxError, ShuttingDown, UpstreamError, UpstreamFailure, UpstreamTimeout
from infermux.providers.interface import Stream
from tests.actors._scripted import PRIORITY, Step, Taken, World, breaking, nothing_is_left, provider, world

PAIR = (provider("a", "m"), provider("b", "m"))


class Opened:
    """What a caller was given before the first content."""

    def __init__(self) -> None:
        self.data: list[tuple[float, bytes]] = []

    def __call__(self, stream: Stream, data: bytes) -> None:
        self.data.append((trio.current_time(), data))


def slow_start(*chunks: bytes, gap: float, content_at: int, **more: object) -> Step:
    return Step(chunks=chunks, gap=gap, content_at=content_at, **more)  # type: ignore[arg-type]


async def test_those_who_are_added_are_called_two_seconds_later_in_turn(autojump_clock: MockClock) -> None:
    called: list[tuple[str, float]] = []
    hold_back = HoldBack()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_back.run)
        for name in "ab":
            hold_back.add(lambda name=name: called.append((name, trio.current_time())))  # type: ignore[misc]
            await trio.sleep(0.5)
        await trio.sleep(5)
        hold_back.add(lambda: called.append(("c", trio.current_time())))
        await trio.sleep(HELD_SECONDS + 0.1)
        nursery.cancel_scope.cancel()
    assert called == [("a", 2.0), ("b", 2.5), ("c", 8.0)]


async def test_a_stream_that_breaks_within_that_time_is_replaced_unseen(autojump_clock: MockClock) -> None:
    broken = slow_start(b"role", gap=1.0, content_at=9, breaks=breaking())
    async with world(*PAIR, routing=PRIORITY, script={"a": [broken], "b": [Step(chunks=(b"whole",))]}) as w:
        run, opened, sink = w.run(stream=True), Opened(), Taken()
        await run.begin(opened)
        await run.pump(sink)
        assert (opened.data, sink.data, run.attempts) == ([], [b"whole"], 2)
        await nothing_is_left(w)


async def test_after_it_the_caller_has_what_was_held_and_each_later_event_as_it_comes(
    autojump_clock: MockClock,
) -> None:
    slow = slow_start(b"role", b"ping", b"ping", b"text", b"end", gap=1.5, content_at=3)
    async with world(provider("a", "m"), script={"a": [slow]}) as w:
        run, opened, sink = w.run(stream=True), Opened(), Taken()
        await run.begin(opened)
        assert run.committed
        await run.pump(sink)
        assert opened.data == [(2.0, b"roleping"), (3.0, b"ping")]
        assert sink.data == [b"text", b"end"]
        await nothing_is_left(w)


async def _opened_and_failed(w: World) -> tuple[Opened, InfermuxError]:
    run, opened = w.run(stream=True), Opened()
    with pytest.raises((UpstreamError, UpstreamTimeout, ShuttingDown)) as caught:
        await run.begin(opened)
    run.close()
    await nothing_is_left(w)
    return opened, caught.value


async def test_a_stream_that_breaks_then_is_told_and_not_replaced(autojump_clock: MockClock) -> None:
    broken = slow_start(b"role", b"ping", gap=3.0, content_at=9, breaks=breaking())
    async with world(*PAIR, routing=PRIORITY, script={"a": [broken]}) as w:
        opened, error = await _opened_and_failed(w)
        assert [data for _, data in opened.data] == [b"role", b"ping"]
        assert isinstance(error, UpstreamError)
        assert w["b"].asked == []


async def test_an_error_that_a_provider_says_then_keeps_its_status(autojump_clock: MockClock) -> None:
    busy = UpstreamFailure(FailureKind.SERVER_ERROR, "busy", status=529)
    broken = slow_start(b"role", b"ping", gap=3.0, content_at=9, breaks=busy)
    async with world(*PAIR, routing=PRIORITY, script={"a": [broken]}) as w:
        _, error = await _opened_and_failed(w)
        assert error.status == 529


async def test_a_first_token_that_never_comes_is_still_a_first_token_timeout(autojump_clock: MockClock) -> None:
    silent = slow_start(b"role", gap=0.0, content_at=9, stalls=True)
    settings = provider("a", "m", timeouts=Timeouts(first_token=20.0))
    async with world(settings, provider("b", "m"), routing=PRIORITY, script={"a": [silent]}) as w:
        _, error = await _opened_and_failed(w)
        assert isinstance(error, UpstreamTimeout)
        assert error.code == "first_token_timeout"
        assert trio.current_time() == pytest.approx(20.0)
        assert w["b"].asked == []


async def test_without_anybody_to_give_them_to_they_are_held_on(autojump_clock: MockClock) -> None:
    broken = slow_start(b"role", b"ping", gap=3.0, content_at=9, breaks=breaking())
    script = {"a": [broken], "b": [Step(chunks=(b"whole",))]}
    async with world(*PAIR, routing=PRIORITY, script=script) as w:
        run = w.run(stream=True)
        await run.begin()
        assert await run.receive() == b"whole"
        run.close()


async def test_a_silence_without_any_event_is_replaced_however_long_it_lasts(autojump_clock: MockClock) -> None:
    script = {"a": [Step(hangs=True)], "b": [Step(chunks=(b"whole",))]}
    async with world(*PAIR, routing=PRIORITY, script=script) as w:
        run, opened = w.run(stream=True), Opened()
        await run.begin(opened)
        assert (opened.data, run.attempts) == ([], 2)
        run.close()
