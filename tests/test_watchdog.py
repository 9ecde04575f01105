"""Who holds the event loop is counted, and logged with its name and where it was: in real time, as holds are."""

from __future__ import annotations

import inspect
import logging
import time

import pytest
import trio

from infermux import watchdog
from infermux.watchdog import Watchdog, stack_of


def hold(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def holder(seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    hold(seconds)
    await trio.lowlevel.checkpoint()


async def lines(caplog: pytest.LogCaptureFixture, number: int) -> list[str]:
    """What was logged, once there are `number` lines: they are written by a thread of their own."""
    with trio.fail_after(5):
        while len(caplog.records) < number:  # noqa: ASYNC110 - no event crosses from that thread
            await trio.sleep(0.01)
    return [record.getMessage() for record in caplog.records]


async def test_a_task_that_holds_the_loop_is_counted_and_logged_with_its_name_and_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = Watchdog()

    async def with_secret(key: str) -> None:
        await holder(0.15)
        assert key

    with watch.watching():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(with_secret, "sk-not-to-be-seen")
        line = (await lines(caplog, 1))[0]
    assert watch.holds >= 1  # a busy machine may stretch another step
    assert watch.longest >= 0.15
    assert "with_secret held the event loop for" in line
    assert "test_watchdog.py" in line
    assert "hold <" in line.replace("\n", " ")
    assert "sk-not" not in line
    shown = watch.statistics()
    assert shown["holds"] == watch.holds
    assert shown["longest_ms"] >= 150
    assert shown["last"]["task"].endswith("with_secret")


async def test_short_steps_and_waits_are_no_holds() -> None:
    watch = Watchdog()
    with watch.watching():
        for _ in range(20):
            hold(0.002)
            await trio.lowlevel.checkpoint()
        await trio.sleep(0.1)
    # A machine that is busy with something else can stretch a step: not twenty of them.
    assert watch.holds < 3


async def test_a_short_hold_that_comes_back_is_found_with_its_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LOG_EVERY", 0.0)
    monkeypatch.setattr(watchdog, "LOOK_EVERY", 0.3)
    watch = Watchdog()
    with watch.watching():
        for number in (1, 2):
            await holder(0.07)
            told = await lines(caplog, number)
    assert "test_watchdog.py" in told[1]


async def test_c_code_that_keeps_the_interpreter_lock_is_counted_too(caplog: pytest.LogCaptureFixture) -> None:
    number = 3 ** (1 << 17)
    watch = Watchdog()
    with watch.watching():
        began = time.perf_counter()
        await trio.lowlevel.checkpoint()
        while time.perf_counter() - began < 0.06:
            number * number  # pyright: ignore[reportUnusedExpression] - arithmetic never lets go of the lock
        await trio.lowlevel.checkpoint()
        line = (await lines(caplog, 1))[0]
    assert watch.holds >= 1
    assert "test_c_code" in line


async def test_the_log_tells_of_one_hold_in_a_while_and_counts_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LOG_EVERY", 0.1)
    watch = Watchdog()
    with watch.watching():
        for _ in range(2):
            await holder(0.055)
        await trio.sleep(0.15)
        await holder(0.055)
        told = await lines(caplog, 2)
    assert watch.holds >= 3
    assert "more since the last line)" in told[1]


async def test_a_step_that_does_not_end_is_told_of_before_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.06)
    watch = Watchdog()
    with watch.watching():
        await trio.lowlevel.checkpoint()
        with caplog.at_level(logging.ERROR):
            hold(0.6)  # long enough for a thread to get its turn on a machine that has much to do
            line, *_ = [record.getMessage() for record in caplog.records]
    assert "and goes on; it is at" in line


async def test_nothing_is_watched_after_the_block() -> None:
    watch = Watchdog()
    with watch.watching():
        await trio.lowlevel.checkpoint()
    await holder(0.06)
    assert watch.holds == 0
    assert repr(watch) == "<Watchdog 0 holds, longest 0 ms>"


def test_a_stack_is_bounded_and_names_places_only() -> None:
    def deep(levels: int) -> tuple[str, ...]:
        return deep(levels - 1) if levels else stack_of(inspect.currentframe())

    stack = deep(50)
    assert len(stack) == watchdog.FRAMES
    assert all(place.startswith(f"{__file__}:") and place.endswith("deep") for place in stack)
    assert stack_of(None) == ()
