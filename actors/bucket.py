"""Token buckets that never admit more than they may.

The level is an integer count of parts, a token being `_TOKEN` of them, and time an integer count of ticks of 2**-30 s
(about a nanosecond): multiplying a float by a power of two is exact, so is refilling `limit` parts per tick. Nothing is
ever rounded in the caller's favour and no error adds up, however many steps are made and however large the clock is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from .share import WHOLE, Share

_TICKS = 2.0**30
_TOKEN = 60 * 2**30


class TokenBucket:
    """`limit_per_minute` tokens, refilled continuously, at most that many saved up. Full at first, or empty at a time.

    In any span of t seconds it admits at most limit + limit * t / 60 tokens, plus what settling gave back. A limit of 0
    admits nothing: that can be the part which one of several routers has of a small limit.
    Times are seconds; one before the latest counts as the latest.
    """

    __slots__ = ("_at", "_brim", "_full", "_level", "capacity")

    def __init__(self, limit_per_minute: int, *, empty_at: float | None = None) -> None:
        if limit_per_minute < 0:
            raise ValueError(f"a limit must be at least 0 per minute, not {limit_per_minute}")
        self.capacity = limit_per_minute
        self._full = limit_per_minute * _TOKEN
        self._brim = self._full - limit_per_minute
        self._level = self._full if empty_at is None else 0
        self._at = 0 if empty_at is None else math.ceil(empty_at * _TICKS)

    def available(self, now: float) -> float:
        """Tokens that could be taken now; negative while a debt is refilled."""
        self._refill(now)
        return self._level / _TOKEN

    def can_take(self, n: int, now: float) -> bool:
        """Are `n` tokens covered? More than `capacity` never are: whoever reserves caps what it asks for."""
        parts = n * _TOKEN
        if parts <= self._level:
            return True  # time only adds to the level
        self._refill(now)
        return parts <= self._level

    def take(self, n: int, now: float) -> bool:
        """Take `n` tokens if they are covered; False and nothing taken otherwise."""
        parts, level, at = n * _TOKEN, self._level, self._at
        ticks = now * _TICKS
        tick = int(ticks)
        if tick > at:  # as in `_refill`, which would be a call more
            level += (tick - at) * self.capacity
            if level <= self._brim:
                self._at = tick
            else:
                self._at = tick if tick == ticks else tick + 1
                level = level if level < self._full else self._full  # noqa: FURB136 - a call more
        if parts > level:
            self._level = level
            return False
        self._level = level - parts
        return True

    def settle(self, reserved: int, used: int, now: float) -> None:
        """Replace a reservation by the true usage: the rest comes back (up to `capacity`), an excess is owed.

        A debt makes the level negative, and nothing is admitted until it is refilled.
        """
        if reserved >= used:  # what comes in and what comes back have the same brim: the former can be counted later
            level, full = self._level + (reserved - used) * _TOKEN, self._full
            self._level = level if level < full else full  # noqa: FURB136 - a call more
        else:
            self._level = self._refill(now) + (reserved - used) * _TOKEN

    def forgive(self, now: float) -> None:
        """What is owed need not be refilled: it goes on from nothing."""
        self._refill(now)
        self._level = max(self._level, 0)

    def resize(self, limit_per_minute: int, now: float) -> None:
        """Go on with another limit: what is left stays, up to the new capacity. A debt stays a debt."""
        self._refill(now)
        self.capacity = limit_per_minute
        self._full = limit_per_minute * _TOKEN
        self._brim = self._full - limit_per_minute
        if self._level > self._brim:
            self._cap(now)

    def let_go(self) -> None:
        """Nobody will take from it, unless it is resized."""

    def is_full(self, now: float) -> bool:
        """True when nothing has been taken that is not refilled."""
        self._refill(now)
        return self._level >= self._full

    def ready_at(self, n: int, now: float) -> float:
        """The earliest time at which `n` tokens (capped to `capacity`) are covered if nobody else takes any.

        `now` when they are covered already; never, infinity, where nothing is refilled.
        """
        self._refill(now)
        if not self.capacity:
            return math.inf
        missing = min(n, self.capacity) * _TOKEN - self._level
        if missing <= 0:
            return now
        target = self._at - (-missing // self.capacity)
        ready = target / _TICKS
        # The division rounds to nearest: a float below the target would be a promise not kept.
        return ready if ready * _TICKS >= target else math.nextafter(ready, math.inf)

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level / _TOKEN:.3f} of {self.capacity}>"

    def _refill(self, now: float) -> int:
        """Count what came since the last time; the level."""
        ticks = now * _TICKS
        tick = int(ticks)
        at = self._at
        if tick <= at:
            return self._level
        level = self._level + (tick - at) * self.capacity
        if level <= self._brim:
            self._at, self._level = tick, level
            return level
        # As in `_cap`.
        self._at = tick if tick == ticks else tick + 1
        full = self._full
        self._level = level = level if level < full else full  # noqa: FURB136 - a call more
        return level

    def _cap(self, now: float) -> None:
        """The level is above the brim."""
        # What the rest of this tick brings would run over: begin to count with the next one. Had it been counted
        # from the tick's beginning, the span that starts now could get a full bucket and up to a tick too much.
        next_tick = math.ceil(now * _TICKS)
        self._at = max(self._at, next_tick)
        self._level = min(self._level, self._full)


class Buckets(Protocol):
    """Where the buckets of limits come from that are shared otherwise than by parts."""

    def requests(self, limit_per_minute: int) -> TokenBucket: ...

    def tokens(self, limit_per_minute: int) -> TokenBucket: ...


def resized(
    bucket: TokenBucket | None,
    limit: int | None,
    now: float,
    share: Share = WHOLE,
    make: Callable[[int], TokenBucket] | None = None,
) -> TokenBucket | None:
    """The bucket of our share of a limit per minute that was another one, or none, before.

    It is the same object where there was one. `make` is for one that knows by itself what is ours of the limit.
    """
    if limit is None:
        if bucket is not None:
            bucket.let_go()
        return None
    if make is not None:
        if bucket is None:
            return make(limit)
        bucket.resize(limit, now)
        return bucket
    limit_per_minute = share.part(limit)
    if bucket is None:
        return TokenBucket(limit_per_minute, empty_at=now if share.late else None)
    bucket.resize(limit_per_minute, now)
    return bucket
