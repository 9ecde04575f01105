"""The clock of `within`: it fails what is late by itself, not what the machine makes late."""

from __future__ import annotations

import time

import pytest
import trio

from tests._turns import TURN, Unhurried, within

pytestmark = pytest.mark.slow


async def test_what_never_comes_is_late() -> None:
    with trio.fail_after(30), pytest.raises(AssertionError, match=r"longer than 0\.1 s"):
        async with within(0.1):
            await trio.sleep_forever()


async def test_what_comes_in_time_is_not() -> None:
    event = trio.Event()
    async with within(0.1):
        event.set()
        await event.wait()


async def test_a_process_that_gets_no_processor_is_not_late() -> None:
    async with within(0.1):
        for _ in range(3):
            time.sleep(0.1)  # noqa: ASYNC251 - as if the machine did something else
            await trio.lowlevel.checkpoint()


def test_an_unhurried_clock_sleeps_as_others_do_and_hardly_counts_what_holds_the_process_up() -> None:
    async def slept() -> tuple[float, float]:
        began, real = trio.current_time(), time.perf_counter()
        await trio.sleep(0.1)
        asleep = trio.current_time() - began
        assert time.perf_counter() - real >= asleep >= 0.1
        began = trio.current_time()
        time.sleep(0.3)  # noqa: ASYNC251 - as if the machine did something else
        return asleep, trio.current_time() - began

    asleep, held_up = trio.run(slept, clock=Unhurried())
    assert asleep < 0.11
    assert held_up == pytest.approx(TURN)
