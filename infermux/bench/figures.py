"""From rounds to figures: medians and ranges, and why a target's figures do not count."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from .histogram import Latencies, added_up
from .rounds import Measurement, Outcome
from .scenario import Scenario

DIRECT = "direct"
NEEDED_SUCCESS = 0.999


@attrs.frozen(kw_only=True)
class Spread:
    """The median of the rounds and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        found = sorted(values)
        return cls(median=statistics.median(found), low=found[0], high=found[-1]) if found else None

    def text(self, digits: int = 1) -> str:
        if f"{self.low:.{digits}f}" == f"{self.high:.{digits}f}":
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


@attrs.frozen(kw_only=True)
class Times:
    """Milliseconds; each the median of the rounds' own percentiles, p99.9 that of all rounds taken together."""

    p50: Spread
    p99: Spread
    p999: float


@attrs.frozen(kw_only=True)
class Added:
    """Milliseconds beyond direct's: to the first token of a stream, to the whole answer otherwise."""

    p50: float
    p99: float
    p999: float


@attrs.frozen(kw_only=True)
class Row:
    """One target in one scenario. CPU in microseconds, memory in MiB.

    `failure` is None when the figures count; then all are there but those that do not apply.
    """

    target: str
    requests: int
    success: float
    failure: str | None
    generator: str = ""
    requests_per_second: Spread | None = None
    events_per_second: Spread | None = None
    cpu_us_per_request: Spread | None = None
    cpu_us_per_event: Spread | None = None
    latency_ms: Times | None = None
    first_token_ms: Times | None = None
    added_ms: Added | None = None
    resident_mib: float | None = None
    peak_mib: float | None = None
    load_busy: float = 0.0
    mock_busy: float | None = None


