"""Tables: what counts is shown, what does not is named."""

from __future__ import annotations

import attrs

from infermux.bench.report import markdown
from tests.bench._made import measured, outcome, result


def test_figures_that_no_target_has_are_left_out() -> None:
    text = markdown(outcome(measured(cpu_us=80)))
    assert "CPU µs/request" in text
    assert "events/s" not in text
    assert "added" not in text


def test_fail_is_shown_instead_of_figures() -> None:
    bad = measured(cpu_us=87.5, load=result(good=998, failed=2))
    text = markdown(outcome(measured("direct"), bad))
    assert "| infermux | FAIL " in text
    assert "- infermux: FAIL, 2 of 1000 requests failed (status such as 503: 2)" in text
    assert "87.5" not in text


def test_a_scenario_in_which_nothing_counts_has_no_table() -> None:
    text = markdown(outcome(measured(load=result(good=0, failed=2))))
    assert "|" not in text
    assert "infermux: FAIL" in text


def test_what_could_not_take_part_is_named_with_the_reason() -> None:
    assert "- server: missing, status 401: no key" in markdown(outcome(missing={"server": "status 401: no key"}))


def test_an_interrupted_one_says_so() -> None:
    assert "interrupted" in markdown(outcome(measured(), interrupted=True))


def test_a_rate_that_was_not_held_is_told() -> None:
    slow = markdown(outcome(measured(load=result(good=1500, seconds=4.0)), scenario="open-500"))
    assert "infermux: answered 375 of 500 requests a second" in slow
    assert "--" not in slow.partition("answered")[2], "programs that write it have options of their own"
    assert "answered" not in markdown(outcome(measured(load=result(good=1500, seconds=3.0)), scenario="open-500"))


def test_the_time_of_the_last_answer_is_no_rate_that_was_not_held() -> None:
    load = result(good=1500, seconds=5.0, milliseconds=[2000.0, 2001.0])
    text = markdown(outcome(measured(load=load), scenario="open-500"))
    assert "answered" not in text
    assert "| infermux | 500.0 " in text


def test_the_bound_of_the_tools_is_told() -> None:
    assert "load generator" not in markdown(outcome(measured()))
    assert "in Python could do about 2000 requests a second" in markdown(outcome(measured(generator="python")))
    assert "bound by the load generator (c), which was 95% busy" in markdown(outcome(measured(load_busy=0.95)))
    mock = attrs.evolve(measured(), mock_busy=0.99)
    assert "bound by the mock upstream, which was 99% busy" in markdown(outcome(mock))
