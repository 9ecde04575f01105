"""What a provider's response headers say about its own limits.

OpenAI (https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers"):
`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, resets as durations: `1s`, `6m0s`, `20ms`.
Anthropic (https://platform.claude.com/docs/en/api/rate-limits, "Response headers"):
`anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, resets in RFC 3339.

With both a reset is when the limit will be whole again; until then it refills continuously. Headers are what somebody
else wrote: whatever is not as described is ignored, one header at a time.
"""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from .classify import parse_duration
from .transport import Headers

LONGEST: Final = 86_400.0
"""Seconds to a reset; one that is farther away is nonsense (or a time of day in disguise) and ignored."""

_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")
_NUMBER: Final = re.compile(rb"\s*(\d{1,15})\s*")

Names = tuple[bytes, bytes, bytes]
"""Of the headers that say what remains, the limit, and when it is whole again."""


def _openai_names(what: bytes) -> Names:
    return b"x-ratelimit-remaining-" + what, b"x-ratelimit-limit-" + what, b"x-ratelimit-reset-" + what


def _anthropic_names(what: bytes) -> Names:
    prefix = b"anthropic-ratelimit-" + what
    return prefix + b"-remaining", prefix + b"-limit", prefix + b"-reset"


_OPENAI_REQUESTS: Final = _openai_names(b"requests")
_OPENAI_TOKENS: Final = _openai_names(b"tokens")
_ANTHROPIC_REQUESTS: Final = _anthropic_names(b"requests")
_ANTHROPIC_TOKENS: Final = tuple(_anthropic_names(kind) for kind in (b"tokens", b"input-tokens", b"output-tokens"))


_RESETS: Final = frozenset(
    {names[2] for names in (_OPENAI_REQUESTS, _OPENAI_TOKENS, _ANTHROPIC_REQUESTS, *_ANTHROPIC_TOKENS)}
)


class Quota(msgspec.Struct, frozen=True):
    """`remaining` of `limit` (None: not told) are left; all of it is back in `reset` seconds, which is above zero."""

    remaining: int
    reset: float
    limit: int | None = None


class Quotas(msgspec.Struct, frozen=True):
    """What one answer said, for the model and the credential it was for."""

    requests: Quota | None = None
    tokens: Quota | None = None


def read_quotas(headers: Headers, wall: float) -> Quotas | None:
    """The quotas in an answer's `headers` (names in lower case); None where there are none.

    `wall` is the time in seconds since the epoch: resets in RFC 3339 are counted from the answer's own Date, so that
    a wrong clock on either side does not matter, and from `wall` where it has none.
    """
    for name, _ in headers:
        if name in _RESETS:
            break
    else:
        return None  # without one of them nothing else says enough
    found = {name: value for name, value in headers if name.startswith(_PREFIXES)}
    requests, tokens = _openai(found, _OPENAI_REQUESTS), _openai(found, _OPENAI_TOKENS)
    if requests is None or tokens is None:
        sent_at = _date(headers, wall)
        requests = requests or _anthropic(found, _ANTHROPIC_REQUESTS, sent_at)
        tokens = tokens or _anthropic_tokens(found, sent_at)
    return None if requests is None and tokens is None else Quotas(requests, tokens)


def listen(heard: Callable[[Quotas], None] | None, headers: Headers) -> None:
    """Tell `heard` what an answer that is just here says, if it says anything."""
    if heard is not None and (quotas := read_quotas(headers, time.time())) is not None:
        heard(quotas)


def _openai(found: dict[bytes, bytes], names: Names) -> Quota | None:
    reset = found.get(names[2])
    return None if reset is None else _quota(found.get(names[0]), found.get(names[1]), _seconds(reset))


def _anthropic(found: dict[bytes, bytes], names: Names, sent_at: float) -> Quota | None:
    reset = found.get(names[2])
    at = None if reset is None else _instant(reset)
    return None if at is None else _quota(found.get(names[0]), found.get(names[1]), at - sent_at)


def _anthropic_tokens(found: dict[bytes, bytes], sent_at: float) -> Quota | None:
    """One quota of three: one that is used up stops everything, else all tokens together, else input plus output."""
    total, taken, given = (_anthropic(found, names, sent_at) for names in _ANTHROPIC_TOKENS)
    used_up = [quota for quota in (total, taken, given) if quota is not None and not quota.remaining]
    if used_up:
        return max(used_up, key=_reset_of)
    if total is not None or taken is None or given is None:
        return total
    limit = None if taken.limit is None or given.limit is None else taken.limit + given.limit
    return Quota(taken.remaining + given.remaining, min(taken.reset, given.reset), limit)


def _reset_of(quota: Quota) -> float:
    return quota.reset


def _quota(remaining: bytes | None, limit: bytes | None, seconds: float | None) -> Quota | None:
    left, most = _count(remaining), _count(limit)
    if left is None or seconds is None or not 0 < seconds <= LONGEST:
        return None
    return Quota(left, seconds, most if most is not None and most >= max(left, 1) else None)


# What a provider says of a limit is mostly what it said the last time: its size, and how long it takes to be whole.


@lru_cache(maxsize=1024)
def _seconds(reset: bytes) -> float | None:
    return parse_duration(reset.decode("latin-1"))


@lru_cache(maxsize=1024)
def _count(value: bytes | None) -> int | None:
    matched = None if value is None else _NUMBER.fullmatch(value)
    return int(matched[1]) if matched else None


@lru_cache(maxsize=256)
def _instant(value: bytes) -> float | None:
    try:
        at = datetime.datetime.fromisoformat(value.decode("ascii").strip())
        return None if at.tzinfo is None else at.timestamp()
    except (ValueError, OverflowError):
        return None


def _date(headers: Headers, wall: float) -> float:
    for name, value in headers:
        if name == b"date":
            at = _seconds_of(value)
            return wall if at is None else at
    return wall


@lru_cache(maxsize=16)
def _seconds_of(date: bytes) -> float | None:
    """Cached: all answers of a second have the same."""
    try:
        return email.utils.parsedate_to_datetime(date.decode("ascii")).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
