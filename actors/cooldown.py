"""Staying away for a while: a provider after a 429, a provider's model after a 404 for it."""

from __future__ import annotations

import math
from collections import OrderedDict

FIRST = 1.0
LONGEST = 60.0
LONGEST_ASKED_FOR = 86_400.0
SET_ASIDE_FOR = 60.0
MODELS_KEPT = 1000


class Cooldown:
    """Until when a provider that answered 429 is left alone.

    It asks for a time (`Retry-After` or a reset header): that long, at most a day; nonsense (negative, not a number)
    counts as not asked. Otherwise 1 s, doubling to 60 s with each further 429 until a success.

    A 429 during a cool-down answers a request sent before it: one burst is one offence, so it does not double the wait,
    and it never shortens it; a longer `Retry-After` extends it. Likewise a success during a cool-down does not reset
    the doubling. `until` is the time up to which it is left alone, as of the last 429.
    """

    __slots__ = ("_next", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._next = FIRST

    def rate_limited(self, now: float, retry_after: float | None = None) -> float:
        """A 429 came. Returns the time until which the provider is left alone."""
        asked = _sane(retry_after)
        active = now < self.until
        if asked is not None:
            self.until = max(self.until, now + asked)
        elif not active:
            self.until = now + self._next
        if not active:
            self._next = min(self._next * 2, LONGEST)
        return self.until

    def hear(self, until: float) -> None:
        """Another node was told to leave the provider alone until then."""
        self.until = max(self.until, until)

    def succeeded(self, now: float) -> None:
        """A request succeeded."""
        if now >= self.until:
            self._next = FIRST

    def blocked_until(self, now: float) -> float:
        """0 when requests may go out, else the time from which they may."""
        return self.until if now < self.until else 0.0

    def reset(self) -> None:
        """End the cool-down and forget the 429s."""
        self.until = 0.0
        self._next = FIRST

    def __repr__(self) -> str:
        return f"<Cooldown until={self.until} next={self._next}>"


def _sane(retry_after: float | None) -> float | None:
    if retry_after is None or math.isnan(retry_after) or retry_after < 0:
        return None
    return min(retry_after, LONGEST_ASKED_FOR)


class SetAside:
    """Models of one provider that it said not to have: each is left alone for 60 s.

    At most 1000 are remembered; the one set aside longest ago is forgotten first. `until` has them, some of whose time
    may be over.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until: OrderedDict[str, float] = OrderedDict()

    def set_aside(self, model: str, now: float) -> float:
        """The provider answered that it has no `model`. Returns the time until which it is not asked for it."""
        until = now + SET_ASIDE_FOR
        self.until[model] = until
        self.until.move_to_end(model)
        if len(self.until) > MODELS_KEPT:
            self.until.popitem(last=False)
        return until

    def blocked_until(self, model: str, now: float) -> float:
        """0 when `model` may be asked for, else the time from which it may."""
        until = self.until.get(model)
        if until is None:
            return 0.0
        if now < until:
            return until
        del self.until[model]
        return 0.0

    def models(self, now: float) -> dict[str, float]:
        """The models set aside now, each with the time that ends it."""
        return {model: until for model, until in self.until.items() if now < until}

    def clear(self) -> None:
        self.until.clear()

    def __len__(self) -> int:
        return len(self.until)
