"""What was measured, as tables to read: Markdown that is also legible as plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .figures import Row, Spread, Times, rows
from .rounds import Outcome

_NONE = "-"
_BUSY = 0.9  # of a CPU: a tool that uses more is what bounds the figures
_HELD = 0.95  # of the rate; what is under way at the end of a short round takes some of it
Column = tuple[str, Callable[[Row], str]]


def markdown(outcome: Outcome) -> str:
    """A scenario: its table, and what is to be said of it."""
    found = rows(outcome)
    columns = [column for column in _columns() if any(row.failure is None and column[1](row) != _NONE for row in found)]
    table = [["target", *(title for title, _ in columns)]]
    for row in found:
        cells = [cell(row) for _, cell in columns] if row.failure is None else ["FAIL", *[""] * (len(columns) - 1)]
        table.append([row.target, *cells[: len(columns)]] if columns else [row.target])
    name, title = outcome.scenario.name, outcome.scenario.title
    lines = [f"### {name}" if title == name else f"### {name}: {title}", ""]
    if columns:
        lines += [*aligned(table), ""]
    notes = [f"- {note}" for note in _notes(outcome, found)]
    return "\n".join([*lines, *notes, *([""] if notes else [])])


def _notes(outcome: Outcome, found: Sequence[Row]) -> list[str]:
    notes = [f"{row.target}: FAIL, {row.failure}" for row in found if row.failure is not None]
    notes += [f"{name}: missing, {reason}" for name, reason in outcome.missing.items()]
    notes += [behind for row in found if (behind := _behind(row, outcome.scenario.rate)) is not None]
    notes += [bound for row in found if row.failure is None and (bound := _bound(row)) is not None]
    if outcome.interrupted:
        notes.append("interrupted: these are the rounds until then")
    return notes


def _behind(row: Row, rate: float | None) -> str | None:
    """That a server did not hold the rate of an open loop: then the latency is that of its queue.

    Answers of very different lengths look the same where a round is not much longer than they are.
    """
    if rate is None or row.requests_per_second is None or row.requests_per_second.median >= _HELD * rate:
        return None
    answered = f"{row.requests_per_second.median:.4g} of {rate:g} requests a second"
    return f"{row.target}: answered {answered}: it cannot hold more, or needs longer rounds to show it"


def _bound(row: Row) -> str | None:
    """The tools' own bound, from what they used: told where they are near it, and of the generator in Python."""
    if row.mock_busy is not None and row.mock_busy > _BUSY:
        return f"{row.target}: bound by the mock upstream, which was {row.mock_busy:.0%} busy"
    rate = row.events_per_second or row.requests_per_second
    if row.load_busy <= 0 or rate is None:
        return None
    most = f"{rate.median / row.load_busy:.0f} {'events' if row.events_per_second else 'requests'} a second"
    if row.load_busy > _BUSY:
        return f"{row.target}: bound by the load generator ({row.generator}), which was {row.load_busy:.0%} busy"
    return f"{row.target}: the load generator in Python could do about {most}" if row.generator == "python" else None


def _columns() -> list[Column]:
    return [
        ("requests/s", lambda row: _spread(row.requests_per_second, 1)),
        ("events/s", lambda row: _spread(row.events_per_second, 0)),
        ("CPU µs/request", lambda row: _spread(row.cpu_us_per_request, 1)),
        ("CPU µs/event", lambda row: _spread(row.cpu_us_per_event, 1)),
        *_percentiles("", lambda row: row.latency_ms),
        *_percentiles("first ", lambda row: row.first_token_ms),
        ("added p50 ms", lambda row: _number(row.added_ms and row.added_ms.p50, 2)),
        ("added p99 ms", lambda row: _number(row.added_ms and row.added_ms.p99, 2)),
        ("added p99.9 ms", lambda row: _number(row.added_ms and row.added_ms.p999, 2)),
        ("RSS MiB", lambda row: _number(row.resident_mib, 1)),
        ("success", lambda row: f"{row.success:.2%}"),
        ("requests", lambda row: str(row.requests)),
    ]


def _percentiles(prefix: str, of: Callable[[Row], Times | None]) -> list[Column]:
    def median(row: Row) -> str:
        found = of(row)
        return _NONE if found is None else found.p50.text(2)

    def ninety_nine(row: Row) -> str:
        found = of(row)
        return _NONE if found is None else found.p99.text(2)

    def last(row: Row) -> str:
        found = of(row)
        return _NONE if found is None else f"{found.p999:.2f}"

    return [(f"{prefix}p50 ms", median), (f"{prefix}p99 ms", ninety_nine), (f"{prefix}p99.9 ms", last)]


def _spread(value: Spread | None, digits: int) -> str:
    return _NONE if value is None else value.text(digits)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose first line is the head."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    made = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    return [made[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *made[1:]]


def document(machine: Mapping[str, str], tables: Sequence[str]) -> str:
    """The whole report."""
    facts = [f"- {name}: {value}" for name, value in machine.items()]
    return "\n".join(["# Bench", "", *facts, "", *tables])
