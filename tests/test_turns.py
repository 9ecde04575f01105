"""The clock of `within`: it fails what is late by itself, not what the machine makes late."""

from __future__ import annotations

import time

import pytest
import trio

from tests._turns import within

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
