"""A record as the ledger's tables have it."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from infermux.database.rows import Entry, Row, fitting_number, fitting_text
from infermux.providers.interface import Usage

from .record import Ending, Record, Tried

SECONDS_A_DAY = 86_400


def entry_of(seq: int, record: Record) -> Entry:
    """The rows of one request, numbered `seq`. Those of its attempts only where one row cannot say it all."""
    request: dict[str, Any] = {
        "seq": seq,
        "id": fitting_text(record.id),
        "at": record.at,
        "day": _day(int(record.at // SECONDS_A_DAY)),
        "caller": fitting_text(record.who.caller),
        "key": fitting_text(record.who.key),
        "endpoint": fitting_text(record.endpoint),
        "stream": record.stream,
        "requested": fitting_text(record.requested),
        "route_group": fitting_text(record.group),
        "strategy": fitting_text(record.strategy),
        "provider": fitting_text(record.provider),
        "model": fitting_text(record.model),
        "attempts": len(record.attempts),
        "rescues": record.rescues,
        "outcome": record.ending.value,
        "status": record.status,
        "code": fitting_text(record.code),
        "fault": "" if record.fault is None else record.fault.value,
        "cache": fitting_text(record.cache),
        "latency": record.latency,
        "first_token": record.first_token,
        "waited": record.waited,
        "overhead": record.overhead,
        **_tokens(record.usage),
        "cost": _cost(record.cost, record.usage, answered=record.ending is Ending.OK and bool(record.attempts)),
    }
    attempts = record.attempts if len(record.attempts) > 1 else ()
    return Entry(
        request,
        [_attempt(seq, number, tried) for number, tried in enumerate(attempts, 1)],
        [
            {"seq": seq, "name": fitting_text(name), "value": fitting_text(value)}
            for name, value in record.who.tags.items()
        ],
    )


def _attempt(seq: int, number: int, tried: Tried) -> Row:
    return {
        "seq": seq,
        "number": number,
        "provider": fitting_text(tried.provider),
        "model": fitting_text(tried.model),
        "outcome": fitting_text(tried.outcome),
        "status": tried.status,
        "started": tried.started,
        "ended": tried.ended,
        "first_token": tried.first_token,
        **_tokens(tried.usage),
        "cost": _cost(tried.cost, tried.usage, answered=tried.outcome == "ok"),
    }


def _tokens(usage: Usage | None) -> Row:
    if usage is None:
        return _NO_TOKENS
    return {
        "prompt_tokens": fitting_number(usage.prompt_tokens),
        "cached_tokens": fitting_number(usage.cached_tokens),
        "cache_write_tokens": fitting_number(usage.cache_write_tokens),
        "completion_tokens": fitting_number(usage.completion_tokens),
        "reasoning_tokens": fitting_number(usage.reasoning_tokens),
        "estimated": usage.estimated,
    }


_NO_TOKENS: Row = {
    "prompt_tokens": None,
    "cached_tokens": None,
    "cache_write_tokens": None,
    "completion_tokens": None,
    "reasoning_tokens": None,
    "estimated": None,
}


def _cost(cost: float | None, usage: Usage | None, *, answered: bool) -> float | None:
    """In the tables NULL is a cost that nobody knows, and 0 one that is nothing: an attempt that gave nothing."""
    return cost if cost is not None or usage is not None or answered else 0.0


@lru_cache(maxsize=8)
def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * SECONDS_A_DAY))
