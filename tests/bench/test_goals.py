"""The goals: ratios are taken round by round, the right way round, and none is told of a front that failed."""

from __future__ import annotations

import pytest

from bench.goals import GOALS, OWN, Goal, added_over, as_data, cpu_over, cpu_under, markdown, own, tail
from bench.scenarios import SCENARIOS
from infermux.bench.rounds import Measurement
from tests.bench import _made
from tests.bench._made import outcome


def measured(front: str, *, cpu_us: float, p50: float = 500.0, failed: int = 0) -> Measurement:
    """`p50` in microseconds; the 99.9th percentile is four times that."""
    load = _made.result(good=100, failed=failed, milliseconds=[p50 / 1000] * 99 + [4 * p50 / 1000])
    return _made.measured(front, load=load, cpu_us=None if front == "direct" else cpu_us)


def test_a_ratio_is_of_the_same_round() -> None:
    found = outcome(
        measured(OWN, cpu_us=100), measured("portkey", cpu_us=700),
        measured(OWN, cpu_us=200), measured("portkey", cpu_us=1400),
    )  # fmt: skip
    over, under = cpu_over("portkey")(found, OWN), cpu_under("portkey")(found, OWN)
    assert over is not None
    assert under is not None
    assert (over.low, over.high) == pytest.approx((1 / 7, 1 / 7))
    assert (under.low, under.high) == pytest.approx((7, 7))


def test_a_peer_of_fewer_rounds_is_compared_in_those_it_took_part_in() -> None:
    found = outcome(measured(OWN, cpu_us=100), measured("litellm", cpu_us=6000), measured(OWN, cpu_us=1))
    ratio = cpu_under("litellm")(found, OWN)
    assert ratio is not None
    assert (ratio.low, ratio.high) == pytest.approx((60, 60))


@pytest.mark.parametrize("peers", [[], [measured("tensorzero", cpu_us=1, failed=50)]])
def test_nothing_is_told_of_a_peer_that_failed_or_is_missing(peers: list[Measurement]) -> None:
    found = outcome(measured(OWN, cpu_us=100), *peers)
    assert cpu_over("tensorzero")(found, OWN) is None
    assert "cannot be told" in markdown({"whole-16": found})


def test_latency_added_is_compared_with_what_the_peer_adds() -> None:
    found = outcome(
        measured("direct", cpu_us=0, p50=100),
        measured(OWN, cpu_us=1, p50=400),
        measured("tensorzero", cpu_us=1, p50=700),
    )
    ratio = added_over("tensorzero")(found, OWN)
    assert ratio is not None
    assert ratio.median == pytest.approx(0.5, abs=0.01)


def test_figures_of_our_own() -> None:
    found = outcome(measured(OWN, cpu_us=1), measured("nginx", cpu_us=1))
    memory, slow = own(lambda row: row.resident_mib)(found, OWN), tail(found, OWN)
    assert memory is not None
    assert slow is not None
    assert (memory.median, slow.median) == pytest.approx((2.0, 4.0), abs=0.05)
    assert own(lambda row: row.resident_mib)(outcome(measured("nginx", cpu_us=1)), OWN) is None


@pytest.mark.parametrize(("cpu_us", "verdict"), [(100, "reached"), (101, "NOT reached")])
def test_a_goal_is_reached_at_its_bound(cpu_us: float, verdict: str) -> None:
    found = outcome(measured(OWN, cpu_us=cpu_us), measured("tensorzero", cpu_us=100))
    line = next(line for line in markdown({"whole-16": found}).splitlines() if "TensorZero" in line)
    assert [cell.strip() for cell in line.split("|")][5:-1] == [verdict, "cannot be told"]


def test_at_least_is_the_other_way_round() -> None:
    goal = Goal(scenario="whole-16", says="", bound=6.0, at_least=True, found=cpu_under("portkey"))
    assert [goal.is_reached_by(value) for value in (5.9, 6.0, 7.0)] == [False, True, True]


def test_a_run_without_everything_on_shows_no_goals() -> None:
    found = {"whole-16": outcome(measured("nginx", cpu_us=1))}
    assert (markdown(found), as_data(found)) == ("", [])


def test_programs_get_the_same() -> None:
    found = {"whole-16": outcome(measured(OWN, cpu_us=300), measured("tensorzero", cpu_us=100))}
    (first, *_) = as_data(found)
    assert (first["bound"], first[OWN], first["infermux"]) == (1.0, {"median": 3.0, "low": 3.0, "high": 3.0}, None)


def test_every_goal_is_of_a_scenario_that_there_is() -> None:
    assert {goal.scenario for goal in GOALS} <= {*SCENARIOS, "open-half"}
