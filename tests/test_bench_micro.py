"""What the microbenches drive by hand goes on to its end: they break where the hot path waits for something new."""

from __future__ import annotations

import pytest

from bench.micro import routing, whole
from bench.micro.case import Case

FEW = tuple(case for case in routing.CASES if case.name.endswith(("beside 0", "beside 10", ", 3 serve")))


@pytest.mark.parametrize("case", [*whole.CASES, *FEW], ids=lambda case: case.name)
async def test_what_is_measured_is_done(case: Case) -> None:
    async with case.open() as act:
        for _ in range(3):
            act()
