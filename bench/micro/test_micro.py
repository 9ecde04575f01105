"""The microbenches under pytest-benchmark: `pytest bench/micro`. How dear they may be is `python -m bench.micro`'s."""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .case import Case
from .cases import CASES


@pytest.mark.benchmark(timer=time.thread_time, disable_gc=True, min_time=0.001, max_time=0.2, warmup=False)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_cost(case: Case, benchmark: BenchmarkFixture) -> None:
    async with case.open() as act:
        benchmark(act)
