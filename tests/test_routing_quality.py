"""The measure of routing quality: a strategy that looks at latency must be better than one that does not."""

from __future__ import annotations

import pytest

from bench.routing_quality import Plan, Result, drawn, markdown, measure

pytestmark = [pytest.mark.slow, pytest.mark.long]
PLAN = Plan(rate=4.0, seconds=90.0, slow_from=30.0, slow_to=60.0)


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {strategy: measure(strategy, PLAN) for strategy in ("round_robin", "least_latency", "peak_ewma")}


def test_who_looks_at_latency_is_faster_than_who_does_not(results: dict[str, Result]) -> None:
    """Failures that everybody has alike must not drive requests away from the fast one."""
    blind = results["round_robin"].latency.p50
    assert blind is not None
    for strategy in ("least_latency", "peak_ewma"):
        latency = results[strategy].latency.p50
        assert latency is not None
        assert latency < 0.8 * blind, strategy
        assert results[strategy].share["slow"] < 0.2, strategy


def test_a_brown_out_is_left_and_everything_answered(results: dict[str, Result]) -> None:
    assert results["least_latency"].brown_share["fast"] < 0.4
    assert all(result.success > 0.99 for result in results.values())


def test_the_page_and_the_plot_have_every_strategy(results: dict[str, Result]) -> None:
    found = list(results.values())
    page, image = markdown(found, PLAN), drawn(found, PLAN)
    assert all(f"| `{name}` |" in page and f">{name}</text>" in image for name in results)
    assert image.count("<polyline") == 2 * len(results)
