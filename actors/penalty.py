"""The weight of recent failures in orderings.

The latency average sees successes only, so a provider that fails at once would keep looking as fast as it was, or as
idle as it is. Failures therefore count as seconds, which decay by half every `HALF_LIFE` seconds.

How many depends on what succeeded meanwhile. With F failures and S successes, each decayed to now, they are
`PER_FAILURE * F * F / (F + S) / (S + 1)`: all of `PER_FAILURE` for each failure where nothing succeeds, 5 s where half
of many requests fail, some milliseconds where 2 % do. Were it the failures alone that count, the provider that serves
most would have most of them, and a strategy that prefers the fastest would leave it for slower ones that fail as often.
"""

from __future__ import annotations

import math

HALF_LIFE = 10.0
PER_FAILURE = 10.0
MOST = 300.0


def decayed(value: float, at: float, now: float) -> float:
    """What is left at `now` of a penalty that was `value` seconds at `at`."""
    if not value or now <= at:
        return value
    return value * math.exp2((at - now) / HALF_LIFE)


class Penalty:
    """One provider's penalty. `level` (seconds) as of `at`: what a standing publishes, for `decayed` to read later."""

    __slots__ = ("_failures", "_fresh", "_successes", "at", "level")

    def __init__(self) -> None:
        self.level = 0.0
        self.at = 0.0
        self._failures = 0.0
        self._successes = 0.0
        self._fresh = 0  # successes since `at`, decayed with the next failure: each costs next to nothing

    def succeeded(self) -> None:
        """A request succeeded."""
        self._fresh += 1

    def failed(self, now: float) -> None:
        """A request failed: the level is what this and all before it weigh now, at most `MOST`."""
        halvings = max(now - self.at, 0.0) / HALF_LIFE
        left = math.exp2(-halvings)
        # The mean of what is left of something that came evenly over the time since then.
        mean = (1.0 - left) / (halvings * math.log(2)) if halvings else 1.0
        failures = self._failures = self._failures * left + 1.0
        successes = self._successes = self._successes * left + self._fresh * mean
        self._fresh = 0
        self.level = min(PER_FAILURE * failures * failures / (failures + successes) / (successes + 1.0), MOST)
        self.at = now

    def value(self, now: float) -> float:
        """Seconds to add to an ordering now."""
        return decayed(self.level, self.at, now)

    def reset(self) -> None:
        self.level = self._failures = self._successes = 0.0
        self._fresh = 0

    def __repr__(self) -> str:
        return f"<Penalty {self.level:.3f} s at {self.at}>"
