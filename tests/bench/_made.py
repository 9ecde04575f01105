"""Measurements as they could have been, for what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from infermux.bench.histogram import Histogram, Latencies
from infermux.bench.load import LoadResult
from infermux.bench.rounds import Measurement, Outcome
from infermux.bench.scenario_file import shipped

SCENARIOS = shipped()


def latencies(milliseconds: Sequence[float]) -> Latencies:
    histogram = Histogram()
    for value in milliseconds:
        histogram.record(value / 1000)
    return histogram.latencies()


def result(
    *,
    good: int = 1000,
    failed: int = 0,
    events: int = 0,
    seconds: float = 1.0,
    milliseconds: Sequence[float] = (0.5,) * 98 + (0.9,) * 2,
    stopped: bool = False,
) -> LoadResult:
    return LoadResult(
        requests=good + failed,
        good=good,
        failed=failed,
        seconds=seconds,
        events=events,
        chunks=0,
        reads=good,
        bytes=0,
        reconnects=0,
        stale=0,
        peak=16,
        bad_status=503 if failed else 0,
        errors={"status": failed, "timeout": 0},
        latency_us=latencies(milliseconds),
        first_token_us=latencies(milliseconds if events else ()),
        stopped=stopped,
    )


def measured(
    target: str = "infermux",
    *,
    load: LoadResult | None = None,
    cpu_us: float | None = None,
    reached: int | None = None,
    generator: str = "c",
    load_busy: float = 0.5,
    interrupted: bool = False,
) -> Measurement:
    """`cpu_us` is per request; all of them came through to the mock."""
    load = load or result()
    return Measurement(
        target=target,
        load=load,
        generator=generator,
        cpu_ns=None if cpu_us is None else int(cpu_us * 1000 * load.good),
        resident=0 if cpu_us is None else 2048,
        peak=0 if cpu_us is None else 4096,
        reached=load.good if reached is None else reached,
        load_busy=load_busy,
        mock_busy=0.2,
        interrupted=interrupted,
    )


def outcome(
    *found: Measurement, scenario: str = "whole-16", missing: dict[str, str] | None = None, interrupted: bool = False
) -> Outcome:
    return Outcome(scenario=SCENARIOS[scenario], measurements=found, missing=missing or {}, interrupted=interrupted)
