"""From an exchange to a run: the request is read as far as it takes to route it."""

from __future__ import annotations

from typing import Final

from infermux.actors.dispatch import Run
from infermux.actors.fleet import Fleet
from infermux.actors.requests import request_run
from infermux.config.values import duration
from infermux.errors import InvalidRequest
from infermux.providers.interface import Endpoint
from infermux.providers.peek_endpoints import beginning

from .admission import Admitted, caller_affinity
from .exchange import Exchange, Head
from .passthrough import passed_run
from .rules import Rules
from .trace_context import Carried

_BETAS: Final = (b"openai-beta", b"anthropic-beta", b"anthropic-version")
"""Headers of the callers' dialects: they go on to a provider that speaks the same."""
_STRICT: Final = b"x-infermux-strict"
_TIMEOUT: Final = b"x-infermux-timeout"
_OPTIONS: Final = frozenset({*_BETAS, _STRICT, _TIMEOUT})
_TIMEOUT_WORDS: Final = "must be a duration such as 500ms, 20s or 1m30s, longer than 0 and shorter than a day"


async def passed(fleet: Fleet, rules: Rules, exchange: Exchange, *, found: Admitted, carried: Carried) -> Run:
    """A request that is passed through. Raises as `passed_run`, and InvalidRequest for a header."""
    head = exchange.head
    by_prefix = rules.sticky_by in (None, "prefix")
    return await passed_run(
        fleet,
        exchange,
        timeout=_timeout(head),
        affinity=b"" if by_prefix else _affinity(rules, head, Endpoint.CHAT, b"", found),
        betas=_betas(head) + carried,
        priority=found.priority,
        who=found.who,
        lent=found.lent,
    )


def read(
    fleet: Fleet,
    rules: Rules,
    exchange: Exchange,
    *,
    endpoint: Endpoint,
    body: bytes,
    found: Admitted,
    carried: Carried,
    now: float,
) -> Run:
    """A request whose body is there, since `now`. Raises InvalidRequest naming the field, or the header."""
    head = exchange.head
    plain = head.is_plain or head.lacks(_OPTIONS)
    return request_run(
        fleet,
        endpoint,
        body,
        headers=carried if plain else _betas(head) + carried,
        strict=not plain and _is_strict(head),
        caller=exchange,
        timeout=None if plain else _timeout(head),
        affinity=None if rules.sticky_by is None else lambda body: _affinity(rules, head, endpoint, body, found),
        priority=found.priority,
        who=found.who,
        lent=found.lent,
        now=now,
    )


def _affinity(rules: Rules, head: Head, endpoint: Endpoint, body: bytes, found: Admitted) -> bytes:
    """What keeps a conversation on one provider: its first messages, its caller, or a header."""
    by = rules.sticky_by or "prefix"
    if by == "caller":
        return caller_affinity(head, found.who)
    if by.startswith("header:"):
        return head.get(by[7:].lower().encode()) or b""
    return beginning(endpoint, body)


def _betas(head: Head) -> tuple[tuple[bytes, bytes], ...]:
    """The caller's headers that belong to its dialect; some may be there several times."""
    return tuple([pair for pair in head.headers if pair[0] in _BETAS])


def _is_strict(head: Head) -> bool:
    value = (head.get(_STRICT) or b"").strip().lower()
    if value in (b"true", b"1"):
        return True
    if value in (b"false", b"0", b""):
        return False
    raise InvalidRequest("X-Infermux-Strict must be true or false", param="X-Infermux-Strict")


def _timeout(head: Head) -> float | None:
    """The caller's own bound in seconds."""
    text = head.get(_TIMEOUT)
    if text is None:
        return None
    try:
        seconds = duration(text.decode("latin-1").strip())
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise InvalidRequest(f"X-Infermux-Timeout {_TIMEOUT_WORDS}", param="X-Infermux-Timeout")
    return seconds
