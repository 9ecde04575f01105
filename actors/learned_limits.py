"""The limits that a provider itself tells in its answers, per credential and model, beside those of the configuration.

Providers count requests and tokens per model, some per organisation, and tell after each answer what is left. That only
ever tightens: a request has to fit into both what is configured and what was told.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from infermux.providers.ratelimits import Quota, Quotas

from .messages import Reason

KEPT = 256
_SLACK = 1e-6  # of a request or token: what is promised for a time must hold at that time, whatever floats make of it

Of = tuple[int, str]
"""Which credential (its index) and which model."""


class Mark(msgspec.Struct, frozen=True):
    """What had been let through, of requests and of tokens, when a request was: with it included."""

    requests: int = 0
    tokens: int = 0
    size: int = 0  # of this one, in tokens


class Allowance:
    """What was told of requests or of tokens: `remaining` at `at`, all of the limit again at `until`.

    In between it refills evenly where the limit was told (both OpenAI and Anthropic document a token bucket), at
    `until` otherwise. After `until` nothing is known, so nothing is held back.
    """

    __slots__ = ("_at", "_level", "_rate", "limit", "until")

    def __init__(self, quota: Quota, at: float, since: int) -> None:
        """`since`: what was let through after the request whose answer this is, and may not be counted in it."""
        self.limit = quota.limit
        self.until = at + quota.reset
        self._at = at
        self._level = float(quota.remaining - since)
        self._rate = 0.0 if quota.limit is None else (quota.limit - quota.remaining) / quota.reset

    def left(self, now: float) -> float | None:
        """How much may still go out; None where nothing is known any more. Negative: nothing for a while."""
        if now >= self.until:
            return None
        return self._level + self._rate * max(now - self._at, 0.0)

    def take(self, n: int) -> None:
        self._level -= n

    def ready_at(self, n: int, now: float) -> float:
        """0 when `n` (no more than the limit) are covered now, else the time at which they will be."""
        left = self.left(now)
        if left is None:
            return 0.0
        missing = (n if self.limit is None else min(n, self.limit)) - left
        if missing <= _SLACK:
            return 0.0
        if not self._rate:
            return self.until
        return min(now + missing / self._rate, self.until)


class _Told:
    """What is known of one credential and model, and what was let through since anything was."""

    __slots__ = ("heard", "requests", "sent_requests", "sent_tokens", "tokens")

    def __init__(self) -> None:
        self.requests: Allowance | None = None
        self.tokens: Allowance | None = None
        self.sent_requests = 0
        self.sent_tokens = 0
        self.heard = 0  # the number of the latest request whose answer was heard


class LearnedLimits:
    """One provider's. At most 256 pairs are kept."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: OrderedDict[Of, _Told] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def hear(self, of: Of, quotas: Quotas, mark: Mark | None, now: float) -> None:
        """An answer told `quotas`; `mark` is that of its request (None: nothing was known then).

        An answer to an earlier request than one already heard is old news. Requests let through after the one that is
        answered may not be counted in what it tells: they are taken off.
        """
        told = self._told.get(of)
        if told is None:
            told = self._told[of] = _Told()
            if len(self._told) > KEPT:
                self._told.popitem(last=False)
        mark = mark or Mark()
        if mark.requests < told.heard:
            return
        told.heard = mark.requests
        if quotas.requests is not None:
            told.requests = Allowance(quotas.requests, now, told.sent_requests - mark.requests)
        if quotas.tokens is not None:
            told.tokens = Allowance(quotas.tokens, now, told.sent_tokens - mark.tokens)

    def blocked(self, of: Of, tokens: int, now: float) -> tuple[Reason, float] | None:
        """Why a request of so many tokens may not go out now, and until when; None: it may."""
        told = self._told.get(of)
        if told is None:
            return None
        if told.requests is not None and (until := told.requests.ready_at(1, now)):
            return Reason.REQUEST_LIMIT, until
        if told.tokens is not None and (until := told.tokens.ready_at(tokens, now)):
            return Reason.TOKEN_LIMIT, until
        return None

    def take(self, of: Of, tokens: int) -> Mark | None:
        """A request of so many tokens goes out."""
        told = self._told.get(of)
        if told is None:
            return None
        told.sent_requests += 1
        told.sent_tokens += tokens
        if told.requests is not None:
            told.requests.take(1)
        if told.tokens is not None:
            told.tokens.take(tokens)
        return Mark(told.sent_requests, told.sent_tokens, tokens)

    def give_back(self, of: Of, tokens: int) -> None:
        """A request that was let through did not go out after all."""
        told = self._told.get(of)
        if told is not None:
            if told.requests is not None:
                told.requests.take(-1)
            if told.tokens is not None:
                told.tokens.take(-tokens)

    def statistics(self, now: float) -> list[dict[str, object]]:
        """What is known now, for display: keys count from 1."""
        return [
            {"key": key + 1, "model": model, "requests": _shown(told.requests, now), "tokens": _shown(told.tokens, now)}
            for (key, model), told in self._told.items()
            if _shown(told.requests, now) or _shown(told.tokens, now)
        ]


def _shown(allowance: Allowance | None, now: float) -> dict[str, float | int | None] | None:
    left = None if allowance is None else allowance.left(now)
    if allowance is None or left is None:
        return None
    return {"limit": allowance.limit, "remaining": round(left, 3), "reset_in": round(allowance.until - now, 3)}
