"""The ramp after a recovery, step by step and as a property."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.slow_start import DOUBLES_EVERY, ENOUGH, SlowStart
from tests._properties import examples


def begun(at: float = 0.0) -> SlowStart:
    ramp = SlowStart()
    ramp.begin(at)
    return ramp


def test_without_a_recovery_nothing_is_held_back() -> None:
    ramp = SlowStart()
    for _ in range(1000):
        ramp.sent()
    assert (ramp.allowed(0.0), ramp.blocked_until(0.0), ramp.is_over) == (None, 0.0, True)


def test_one_at_first_then_twice_as_many_per_round_trip() -> None:
    ramp = begun()
    allowed = [ramp.allowed(0.0)]
    for _ in range(3):
        out = allowed[-1] or 0
        for _ in range(out):
            ramp.sent()
        assert ramp.blocked_until(0.0) > 0.0
        for _ in range(out):
            ramp.ended(0.0, well=True, now=0.0)
        allowed.append(ramp.allowed(0.0))
    assert allowed == [1, 2, 4, 8]


def test_time_alone_ends_it_within_six_seconds() -> None:
    ramp = begun(10.0)
    assert [ramp.allowed(10.0 + seconds) for seconds in range(7)] == [1, 2, 4, 8, 16, 32, None]
    assert ramp.is_over


def test_a_refused_request_is_told_when_one_more_may_go() -> None:
    ramp = begun(10.0)
    for _ in range(5):
        ramp.sent()
    assert ramp.blocked_until(10.0) == 13.0
    assert ramp.blocked_until(13.0) == 0.0


def test_requests_from_before_do_not_count() -> None:
    ramp = begun(10.0)
    ramp.ended(9.0, well=True, now=10.0)
    assert ramp.allowed(10.0) == 1


def test_an_end_that_says_nothing_frees_its_place_only() -> None:
    ramp = begun()
    ramp.sent()
    ramp.ended(0.0, well=False, now=0.0)
    assert (ramp.allowed(0.0), ramp.blocked_until(0.0)) == (1, 0.0)


def test_a_failure_begins_it_anew() -> None:
    ramp = begun()
    ramp.sent()
    assert ramp.allowed(3.0) == 8
    ramp.ended(0.0, well=False, badly=True, now=3.0)
    assert ramp.allowed(3.0) == 1


def test_it_can_be_stopped() -> None:
    ramp = begun()
    ramp.stop()
    assert ramp.allowed(0.0) is None


@settings(max_examples=examples(100), deadline=None)
@given(
    st.floats(0, 1e9),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["send", "well", "neither"])), max_size=80),
)
def test_it_never_lets_out_more_than_is_allowed_and_keeps_its_promises(
    start: float, steps: list[tuple[float, str]]
) -> None:
    ramp, now, out, wins = begun(start), start, 0, 0
    for passed, what in steps:
        now += passed
        until = ramp.blocked_until(now)
        if ramp.is_over:
            break
        most = (1 + wins) * 2 ** int((now - start) / DOUBLES_EVERY + 1e-6)
        assert ramp.allowed(now) == most < ENOUGH
        assert (until == 0.0) == (out < most)
        if until:
            assert now < until
            later = begun(start)
            later._out, later._successes = out, wins  # pyright: ignore[reportPrivateUsage]
            assert later.blocked_until(until) == 0.0
        if what == "send" and not until:
            ramp.sent()
            out += 1
        elif what != "send" and out:
            ramp.ended(start, well=what == "well", now=now)
            out -= 1
            wins += what == "well"
    assert begun(start).allowed(start + 6 * DOUBLES_EVERY) is None


@pytest.mark.parametrize("at", [0.0, 0.1, 1e6 + 0.1, 1e9 + 0.7])
def test_its_steps_are_whole_seconds_wherever_the_clock_stands(at: float) -> None:
    assert [begun(at).allowed(at + k) for k in range(6)] == [1, 2, 4, 8, 16, 32]
