"""A virtual run does the same each time."""

from __future__ import annotations

import importlib
import random
from typing import Any

import trio

from infermux.simulation.virtual import run_virtually


async def _raced() -> str:
    """Which of many tasks that wake at the same moment comes first: chance, but for the seed."""
    order: list[str] = []

    async def runner(name: str) -> None:
        for _ in range(3):
            await trio.sleep(1)
            order.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abcdefgh":
            nursery.start_soon(runner, name)
    return "".join(order)


def test_the_same_seed_runs_in_the_same_order_and_another_in_another() -> None:
    orders = [run_virtually(_raced, seed=seed) for seed in (1, 1, 2, 2)]
    assert orders[0] == orders[1] != orders[2] == orders[3]


def test_what_was_set_for_it_is_taken_back() -> None:
    internals: Any = importlib.import_module("trio._core._run")
    was, state = internals._ALLOW_DETERMINISTIC_SCHEDULING, internals._r.getstate()
    run_virtually(_raced, seed=3)
    assert isinstance(internals._r, random.Random)
    assert (internals._ALLOW_DETERMINISTIC_SCHEDULING, internals._r.getstate()) == (was, state)


def test_time_passes_at_once() -> None:
    async def hour() -> float:
        await trio.sleep(3600)
        return trio.current_time()

    assert run_virtually(hour, seed=0) == 3600
