"""One line in the log for each request: who asked for what, who answered, and what it came to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from infermux.actors.identity import NOBODY
from infermux.actors.record import Ending, Record
from infermux.log_lines import Fields
from infermux.logs import log_fields

log = logging.getLogger("infermux.requests")

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/+-@*")


def log_request(record: Record) -> None:
    """A listener of the journal. What broke, and what was not the caller's fault with a status of 5xx, is a warning."""
    bad = record.status >= 500 or record.ending is Ending.BROKEN
    level = logging.WARNING if bad else logging.INFO
    log_fields(log, level, RequestLine(record, bad))


class RequestLine(Fields):
    """The line of one record; rendered when it is written. `bad`: with what the error said."""

    __slots__ = ("_bad", "_record")
    event = "request"

    def __init__(self, record: Record, bad: bool) -> None:
        self._record = record
        self._bad = bad

    def fields(self) -> dict[str, Any]:
        """By name, without those that say nothing. Milliseconds, tokens, US dollars."""
        record, who = self._record, self._record.who
        found: dict[str, Any] = {"id": record.id, "endpoint": record.endpoint}
        found["status"], found["ending"] = record.status, record.ending.value
        if record.code:
            found["code"] = record.code
            found["fault"] = "" if record.fault is None else record.fault.value
        if self._bad:
            found["error"] = record.message
        if who is not NOBODY:
            given = {"caller": who.caller, "key": who.key, "tags": dict(who.tags)}
            found.update({name: value for name, value in given.items() if value})
        if record.trace is not None:
            found["trace"] = record.trace.trace
        _add_choice(found, record)
        _add_times(found, record)
        usage = record.usage
        if usage is not None:
            found["prompt_tokens"], found["completion_tokens"] = usage.prompt_tokens, usage.completion_tokens
            if usage.estimated:
                found["estimated"] = True
        if record.cost is not None:
            found["cost"] = round(record.cost, 9)
        return found

    def __str__(self) -> str:
        return line_of(self.fields())


def _add_choice(found: dict[str, Any], record: Record) -> None:
    found["requested"], found["attempts"] = record.requested, len(record.attempts)
    if record.provider:
        found["model"], found["provider"] = record.model, record.provider
    if record.strategy:
        found["strategy"] = record.strategy
    if record.group:
        found["group"] = record.group
    if record.rescues:
        found["rescues"] = record.rescues
    if record.cache:
        found["cache"] = record.cache
    if record.stream:
        found["stream"] = True


def _add_times(found: dict[str, Any], record: Record) -> None:
    found["latency_ms"] = _ms(record.latency)
    if record.first_token is not None:
        found["first_token_ms"] = _ms(record.first_token)
    if record.waited:
        found["waited_ms"] = _ms(record.waited)
    found["overhead_ms"] = _ms(record.overhead)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def line_of(fields: Mapping[str, Any]) -> str:
    """A line of `name=value`, for people."""
    return " ".join([f"{name}={_shown(value)}" for name, value in fields.items()])


def _shown(value: Any) -> str:
    """A value in a line of `name=value`: what is not one plain word is quoted as in JSON, so a line is one line."""
    if isinstance(value, str):
        return value if value and _PLAIN.issuperset(value) else _quoted(value)
    if isinstance(value, dict | list):
        return _quoted(value)
    return str(value).lower() if isinstance(value, bool) else f"{value:.9g}" if isinstance(value, float) else str(value)


def _quoted(value: Any) -> str:
    """JSON in ASCII: what a terminal would take for a command is escaped too."""
    return msgspec.json.encode(value).decode().encode("ascii", "backslashreplace").decode().replace("\x7f", "\\u007f")
