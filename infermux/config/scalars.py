"""The scalar kinds of infermux.yml: durations, sizes, numbers, switches, addresses, credentials."""

from __future__ import annotations

import re
from collections.abc import Callable

from infermux.database.place import Place
from infermux.shared.place import check_url

from . import values
from .kinds import TEXT_TAGS, ListOf, Value, text
from .types import BUILT_IN_STRATEGIES, BUILT_IN_TYPES, is_known_strategy, known_types

_NUMBER_TAGS = frozenset({"int", "float"})
_NUMBER_OR_TEXT = TEXT_TAGS | _NUMBER_TAGS


def _above(
    convert: Callable[[str], float], *, least: float, most: float | None = None, zero: bool = True
) -> Callable[[str], float]:
    def checked(written: str) -> float:
        number = convert(written)
        if number < least or (most is not None and number > most) or (number == 0 and not zero):
            raise ValueError(written)
        return number

    return checked


def _positive_whole(written: str) -> int:
    number = values.whole(written)
    if number <= 0:
        raise ValueError(written)
    return number


def _true(written: str) -> bool:
    if not values.truth(written):
        raise ValueError(written)
    return True


def _limit_or_auto(written: str) -> int | str:
    return written if written == "auto" else _positive_whole(written)


def _hedge_after(written: str) -> str:
    if re.fullmatch(r"p[1-9][0-9]?", written) is None and values.duration(written) <= 0:
        raise ValueError(written)
    return written


def _provider_type(written: str) -> str:
    if written in BUILT_IN_TYPES:
        return written
    if written in known_types():
        return written
    raise ValueError(written)


def _strategy(written: str) -> str:
    if not is_known_strategy(written):
        raise ValueError(written)
    return written


def _database(written: str) -> str:
    Place.of(written)
    return written


def _state(written: str) -> str:
    check_url(written)
    return written


def _sticky_key(written: str) -> str:
    kind, colon, header = written.partition(":")
    if kind == "header" and colon:
        return f"header:{values.header_name(header)}"
    if written not in {"prefix", "caller"}:
        raise ValueError(written)
    return written


_DURATION_PATTERN = r"^([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9.]+ms)?$|^[0-9.]+$"
_DURATION_JSON = {"type": ["string", "number"], "pattern": _DURATION_PATTERN}
_SIZE_JSON = {"type": ["string", "integer"], "pattern": "^[0-9]+(\\.[0-9]+)?(KB|MB|GB|KiB|MiB|GiB)?$"}

