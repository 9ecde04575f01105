"""What the figures say, and when there are none."""

from __future__ import annotations

import attrs
import pytest

from infermux.bench.figures import Spread, failure, rows
from infermux.bench.rounds import Measurement
from tests.bench._made import measured, outcome, result


def test_figures_are_medians_of_rounds_with_their_extremes() -> None:
    found = [measured(cpu_us=cost, load=result(good=good)) for cost, good in ((80, 100), (120, 300), (90, 200))]
    (row,) = rows(outcome(*found))
    assert row.cpu_us_per_request == Spread(median=90.0, low=80.0, high=120.0)
    assert row.requests_per_second == Spread(median=200.0, low=100.0, high=300.0)
    assert (row.events_per_second, row.cpu_us_per_event, row.first_token_ms) == (None, None, None)
    assert (row.resident_mib, row.peak_mib, row.requests, row.success) == (2.0, 4.0, 600, 1.0)


def test_an_open_loop_lasts_as_long_as_its_requests_were_due() -> None:
    """The last of 500 a second is due 2 ms before the end."""
    (row,) = rows(outcome(measured(load=result(good=500, seconds=0.998)), scenario="open-500"))
    assert row.requests_per_second == Spread(median=500.0, low=500.0, high=500.0)
    late = result(good=500, seconds=2.1, milliseconds=[100.0, 1100.0])  # what an answer takes in itself is not counted
    (row,) = rows(outcome(measured(load=late), scenario="open-500"))
    assert row.requests_per_second is not None
    assert row.requests_per_second.text() == "250.0"


def test_a_stream_is_measured_by_request_and_by_event() -> None:
    found = measured(cpu_us=500, load=result(good=10, events=530))
    (row,) = rows(outcome(found, scenario="stream-16"))
    assert row.cpu_us_per_request == Spread(median=500.0, low=500.0, high=500.0)
    assert row.cpu_us_per_event is not None
    assert row.cpu_us_per_event.median == pytest.approx(500 / 53)  # pyright: ignore[reportUnknownMemberType]
    assert row.events_per_second == Spread(median=530.0, low=530.0, high=530.0)
    assert row.first_token_ms is not None


@pytest.mark.parametrize(
    ("good", "failed", "reached", "why"),
    [
        (999, 1, None, None),
        (998, 2, None, "2 of 1000 requests failed (status such as 503: 2)"),
        (0, 0, None, "no request was answered in time"),
        (1000, 0, 10, "only 10 of 1000 answers came from the upstream"),
    ],
)
def test_below_99_9_percent_nothing_counts(good: int, failed: int, reached: int | None, why: str | None) -> None:
    found = measured(cpu_us=80, load=result(good=good, failed=failed), reached=reached)
    assert failure([found]) == why
    (row,) = rows(outcome(found))
    assert row.failure == why
    assert (row.requests_per_second is None) == (why is not None)


def test_a_load_that_was_ended_before_all_was_sent_does_not_count() -> None:
    ended = measured(load=result(good=149, stopped=True))
    assert "cannot hold this rate" in (failure([ended]) or "")
    assert failure([attrs.evolve(ended, interrupted=True)]) is None


def test_latency_is_added_to_the_direct_one() -> None:
    direct = measured("direct", load=result(milliseconds=[1.0] * 99 + [3.0]))
    through = measured(load=result(milliseconds=[1.25] * 99 + [4.0]))
    row = rows(outcome(direct, through))[1]
    assert row.added_ms is not None
    assert row.added_ms.p50 == pytest.approx(0.25, abs=0.01)  # pyright: ignore[reportUnknownMemberType]
    assert row.added_ms.p999 == pytest.approx(1.0, abs=0.03)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("direct", [measured("other"), measured("direct", load=result(good=1, failed=9))])
def test_without_a_direct_that_counts_nothing_is_added(direct: Measurement) -> None:
    assert rows(outcome(direct, measured()))[1].added_ms is None


def test_p99_9_is_that_of_all_rounds_together() -> None:
    found = [measured(load=result(milliseconds=[1.0] * 999 + [last])) for last in (1.0, 1.0, 9.0)]
    (row,) = rows(outcome(*found))
    assert row.latency_ms is not None
    assert row.latency_ms.p999 == pytest.approx(1.0, abs=0.01)  # pyright: ignore[reportUnknownMemberType]


def test_a_round_that_was_cut_short_counts_only_where_there_is_no_other() -> None:
    whole, cut = measured(load=result(good=100)), measured(load=result(good=7), interrupted=True)
    assert rows(outcome(whole, cut))[0].requests == 100
    assert rows(outcome(cut))[0].requests == 7
