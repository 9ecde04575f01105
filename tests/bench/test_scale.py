"""The plan on paper is what its figures come to."""

from __future__ import annotations

import attrs
import pytest

from bench.scale import BEGIN, END, PAGE, Assumed, Measured, budget_cores, cell, span, table


def test_the_page_has_the_table_of_the_figures() -> None:
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0] == table(Measured(), Assumed())


def test_a_cell_is_multiplication() -> None:
    assumed = Assumed(requests=1000, cell_requests=100, streamed=0.5, events=10, spare=0.1, utilisation=0.5)
    found = cell(Measured(request_us=1000, event_us=100, row_us=10, row_bytes=1000), assumed)
    assert (found.busy, found.processes, found.cells) == pytest.approx((0.15, 1, 11))
    assert found.in_flight == 50 * assumed.stream_seconds + 50 * assumed.whole_seconds
    assert (found.row_cores, found.gigabytes_a_day) == pytest.approx((0.001, 8.64))


def test_the_processes_that_a_budget_spans_keep_redis_as_busy_as_assumed_and_one_more_busier() -> None:
    for assumed in (Assumed(), Assumed(budgets=10)):
        most = span(Measured(), assumed)
        assert budget_cores(Measured(), assumed, most) <= assumed.redis_busy
        assert budget_cores(Measured(), assumed, most + 1) > assumed.redis_busy
    found = cell(Measured(), Assumed())
    assert found.processes / found.redises <= found.span < found.processes


def test_twice_the_load_is_twice_the_cells() -> None:
    once, twice = (cell(Measured(), attrs.evolve(Assumed(), requests=requests)) for requests in (1e6, 2e6))
    assert (twice.processes, twice.cells) == (once.processes, 125)
