"""One request that others wait for."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from infermux.actors.flight import HELD_UP, LOOK_EVERY, Flight


async def waiting(flight: Flight[str], at: list[float]) -> None:
    await flight.over()
    at.append(trio.current_time())


async def test_everybody_has_the_answer_the_moment_it_lands(autojump_clock: MockClock) -> None:
    del autojump_clock
    flight, at, began = Flight[str](), list[float](), trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(waiting, flight, at)
        await trio.sleep(7.3)
        flight.land("it")
    assert [round(each - began, 6) for each in at] == [7.3] * 3
    assert flight.answer == "it"


async def test_what_comes_first_counts() -> None:
    flight = Flight[str]()
    flight.close(too_large=True)
    flight.land("too late")
    flight.close()
    assert (flight.answer, flight.too_large, flight.is_over) == (None, True, True)
    await flight.over()


async def test_nobody_waits_for_a_caller_that_reads_nothing(autojump_clock: MockClock) -> None:
    del autojump_clock
    flight, at, began = Flight[str](), list[float](), trio.current_time()
    flight.held_since = began
    await waiting(flight, at)
    assert HELD_UP < at[0] - began <= HELD_UP + 2 * LOOK_EVERY
    assert flight.is_over
    assert flight.answer is None
