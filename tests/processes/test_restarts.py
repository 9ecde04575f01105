"""When a process is started again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.processes.restarts import Restarts
from infermux.processes.spec import Spec

SPEC = Spec(name="one", command=("x",), most_exits=5, period=60)


def test_the_wait_doubles_up_to_the_maximum() -> None:
    restarts = Restarts(SPEC)
    waits = [restarts.ended(now, 0) for now in range(0, 2000, 20)]
    assert waits[:9] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert set(waits[9:]) == {30}
    assert restarts.exits == 100


@settings(max_examples=50, deadline=None)
@given(gaps=st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_it_loops_from_the_fifth_exit_within_the_period_on(gaps: list[float]) -> None:
    restarts, times, looped = Restarts(SPEC), list[float](), False
    for gap in gaps:
        times.append((times[-1] if times else 0.0) + gap)
        restarts.ended(times[-1], 0)
        looped = looped or len([at for at in times if times[-1] - at <= 60]) >= 5
        assert restarts.looping == looped


def test_a_loop_is_forgiven_after_a_period_of_being_ready_only() -> None:
    restarts = Restarts(SPEC)
    for _ in range(5):
        restarts.ended(0, 0)
    assert restarts.ended(1000, 59) == 300
    assert restarts.looping
    assert restarts.ended(2000, 60) == pytest.approx(0.25)
    assert not restarts.looping