DURATION = Value(
    what="a duration above zero such as 250ms, 30s, 1m30s, 2h (a plain number is seconds)",
    convert=_above(values.duration, least=0, zero=False),
    tags=_NUMBER_OR_TEXT,
    json=_DURATION_JSON,
    shown=values.show_duration,
)
DURATION_OR_ZERO = Value(
    what="a duration such as 0s, 250ms, 30s, 1m30s, 2h (a plain number is seconds)",
    convert=values.duration,
    tags=_NUMBER_OR_TEXT,
    json=_DURATION_JSON,
    shown=values.show_duration,
)
SIZE = Value(
    what="a size above zero such as 64KB, 32MiB, 1GiB (a plain number is bytes)",
    convert=_above(values.size, least=1),
    tags=_NUMBER_OR_TEXT,
    json=_SIZE_JSON,
    shown=values.show_size,
)
COUNT = Value(
    what="a whole number above zero",
    convert=_positive_whole,
    tags=frozenset({"int"}),
    json={"type": "integer", "minimum": 1},
)
COUNT_OR_ZERO = Value(
    what="a whole number, zero or more",
    convert=_above(values.whole, least=0),
    tags=frozenset({"int"}),
    json={"type": "integer", "minimum": 0},
)
LIMIT = Value(
    what="a whole number above zero, or null for no limit",
    convert=_positive_whole,
    tags=frozenset({"int"}),
    json={"type": ["integer", "null"], "minimum": 1},
    nullable=True,
)
WORKERS = Value(
    what="a whole number above zero, or auto",
    convert=_limit_or_auto,
    tags=frozenset({"int"}) | TEXT_TAGS,
    json={"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]},
    words=("auto",),
)
LIMIT_OR_AUTO = Value(
    what="a whole number above zero, auto, or null for no limit",
    convert=_limit_or_auto,
    tags=frozenset({"int"}) | TEXT_TAGS,
    json={"anyOf": [{"type": ["integer", "null"], "minimum": 1}, {"const": "auto"}]},
    nullable=True,
    words=("auto",),
)
HEDGE_AFTER = Value(
    what="a percentile of the provider's own times such as p95, or a duration such as 2s",
    convert=_hedge_after,
    tags=_NUMBER_OR_TEXT,
    json={"type": ["string", "number"], "pattern": r"^p[1-9][0-9]?$|" + _DURATION_PATTERN},
)
SHARE = Value(
    what="a number from 0 to 1",
    convert=_above(values.decimal, least=0, most=1),
    tags=_NUMBER_TAGS,
    json={"type": "number", "minimum": 0, "maximum": 1},
)
SHARE_ABOVE_ZERO = Value(
    what="a number above 0, at most 1",
    convert=_above(values.decimal, least=0, most=1, zero=False),
    tags=_NUMBER_TAGS,
    json={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
)
POSITIVE = Value(
    what="a number above zero",
    convert=_above(values.decimal, least=0, zero=False),
    tags=_NUMBER_TAGS,
    json={"type": "number", "exclusiveMinimum": 0},
)
AMOUNT = Value(
    what="a number, zero or more",
    convert=_above(values.decimal, least=0),
    tags=_NUMBER_TAGS,
    json={"type": "number", "minimum": 0},
)
DOLLARS = Value(
    what=f"US dollars: a number from 0 to {values.MOST_DOLLARS:.0f}",
    convert=_above(values.decimal, least=0, most=values.MOST_DOLLARS),
    tags=_NUMBER_TAGS,
    json={"type": "number", "minimum": 0, "maximum": values.MOST_DOLLARS},
)
SWITCH = Value(
    what="true or false",
    convert=values.truth,
    tags=frozenset({"bool"}),
    json={"type": "boolean"},
)
TRUE = Value(
    what="true",
    convert=_true,
    tags=frozenset({"bool"}),
    json={"const": True},
)
ERROR_STATUS = Value(
    what="a status from 400 to 599",
    convert=_above(values.whole, least=400, most=599),
    tags=frozenset({"int"}),
    json={"type": "integer", "minimum": 400, "maximum": 599},
)
TEXT = text("text that is not empty")
NAME = text("a name of the characters a-z A-Z 0-9 . _ -", values.name, pattern="^[a-zA-Z0-9._-]+$")
FILE = text("the path of a file")
URL = text(
    "an http:// or https:// URL with a host, without user information, query or fragment",
    values.url,
    pattern="^https?://[^/@?#]+[^@?#]*$",
)
ADDRESS = text(
    'an address to listen on such as "127.0.0.1:8080", "[::1]:8080" or ":8080"',
    lambda written: str(values.address(written)),
    pattern=":[0-9]{1,5}$",
)
HEADER_VALUE = Value(
    what="a header's value: ASCII text on one line",
    convert=values.header_value,
    tags=TEXT_TAGS,
    json={"type": "string"},
    hidden=True,
)
VARIABLE = Value(
    what="a variable's value: text without NUL",
    convert=values.variable_value,
    tags=TEXT_TAGS,
    json={"type": "string"},
    hidden=True,
)
CREDENTIAL = Value(
    what='a key, best taken from the environment: "${NAME}" or "${file:/path}" (visible ASCII, no spaces)',
    convert=values.credential,
    tags=TEXT_TAGS,
    json={"type": "string"},
    secret=True,
    nullable=True,
)
DATABASE = Value(
    what="a database: sqlite:///PATH, sqlite:// (in memory) or postgresql://USER:PASSWORD@HOST/NAME",
    convert=_database,
    tags=TEXT_TAGS,
    json={"type": "string", "pattern": "^(sqlite|postgresql|postgres|postgresql\\+psycopg)://"},
    secret=True,
    shown=lambda value: value.reveal(),  # of a default, which is no secret
)
STATE = Value(
    what="a Redis or Valkey: redis://USER:PASSWORD@HOST:PORT/DB, rediss:// (TLS), valkey://, valkeys:// or unix:///PATH",
    convert=_state,
    tags=TEXT_TAGS,
    json={"type": "string", "pattern": "^(rediss?|valkeys?|unix)://"},
    secret=True,
    nullable=True,
)
PROXY = Value(
    what="the http:// or https:// URL of a proxy, with a host",
    convert=values.proxy_url,
    tags=TEXT_TAGS,
    json={"type": "string"},
    hidden=True,
    nullable=True,
)
PROVIDER_TYPE = Value(
    what=f"one of {', '.join(BUILT_IN_TYPES)}, or a type an installed plugin registers",
    convert=_provider_type,
    tags=TEXT_TAGS,
    json={"type": "string", "examples": list(BUILT_IN_TYPES)},
    words=BUILT_IN_TYPES,
)
STRATEGY = Value(
    what=f"one of {', '.join(BUILT_IN_STRATEGIES)}, or a strategy an installed plugin registers",
    convert=_strategy,
    tags=TEXT_TAGS,
    json={"type": "string", "examples": list(BUILT_IN_STRATEGIES)},
    words=BUILT_IN_STRATEGIES,
)
STICKY_KEY = Value(
    what="prefix, caller or header:NAME",
    convert=_sticky_key,
    tags=TEXT_TAGS,
    json={"type": "string", "pattern": r"^(prefix|caller|header:[^\s:]+)$"},
    words=("prefix", "caller"),
)
HOST = text("a host name without a port", values.host, pattern=r"^[^/:\[\]]+$|^\[.*\]$")
TAG = text("a tag NAME=VALUE, or NAME=* for each value", values.tag, pattern=r"^[A-Za-z0-9._-]{1,64}=[^,]+$")
TEXTS = ListOf(item=TEXT, what="a list of text")
