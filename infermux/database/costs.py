"""The question of `infermux.costs`, asked of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
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

from infermux.costs import KEY, MOST_LINES, TAG, CostLine, CostQuery, Costs
from infermux.errors import InvalidRequest

from .tables import API_KEYS, ATTEMPTS, REQUESTS, TAGS

_TOKENS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
_COLUMNS = {name: name for name in ("caller", "model", "provider", "key", "day")} | {"group": "route_group"}
_OF_ATTEMPTS = ("provider", "model")


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
    return Costs(
        query=query,
        lines=tuple(sorted(lines, key=_order(query))),
        total=_line(total, []),
        key_names=_key_names(connection) if KEY in query.group_by else {},
    )


def _key_names(connection: Connection) -> dict[str, str]:
    return {row.id: row.name for row in connection.execute(select(API_KEYS.c.id, API_KEYS.c.name))}


def _order(query: CostQuery) -> Callable[[CostLine], Any]:
    day = query.group_by.index("day") if "day" in query.group_by else None

    def place(line: CostLine) -> tuple[str, float, int, tuple[str, ...]]:
        return "" if day is None else line.group[day], -(line.cost or 0.0), -line.requests, line.group

    return place


def _line(row: Row[Any], group: Iterable[str]) -> CostLine:
    known, unpriced = float(row.cost or 0.0), row.unpriced or 0
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
    parts = _parts(query).subquery("parts")
    source: FromClause = parts
    groups: list[ColumnElement[Any]] = []
    for key, name in zip(query.group_by, names, strict=True):
        if key in _COLUMNS:
            groups.append(parts.c[_COLUMNS[key]].label(name))
            continue
        tags = TAGS.alias(f"tags_of_{name}")
        wanted = tags.c.seq == parts.c.seq
        if key.startswith(TAG):
            source = source.outerjoin(tags, and_(wanted, tags.c.name == key.removeprefix(TAG)))
            groups.append(tags.c.value.label(name))
        else:
            source = source.outerjoin(tags, wanted)
            groups.append((tags.c.name + "=" + tags.c.value).label(name))
    return select(*groups, *_sums(parts)).select_from(source).group_by(*groups)


def _parts(query: CostQuery) -> CompoundSelect[Any]:
    """What was sent to whom: each request, without its tokens and money where its attempts have them, and those."""
    when = [REQUESTS.c.at >= query.since] if query.since is not None else []
    when += [REQUESTS.c.at < query.until] if query.until is not None else []
    kinds = (*_TOKENS, "estimated", "cost")
    same = [REQUESTS.c[_COLUMNS[key]] for key in query.group_by if key in _COLUMNS and key not in _OF_ATTEMPTS]
    alone = or_(REQUESTS.c.attempts == 0, and_(REQUESTS.c.attempts == 1, REQUESTS.c.provider != ""))
    requests = select(
        *same,
        REQUESTS.c.seq,
        REQUESTS.c.provider,
        REQUESTS.c.model,
        literal(1).label("counts"),
        case((REQUESTS.c.outcome.in_(("refused", "broken")), 1), else_=0).label("fails"),
        case((and_(alone, REQUESTS.c.cost.is_(None)), 1), else_=0).label("unpriced"),
        null().label("tried"),
        *(case((alone, REQUESTS.c[kind]), else_=null()).label(kind) for kind in kinds),
    )
    attempts = select(
        *same,
        ATTEMPTS.c.seq,
        ATTEMPTS.c.provider,
        ATTEMPTS.c.model,
        *(literal(0).label(name) for name in ("counts", "fails", "unpriced")),
        ATTEMPTS.c.seq.label("tried"),
        *(ATTEMPTS.c[kind] for kind in kinds),
    ).join_from(ATTEMPTS, REQUESTS, REQUESTS.c.seq == ATTEMPTS.c.seq)
    return union_all(requests.where(*when), attempts.where(*when))


def _sums(parts: FromClause) -> list[ColumnElement[Any]]:
    # Two attempts of one request that nobody can price are one request. Distinct numbers are dear, so only theirs are
    # looked at: most requests have but one attempt.
    once, one = parts.c.tried.is_(None), parts.c.tried
    guessed = func.sum(case((and_(once, parts.c.estimated.is_(True)), 1), else_=0))
    return [
        func.sum(parts.c.counts).label("requests"),
        func.sum(parts.c.fails).label("failed"),
        *(func.sum(parts.c[kind]).label(kind) for kind in _TOKENS),
        (guessed + func.count(distinct(case((parts.c.estimated.is_(True), one))))).label("estimated"),
        func.sum(parts.c.cost).label("cost"),
        (func.sum(parts.c.unpriced) + func.count(distinct(case((parts.c.cost.is_(None), one))))).label("unpriced"),
    ]
