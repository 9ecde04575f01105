"""What requests have cost: the question, and the answer as JSON, CSV or a table. Asked of the ledger's tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from .errors import InvalidRequest

GROUPS = ("caller", "model", "provider", "group", "key", "tag", "day")
KEY, KEY_NAME = "key", "key_name"
TAG = "tag:"  # with a tag's name: by that tag's value
MOST_LINES = 10_000
WIDEST = 60  # characters of a table's cell

_AGO = re.compile(r"([0-9]{1,6})(m|h|d|w)")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_WHEN = "an age such as 30m, 24h, 7d or 4w, or a date such as 2026-01-31 or 2026-01-31T12:00 (UTC)"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a cell begins that spreadsheets calculate


@attrs.frozen(kw_only=True)
class CostQuery:
    """`group_by` some of `GROUPS`, or `tag:NAME`; none: one line of all. Seconds since 1970, None: without bound.

    `since` is the first moment, `until` the first one after.
    """

    group_by: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None

    @classmethod
    def of(cls, *, group_by: str, since: str, until: str, now: float) -> CostQuery:
        """From what people write, "" for nothing. Raises InvalidRequest, whose `param` is the argument's name."""
        query = cls(group_by=_groups(group_by), since=_moment("since", since, now), until=_moment("until", until, now))
        if query.since is not None and query.until is not None and query.since >= query.until:
            raise InvalidRequest("since must be before until", param="since")
        return query


def _groups(written: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in written.split(",")) if written.strip() else ()
    for name in names:
        if name not in GROUPS and not (name.startswith(TAG) and len(name) > len(TAG)):
            raise InvalidRequest(
                f"group_by takes {', '.join(GROUPS)} and tag:NAME, separated by commas, not {name[:50]!r}",
                param="group_by",
            )
    if len(set(names)) < len(names):
        raise InvalidRequest("group_by names something twice", param="group_by")
    return names


def _moment(param: str, written: str, now: float) -> float | None:
    text = written.strip()
    if not text:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now - int(ago[1]) * _SECONDS[ago[2]])
    try:
        found = datetime.fromisoformat(text)
        seconds = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param} must be {_WHEN}, not {text[:50]!r}", param=param) from None
    return max(0.0, seconds)


@attrs.frozen(kw_only=True)
class CostLine:
    """One group. `group` has a value for each name of the query's `group_by`, "" where there is none.

    `failed`: requests that ended in an error. `estimated`: those whose tokens nobody told. `unpriced`: those of which
    something has no known price; it is missing in `cost`, US dollars, which is None where nothing is known.
    """

    group: tuple[str, ...] = ()
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: int = 0
    cost: float | None = 0.0
    unpriced: int = 0

    @property
    def numbers(self) -> dict[str, int | float | None]:
        """Everything but the group."""
        return {name: getattr(self, name) for name in NUMBERS}


NUMBERS = tuple(field.name for field in attrs.fields(CostLine) if field.name != "group")


@attrs.frozen(kw_only=True)
class Costs:
    """The answer: by day where that is asked for, then the dearest first. In `total` every request counts once.

    `key_names` are those of the keys that are known, by id: where it is asked by `key`, they are told beside it.
    """

    query: CostQuery
    lines: tuple[CostLine, ...]
    total: CostLine
    key_names: Mapping[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns before the numbers."""
        return tuple(name for each in self.query.group_by for name in ((each, KEY_NAME) if each == KEY else (each,)))

    def values(self, line: CostLine) -> tuple[str, ...]:
        """What they have in a line."""
        pairs = zip(self.query.group_by, line.group, strict=True)
        found = ((value, self.key_names.get(value, "")) if name == KEY else (value,) for name, value in pairs)
        return tuple(value for values in found for value in values)

    def as_json(self) -> dict[str, Any]:
        return {
            "since": _written(self.query.since),
            "until": _written(self.query.until),
            "group_by": list(self.query.group_by),
            "costs": [dict(zip(self.names, self.values(line), strict=True)) | line.numbers for line in self.lines],
            "total": self.total.numbers,
        }

    def as_csv(self) -> str:
        """With a head, without the total; an unknown cost is empty. Text that a spreadsheet would run begins with '."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
        writer.writerow((*self.names, *NUMBERS))
        for line in self.lines:
            writer.writerow((*map(_harmless, self.values(line)), *line.numbers.values()))
        return out.getvalue()

    def as_table(self) -> tuple[Sequence[str], Iterator[Sequence[str]]]:
        """The heads of the columns and the rows, the last one the total."""
        shown = ("REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "COST", "UNPRICED")
        heads = (*(name.upper().replace("_", " ") for name in self.names), *shown)
        return heads, self._rows()

    def _rows(self) -> Iterator[Sequence[str]]:
        for line in self.lines:
            yield (*(_cell(value) for value in self.values(line)), *_cells(line))
        if self.query.group_by:
            yield ("total", *("" for _ in self.names[1:]), *_cells(self.total))


def _cell(text: str) -> str:
    """For people: on one line, and no wider than a table can be read. Callers and providers choose names."""
    shown = "".join(each if each.isprintable() else "?" for each in text[:WIDEST]) or "-"
    return shown if len(text) <= WIDEST else f"{shown[:-1]}…"


def _cells(line: CostLine) -> tuple[str, ...]:
    cost = "unknown" if line.cost is None else f"${line.cost:.4f}"
    numbers = (line.requests, line.failed, line.prompt_tokens, line.cached_tokens, line.completion_tokens)
    return (*map(str, numbers), cost, str(line.unpriced))


def _written(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
