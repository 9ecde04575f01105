"""What the microbenches drive by hand goes on to its end: they break where the hot path waits for something new."""

from __future__ import annotations

import pytest

from bench.micro.case import Case
from bench.micro.whole import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_whole_request_can_be_driven_step_by_step(case: Case) -> None:
    async with case.open() as act:
        for _ in range(3):
            act()
