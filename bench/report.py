"""From rounds to figures: medians, ranges and ratios to nginx in the same run, as JSON and as tables to read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from .fronts import BEFORE
from .rounds import Measurement, Outcome

FLOOR = "nginx"
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
class Row:
    """One front in one scenario. Times in milliseconds, CPU in microseconds per unit, memory in MiB.

    `ratio` is the CPU time over nginx's, round by round; `added_*` the latency beyond direct's. `failure` is None when
    the figures count; then all figures are there but those that do not apply.
    """

    front: str
    requests: int
    success: float
    failure: str | None
    per_second: Spread | None = None
    cpu_us: Spread | None = None
    ratio: Spread | None = None
    p50: Spread | None = None
    p99: Spread | None = None
    first_p50: Spread | None = None
    first_p99: Spread | None = None
    added_p50: float | None = None
    added_p99: float | None = None
    resident_mib: float | None = None
    peak_mib: float | None = None
    load_busy: float = 0.0
    mock_busy: float = 0.0


def rows(outcome: Outcome) -> list[Row]:
    """One row for each front that took part, in the order of the rounds."""
    by_front: dict[str, list[Measurement]] = {}
    for measurement in outcome.measurements:
        by_front.setdefault(measurement.front, []).append(measurement)
    unit = outcome.scenario.unit
    floor = [measurement.cpu_us(unit) for measurement in by_front.get(FLOOR, [])]
    if FLOOR in by_front and failure(by_front[FLOOR]):
        floor = []
    made = [_row(front, found, unit, floor) for front, found in by_front.items()]
    direct = next((row for row in made if row.front == "direct" and row.failure is None), None)
    return [_with_added(row, direct) for row in made]


def failure(found: Sequence[Measurement]) -> str | None:
    """Why the figures of a front do not count, None when they do."""
    requests = sum(measurement.load.requests for measurement in found)
    good = sum(measurement.load.good for measurement in found)
    reached = sum(measurement.reached for measurement in found)
    if not requests:
        return "no request was sent"
    if good / requests < NEEDED_SUCCESS:
        return f"{requests - good} of {requests} requests failed ({_errors(found)})"
    if reached < good:
        return f"only {reached} of {good} answers came from the upstream"
    return None


def _errors(found: Sequence[Measurement]) -> str:
    kinds: dict[str, int] = {}
    for measurement in found:
        for kind, count in measurement.load.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    said = ", ".join(f"{kind} {count}" for kind, count in kinds.items() if count)
    statuses = sorted({measurement.load.bad_status for measurement in found if measurement.load.bad_status})
    return said + (f"; status {', '.join(map(str, statuses))}" if statuses else "")


def _row(front: str, found: Sequence[Measurement], unit: str, floor: Sequence[float | None]) -> Row:
    requests = sum(measurement.load.requests for measurement in found)
    base = Row(
        front=front,
        requests=requests,
        success=sum(measurement.load.good for measurement in found) / requests if requests else 0.0,
        failure=failure(found),
        load_busy=statistics.median(measurement.load_busy for measurement in found),
        mock_busy=statistics.median(measurement.mock_busy for measurement in found),
    )
    if base.failure is not None:
        return base
    cpu = [measurement.cpu_us(unit) for measurement in found]
    ratios = [own / nginx for own, nginx in zip(cpu, floor, strict=False) if own is not None and nginx]
    resident = max(measurement.resident for measurement in found)
    return attrs.evolve(
        base,
        per_second=Spread.of(measurement.units(unit) / measurement.load.seconds for measurement in found),
        cpu_us=Spread.of(value for value in cpu if value is not None),
        ratio=Spread.of(ratios),
        p50=_milliseconds(found, lambda m: m.load.latency_us.p50),
        p99=_milliseconds(found, lambda m: m.load.latency_us.p99),
        first_p50=_milliseconds(found, lambda m: m.load.first_token_us.p50) if unit == "event" else None,
        first_p99=_milliseconds(found, lambda m: m.load.first_token_us.p99) if unit == "event" else None,
        resident_mib=resident / 1024 if resident else None,
        peak_mib=max(measurement.peak for measurement in found) / 1024 if resident else None,
    )


def against_before(outcome: Outcome) -> Spread | None:
    """CPU time of this checkout over that of the earlier one, round by round; None where not both took part well."""
    own, before = ([m for m in outcome.measurements if m.front == name] for name in ("infermux", BEFORE))
    if not own or not before or failure(own) or failure(before):
        return None
    unit = outcome.scenario.unit
    pairs = ((new.cpu_us(unit), old.cpu_us(unit)) for new, old in zip(own, before, strict=True))
    return Spread.of(new / old for new, old in pairs if new is not None and old)


def _milliseconds(found: Sequence[Measurement], value: Callable[[Measurement], float]) -> Spread | None:
    return Spread.of(value(measurement) / 1000 for measurement in found)


def _with_added(row: Row, direct: Row | None) -> Row:
    """Latency added over direct: to the first token where it streams, to the whole answer where not."""
    if direct is None or row.front == "direct" or row.failure is not None:
        return row
    own, base = (row.first_p50, direct.first_p50) if row.first_p50 else (row.p50, direct.p50)
    own_99, base_99 = (row.first_p99, direct.first_p99) if row.first_p99 else (row.p99, direct.p99)
    return attrs.evolve(row, added_p50=_minus(own, base), added_p99=_minus(own_99, base_99))


def _minus(own: Spread | None, base: Spread | None) -> float | None:
    return None if own is None or base is None else own.median - base.median


# Tables.

_NONE = "-"
Column = tuple[str, Callable[[Row], str]]


def _spread(value: Spread | None, digits: int) -> str:
    return _NONE if value is None else value.text(digits)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _columns(unit: str) -> list[Column]:
    shared: list[Column] = [
        (f"{unit}s/s", lambda row: _spread(row.per_second, 0)),
        (f"CPU µs/{unit}", lambda row: _spread(row.cpu_us, 1)),
        (f"x {FLOOR}", lambda row: _spread(row.ratio, 2)),
    ]
    times: list[Column] = [
        ("p50 ms", lambda row: _spread(row.p50, 2)),
        ("p99 ms", lambda row: _spread(row.p99, 2)),
    ]
    first: list[Column] = [
        ("first p50 ms", lambda row: _spread(row.first_p50, 2)),
        ("first p99 ms", lambda row: _spread(row.first_p99, 2)),
    ]
    rest: list[Column] = [
        ("added p50 ms", lambda row: _number(row.added_p50, 2)),
        ("added p99 ms", lambda row: _number(row.added_p99, 2)),
        ("RSS MiB", lambda row: _number(row.resident_mib, 1)),
        ("requests", lambda row: str(row.requests)),
    ]
    return shared + (first if unit == "event" else times) + rest


def markdown(outcome: Outcome) -> str:
    """A scenario as a Markdown table that is also legible as plain text."""
    columns = _columns(outcome.scenario.unit)
    table = [["front", *(name for name, _ in columns)]]
    notes: list[str] = []
    for row in rows(outcome):
        if row.failure is None:
            table.append([row.front, *(cell(row) for _, cell in columns)])
        else:
            table.append([row.front, "FAIL", *([""] * (len(columns) - 1))])
            notes.append(f"{row.front}: FAIL, {row.failure}")
    notes += [f"{name}: missing, {reason}" for name, reason in outcome.missing.items()]
    ratio = against_before(outcome)
    if ratio is not None:
        notes.append(f"infermux: {ratio.text(3)} times the CPU of {BEFORE}, round by round")
    lines = [f"### {outcome.scenario.name}: {outcome.scenario.title}", "", *aligned(table), ""]
    return "\n".join(lines + [f"- {note}" for note in notes] + ([""] if notes else []))


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose first line is the head."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    made = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    return [made[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *made[1:]]


def as_data(outcome: Outcome) -> Mapping[str, object]:
    """Everything for the JSON file: the figures and every round they come from."""
    return {
        "scenario": outcome.scenario.name,
        "title": outcome.scenario.title,
        "unit": outcome.scenario.unit,
        "rows": [attrs.asdict(row) for row in rows(outcome)],
        "missing": outcome.missing,
        "against_before": None if (ratio := against_before(outcome)) is None else attrs.asdict(ratio),
        "rounds": [_round_data(measurement, outcome.scenario.unit) for measurement in outcome.measurements],
    }


def _round_data(measurement: Measurement, unit: str) -> Mapping[str, object]:
    own = {field.name: getattr(measurement, field.name) for field in attrs.fields(Measurement)}
    return own | {"cpu_us": measurement.cpu_us(unit)}