def by_target(found: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """In the order of the first round."""
    sorted_out: dict[str, list[Measurement]] = {}
    for measurement in found:
        sorted_out.setdefault(measurement.target, []).append(measurement)
    return {target: _whole(rounds) for target, rounds in sorted_out.items()}


def _whole(rounds: list[Measurement]) -> list[Measurement]:
    """Without a round that was cut short, if there are others: it has no end, so its figures are not like theirs."""
    return [each for each in rounds if not each.interrupted] or rounds


def rows(outcome: Outcome) -> list[Row]:
    """One row for each target that took part."""
    made = [_row(target, found, outcome) for target, found in by_target(outcome.measurements).items()]
    direct = next((row for row in made if row.target == DIRECT and row.failure is None), None)
    return [row if direct is None or row is direct else _with_added(row, direct) for row in made]


def failure(found: Sequence[Measurement]) -> str | None:
    """Why the figures of a target do not count, None when they do."""
    requests = sum(measurement.load.requests for measurement in found)
    good = sum(measurement.load.good for measurement in found)
    if not requests:
        return "no request was answered in time"
    if good / requests < NEEDED_SUCCESS:
        return f"{requests - good} of {requests} requests failed ({errors(found)})"
    counted = [(each.reached, each.load.good) for each in found if each.reached is not None]
    reached, answered = sum(reached for reached, _ in counted), sum(good for _, good in counted)
    if reached < answered:
        return f"only {reached} of {answered} answers came from the upstream"
    if any(each.load.stopped and not each.interrupted for each in found):
        # What was never sent is in no latency: figures without it would hide how late the server was.
        return "it was ended before all that was due had been sent: the server cannot hold this rate"
    return None


def errors(found: Sequence[Measurement]) -> str:
    """How many requests failed in which way; of the wrong statuses, the last one of each round."""
    kinds: dict[str, int] = {}
    for measurement in found:
        for kind, count in measurement.load.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    statuses = sorted({measurement.load.bad_status for measurement in found if measurement.load.bad_status})
    such = f" such as {', '.join(map(str, statuses))}"
    return ", ".join(f"{kind}{such if kind == 'status' else ''}: {count}" for kind, count in kinds.items() if count)


def success(found: Sequence[Measurement]) -> float:
    """The share of requests that were answered right."""
    requests = sum(measurement.load.requests for measurement in found)
    return sum(measurement.load.good for measurement in found) / requests if requests else 0.0


def _row(target: str, found: Sequence[Measurement], outcome: Outcome) -> Row:
    mock = [each.mock_busy for each in found if each.mock_busy is not None]
    base = Row(
        target=target,
        requests=sum(each.load.requests for each in found),
        success=success(found),
        failure=failure(found),
        generator=found[0].generator,
        load_busy=statistics.median(each.load_busy for each in found),
        mock_busy=statistics.median(mock) if mock else None,
    )
    if base.failure is not None:
        return base
    scenario = outcome.scenario
    stream = scenario.stream
    resident = max(each.resident for each in found)
    return attrs.evolve(
        base,
        requests_per_second=Spread.of(each.load.good / _seconds(each, scenario) for each in found),
        events_per_second=Spread.of(each.load.events / _seconds(each, scenario) for each in found) if stream else None,
        cpu_us_per_request=_present(each.cpu_us("request") for each in found),
        cpu_us_per_event=_present(each.cpu_us("event") for each in found) if stream else None,
        latency_ms=times(found, lambda each: each.load.latency_us),
        first_token_ms=times(found, lambda each: each.load.first_token_us) if stream else None,
        resident_mib=resident / 1024 if resident else None,
        peak_mib=max(each.peak for each in found) / 1024 if resident else None,
    )


def _seconds(measurement: Measurement, scenario: Scenario) -> float:
    """How long a round was. An open loop's: from its first answer to its last, and the last has its share of time too.

    So the time that an answer takes in itself is not part of it, while what queues makes it longer.
    """
    load = measurement.load
    if not scenario.rate:
        return load.seconds
    return max(load.seconds - load.latency_us.percentile(0) / 1e6, load.requests / scenario.rate)


def _present(values: Iterable[float | None]) -> Spread | None:
    return Spread.of(value for value in values if value is not None)


def times(found: Sequence[Measurement], of: Callable[[Measurement], Latencies]) -> Times | None:
    """Percentiles of the rounds; None where nothing was counted."""
    parts = [of(each) for each in found]
    whole = added_up(parts)
    p50, p99 = (Spread.of(part.percentile(share) / 1000 for part in parts if part.count) for share in (0.5, 0.99))
    return None if p50 is None or p99 is None else Times(p50=p50, p99=p99, p999=whole.p999 / 1000)


def _with_added(row: Row, direct: Row) -> Row:
    own, base = (
        (row.first_token_ms, direct.first_token_ms) if row.first_token_ms else (row.latency_ms, direct.latency_ms)
    )
    if own is None or base is None:
        return row
    added = Added(p50=own.p50.median - base.p50.median, p99=own.p99.median - base.p99.median, p999=own.p999 - base.p999)
    return attrs.evolve(row, added_ms=added)


def as_data(outcome: Outcome) -> Mapping[str, object]:
    """Everything for the JSON file: the figures and every round they come from."""
    return {
        "scenario": outcome.scenario.name,
        "title": outcome.scenario.title,
        "unit": outcome.scenario.unit,
        "settings": outcome.scenario.shown(),
        "rows": [attrs.asdict(row) for row in rows(outcome)],
        "missing": outcome.missing,
        "interrupted": outcome.interrupted,
        "rounds": [round_data(each) for each in outcome.measurements],
    }


def round_data(measurement: Measurement) -> Mapping[str, object]:
    """One round, as it was measured."""
    own = {field.name: getattr(measurement, field.name) for field in attrs.fields(Measurement)}
    both = {f"cpu_us_per_{unit}": measurement.cpu_us(unit) for unit in ("request", "event")}
    percentiles = {
        name: {"p50": part.p50, "p99": part.p99, "p99.9": part.p999, "max": part.max, "mean": part.mean}
        for name, part in (("latency", measurement.load.latency_us), ("first_token", measurement.load.first_token_us))
    }
    return {**own, **both, "microseconds": percentiles}
