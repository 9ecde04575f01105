"""A record as the ledger's tables have it."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final

from infermux.database.rows import TOKENS, Entry, fitting_names, fitting_number, fitting_text
from infermux.database.session import Row
from infermux.providers.interface import Usage

from .record import WORDS, Ending, Record, Tried

SECONDS_A_DAY = 86_400
_OK: Final = Ending.OK  # a member of an enum is looked up in Python code


def entry_of(seq: int, record: Record) -> Entry:
    """The rows of one request, numbered `seq`. Those of its attempts only where one row cannot say it all.

    What is true or false is a number: SQLite's driver would look for how to adapt it, by an exception that it catches.
    """
    who, attempts, usage, fault = record.who, record.attempts, record.usage, record.fault
    request = (
        seq,
        fitting_text(record.id),
        record.at,
        _day(int(record.at // SECONDS_A_DAY)),
        *fitting_names(who.caller, who.key, record.endpoint),
        1 if record.stream else 0,
        *fitting_names(record.requested, record.group, record.strategy, record.provider, record.model),
        len(attempts),
        record.rescues,
        WORDS[record.ending],
        record.status,
        *fitting_names(record.code),
        "" if fault is None else fault.value,
        *fitting_names(record.cache),
        record.latency,
        record.first_token,
        record.waited,
        record.overhead,
        *_tokens(usage),
        _cost(record.cost, usage, answered=record.ending is _OK and bool(attempts)),
    )
    return Entry(
        request,
        [_attempt(seq, number, tried) for number, tried in enumerate(attempts, 1)]
        if len(attempts) > 1 or (attempts and not record.provider)
        else (),
        [(seq, fitting_text(name), fitting_text(value)) for name, value in who.tags.items()] if who.tags else (),
    )


def _attempt(seq: int, number: int, tried: Tried) -> Row:
    return (
        seq,
        number,
        *fitting_names(tried.provider, tried.model, tried.outcome),
        tried.status,
        tried.started,
        tried.ended,
        tried.first_token,
        *_tokens(tried.usage),
        _cost(tried.cost, tried.usage, answered=tried.outcome == "ok"),
    )


def _tokens(usage: Usage | None) -> Row:
    """In the order of `TOKENS`."""
    if usage is None:
        return _NO_TOKENS
    return (
        fitting_number(usage.prompt_tokens),
        fitting_number(usage.cached_tokens),
        fitting_number(usage.cache_write_tokens),
        fitting_number(usage.completion_tokens),
        fitting_number(usage.reasoning_tokens),
        1 if usage.estimated else 0,
    )


_NO_TOKENS: Row = (None,) * len(TOKENS)


def _cost(cost: float | None, usage: Usage | None, *, answered: bool) -> float | None:
    """In the tables NULL is a cost that nobody knows, and 0 one that is nothing: an attempt that gave nothing."""
    return cost if cost is not None or usage is not None or answered else 0.0


@lru_cache(maxsize=8)
def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * SECONDS_A_DAY))
