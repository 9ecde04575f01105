"""How a key is declared, by the command line and by the API: names and words in, an `Allowance` out. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import attrs

from .config.values import MOST_DOLLARS, decimal, duration
from .errors import InvalidRequest
from .keys import OWN_NAME, PERIODS, PRIORITIES, Allowance, KeyBudget

LONGEST_NAME: Final = 100
MOST_GLOBS: Final = 100
LONGEST_GLOB: Final = 200

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]*")
_LONG: Final = re.compile(r"([0-9]{1,20})(d|w)")
_LONGEST: Final = 36_500 * 86_400.0  # seconds: a century
_SECONDS: Final = {"d": 86_400.0, "w": 7 * 86_400.0}


@attrs.frozen(kw_only=True)
class Declaration:
    """What a new key is to be. `lifetime` in seconds, None: for ever."""

    name: str
    allows: Allowance
    lifetime: float | None = None


def read_declaration(fields: Mapping[str, object]) -> Declaration:
    """From `name` and the fields of `Allowance`, with `budget` as `50/month` and `expires` as `90d`; null: not given.

    Raises InvalidRequest naming the field.
    """
    unknown = sorted(set(fields) - set(_READERS))
    if unknown:
        raise InvalidRequest(f"unknown field {unknown[0][:100]!r}; there are: {', '.join(_READERS)}", param=unknown[0])
    read = {field: _read(field, fields[field]) for field in _READERS if fields.get(field) is not None}
    if "name" not in read:
        raise InvalidRequest("name is required: it says in lists and costs whose key this is", param="name")
    name, lifetime = read.pop("name"), read.pop("expires", None)
    return Declaration(name=name, allows=Allowance(**read), lifetime=lifetime)


def read_keep_old(fields: Mapping[str, object]) -> float:
    """Seconds for which a rotated key's old secret stays good: `keep_old`, such as `1h`. Raises InvalidRequest."""
    for field in fields:
        if field != "keep_old":
            raise InvalidRequest(f"unknown field {field[:100]!r}; there is: keep_old", param=field)
    given = fields.get("keep_old")
    if given is None:
        return 0.0
    try:
        return read_lifetime(_text(given))
    except ValueError as wrong:
        raise InvalidRequest(f"keep_old {wrong}", param="keep_old") from None


def _read(field: str, value: object) -> Any:
    try:
        return _READERS[field](value)
    except ValueError as wrong:
        raise InvalidRequest(f"{field} {wrong}", param=field) from None


# Each raises ValueError saying what is right, with the field's name left out.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - it is the reader's value, not a bug
    return value


def read_name(value: object) -> str:
    """A key's name: it shows in logs, and names the caller."""
    text = _text(value)
    if len(text) > LONGEST_NAME or not _NAME.fullmatch(text):
        raise ValueError(f"must be 1 to {LONGEST_NAME} letters, digits and any of . _ @ : / + - (the first no sign)")
    if text == OWN_NAME:
        raise ValueError(f"must not be {OWN_NAME!r}: so the router's own health probes are called")
    return text


def read_texts(value: object) -> tuple[str, ...]:
    """A list of globs, or of names."""
    items = cast("list[object]", value) if isinstance(value, list | tuple) else [None]
    if not items:
        raise ValueError("must not be empty: nothing could be asked for. Left out, it is everything")
    if len(items) > MOST_GLOBS or not all(isinstance(item, str) and 0 < len(item) <= LONGEST_GLOB for item in items):
        raise ValueError(f"must be a list of at most {MOST_GLOBS} texts of 1 to {LONGEST_GLOB} characters")
    return tuple(dict.fromkeys(cast("list[str]", items)))


def read_budget(value: object) -> KeyBudget:
    """`50/month`."""
    amount, _, period = _text(value).partition("/")
    try:
        limit = decimal(amount.strip())
    except ValueError:
        limit = math.nan
    if math.isnan(limit) or period.strip() not in PERIODS:
        raise ValueError(f"must be US dollars per {', '.join(PERIODS[:-1])} or {PERIODS[-1]}, such as 50/month")
    if not 0 < limit <= MOST_DOLLARS:
        raise ValueError(f"must be more than 0 and at most {MOST_DOLLARS:.0f} US dollars, not {amount.strip()[:50]}")
    return KeyBudget(limit_usd=limit, period=period.strip())


def read_lifetime(value: object) -> float:
    """Seconds from `90d`, `2w`, `12h` and what else a duration may be; above zero, and with a unit."""
    text = _text(value).strip()
    found = _LONG.fullmatch(text)
    try:
        if text[-1:].isdecimal():
            raise ValueError(text)
        seconds = duration(text) if found is None else float(found[1]) * _SECONDS[found[2]]
    except ValueError:
        raise ValueError("must be a time above zero such as 90d, 2w or 12h") from None
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"must be a time above zero, and at most 36500d, not {text[:50]}")
    return seconds


def read_limit(value: object) -> int:
    """A whole number above zero; JSON does not tell 60 from 60.0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 2**53 or value % 1:
        raise ValueError("must be a whole number above zero")
    return int(value)


def read_priority(value: object) -> str:
    if value not in PRIORITIES:
        raise ValueError(f"must be {', '.join(PRIORITIES[:-1])} or {PRIORITIES[-1]}")
    return _text(value)


def read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - as above
    return value


_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "name": read_name,
    "models": read_texts,
    "groups": read_texts,
    "requests_per_minute": read_limit,
    "tokens_per_minute": read_limit,
    "max_concurrent": read_limit,
    "budget": read_budget,
    "expires": read_lifetime,
    "priority": read_priority,
    "names_callers": read_switch,
}
