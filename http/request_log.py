"""One line in the log for each request: who asked for what, who answered, and what it came to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from infermux.actors.record import WORDS, Ending, Record
from infermux.log_lines import Fields
from infermux.logs import log_fields

log = logging.getLogger("infermux.requests")

_BROKEN: Final = Ending.BROKEN  # a member of an enum is looked up in Python code
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/+-@*")


def log_request(record: Record) -> None:
    """A listener of the journal. What broke, and what was not the caller's fault with a status of 5xx, is a warning."""
    bad = record.status >= 500 or record.ending is _BROKEN
    level = logging.WARNING if bad else logging.INFO
    log_fields(log, level, RequestLine(record, bad))


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """What is said of a request, in this order; None: nothing. Milliseconds, tokens, US dollars.

    It is made by position: by name, making it costs more than all the rest of its line.
    """

    id: str
    endpoint: str
    status: int
    ending: str
    code: str | None = None
    fault: str | None = None
    error: str | None = None
    caller: str | None = None
    key: str | None = None
    tags: dict[str, str] | None = None
    trace: str | None = None
    requested: str | None = None
    attempts: int | None = None
    model: str | None = None
    provider: str | None = None
    strategy: str | None = None
    group: str | None = None
    rescues: int | None = None
    cache: str | None = None
    stream: bool | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    waited_ms: float | None = None
    overhead_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimated: bool | None = None
    cost: float | None = None


class RequestLine(Fields):
    """The line of one record; rendered when it is written. `bad`: with what the error said."""

    __slots__ = ("_bad", "_record")
    event = "request"

    def __init__(self, record: Record, bad: bool) -> None:
        self._record = record
        self._bad = bad

    def fields(self) -> Line:
        record, who, usage, first = self._record, self._record.who, self._record.usage, self._record.first_token
        code, answered = record.code, bool(record.provider)
        return Line(
            record.id,
            record.endpoint,
            record.status,
            WORDS[record.ending],
            code or None,
            None if not code else "" if record.fault is None else record.fault.value,
            record.message if self._bad else None,
            who.caller or None,
            who.key or None,
            dict(who.tags) if who.tags else None,
            None if record.trace is None else record.trace.trace,
            record.requested,
            len(record.attempts),
            record.model if answered else None,
            record.provider if answered else None,
            record.strategy or None,
            record.group or None,
            record.rescues or None,
            record.cache or None,
            record.stream or None,
            _ms(record.latency),
            None if first is None else _ms(first),
            _ms(record.waited) if record.waited else None,
            _ms(record.overhead),
            None if usage is None else usage.prompt_tokens,
            None if usage is None else usage.completion_tokens,
            True if usage is not None and usage.estimated else None,
            None if record.cost is None else round(record.cost, 9),
        )

    def __str__(self) -> str:
        said = self.fields()
        return line_of({name: value for name in _NAMES if (value := getattr(said, name)) is not None})


_NAMES = Line.__struct_fields__


def _ms(seconds: float) -> float:
    """To a hundredth; `round` would take four times as long to find the same."""
    return int(seconds * 100_000 + 0.5) / 100


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
