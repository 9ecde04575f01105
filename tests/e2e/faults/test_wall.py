"""Every fault of the wall, over sockets with the official SDK and in memory on a virtual clock: the same scripts."""

from __future__ import annotations

import pytest

from tests.e2e._router import no_tracebacks
from tests.e2e.faults._memory import virtually
from tests.e2e.faults._runs import Run, wrong
from tests.e2e.faults._sockets import by_sockets
from tests.e2e.faults._table import LATE, SAID, SCALE, WALL

NAMES = ("rescue off", "rescue on")


@pytest.mark.slow
@pytest.mark.parametrize("rescue", [pytest.param(False, marks=pytest.mark.long), True], ids=NAMES)
def test_the_official_sdk_gets_a_whole_answer_or_an_honest_error_in_time(rescue: bool) -> None:
    found = {_name(run): wrong(run, scale=SCALE, late=LATE) for run in by_sockets(WALL, rescue=rescue)}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.slow
@pytest.mark.parametrize("rescue", [False, pytest.param(True, marks=pytest.mark.long)], ids=NAMES)
def test_at_the_real_figures_too_to_the_byte(rescue: bool) -> None:
    with no_tracebacks():
        runs = virtually(WALL, rescue=rescue)
    found = {_name(run): wrong(run) for run in runs}
    assert {name: what for name, what in found.items() if what} == {}
    assert all(run.result.said == SAID for run in runs if run.result.code is None), "a part was passed off as whole"


def _name(run: Run) -> str:
    return f"{run.case.name} ({'stream' if run.stream else 'whole'})"
