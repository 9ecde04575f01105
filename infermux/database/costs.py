"""The question of `infermux.costs`, asked of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    case,
    distinct,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.engine import Connection, Row

from infermux.costs import MOST_LINES, TAG, CostLine, CostQuery, Costs
from infermux.errors import InvalidRequest

from .tables import ATTEMPTS, REQUESTS, TAGS

_TOKENS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
_OF_REQUESTS = {"caller": "caller", "key": "key", "group": "route_group", "day": "day"}
_OF_PARTS = {"provider": "provider", "model": "model"}


def costs(connection: Connection, query: CostQuery) -> Costs:
    """Raises InvalidRequest where there would be more lines than anybody reads."""
    names = [f"group_{number}" for number in range(len(query.group_by))]
    rows = connection.execute(_grouped(query, names).limit(MOST_LINES + 1)).all()
    if len(rows) > MOST_LINES:
        raise InvalidRequest(
            f"these are more than {MOST_LINES} lines: group by less, or ask for a shorter time", param="group_by"
        )
    [total] = connection.execute(_grouped(CostQuery(since=query.since, until=query.until), [])).all()
    lines = (_line(row, [getattr(row, name) or "" for name in names]) for row in rows)
    return Costs(query=query, lines=tuple(sorted(lines, key=_order(query))), total=_line(total, []))


def _order(query: CostQuery) -> Callable[[CostLine], Any]:
    day = query.group_by.index("day") if "day" in query.group_by else None

    def place(line: CostLine) -> tuple[str, float, int, tuple[str, ...]]:
        return "" if day is None else line.group[day], -(line.cost or 0.0), -line.requests, line.group

    return place


def _line(row: Row[Any], group: Iterable[str]) -> CostLine:
    known, unpriced = float(row.cost or 0.0), row.unpriced
    return CostLine(
        group=tuple(group),
        requests=row.requests or 0,
        failed=row.failed or 0,
        **{kind: int(getattr(row, kind) or 0) for kind in _TOKENS},
        estimated=row.estimated or 0,
        cost=None if unpriced and not known else round(known, 9),
        unpriced=unpriced,
    )


def _grouped(query: CostQuery, names: list[str]) -> Select[Any]:
    parts = _parts().subquery("parts")
    source: FromClause = parts.join(REQUESTS, REQUESTS.c.seq == parts.c.seq)
    groups: list[ColumnElement[Any]] = []
    for key, name in zip(query.group_by, names, strict=True):
        if key in _OF_REQUESTS:
            groups.append(REQUESTS.c[_OF_REQUESTS[key]].label(name))
        elif key in _OF_PARTS:
            groups.append(parts.c[_OF_PARTS[key]].label(name))
        else:
            tags = TAGS.alias(f"tags_of_{name}")
            wanted = tags.c.seq == REQUESTS.c.seq
            if key.startswith(TAG):
                source = source.outerjoin(tags, and_(wanted, tags.c.name == key.removeprefix(TAG)))
                groups.append(tags.c.value.label(name))
            else:
                source = source.outerjoin(tags, wanted)
                groups.append((tags.c.name + "=" + tags.c.value).label(name))
    selected = select(*groups, *_sums(parts)).select_from(source)
    if query.since is not None:
        selected = selected.where(REQUESTS.c.at >= query.since)
    if query.until is not None:
        selected = selected.where(REQUESTS.c.at < query.until)
    return selected.group_by(*groups)


def _parts() -> Any:
    """What was sent to whom: each request, without its tokens and money where its attempts have them, and those."""
    alone = REQUESTS.c.attempts <= 1
    kinds = (*_TOKENS, "estimated", "cost")
    requests = select(
        REQUESTS.c.seq,
        REQUESTS.c.provider,
        REQUESTS.c.model,
        literal(1).label("counts"),
        *(case((alone, REQUESTS.c[kind]), else_=null()).label(kind) for kind in kinds),
        case((and_(alone, REQUESTS.c.cost.is_(None)), REQUESTS.c.seq), else_=null()).label("unpriced"),
    )
    attempts = select(
        ATTEMPTS.c.seq,
        ATTEMPTS.c.provider,
        ATTEMPTS.c.model,
        literal(0).label("counts"),
        *(ATTEMPTS.c[kind] for kind in kinds),
        case((ATTEMPTS.c.cost.is_(None), ATTEMPTS.c.seq), else_=null()).label("unpriced"),
    )
    return union_all(requests, attempts)


def _sums(parts: Any) -> list[ColumnElement[Any]]:
    failed = or_(REQUESTS.c.outcome == "refused", REQUESTS.c.outcome == "broken")
    return [
        func.sum(parts.c.counts).label("requests"),
        func.sum(case((failed, parts.c.counts), else_=0)).label("failed"),
        *(func.sum(parts.c[kind]).label(kind) for kind in _TOKENS),
        func.count(distinct(case((parts.c.estimated.is_(True), parts.c.seq)))).label("estimated"),
        func.sum(parts.c.cost).label("cost"),
        func.count(distinct(parts.c.unpriced)).label("unpriced"),
    ]
