"""The weight of recent failures in orderings.

The latency average sees successes only, so a provider that fails at once would keep looking as fast as it was, or as
idle as it is. Each failure therefore adds seconds that decay by half every `HALF_LIFE` seconds.
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

    __slots__ = ("at", "level")

    def __init__(self) -> None:
        self.level = 0.0
        self.at = 0.0

    def failed(self, now: float) -> None:
        """A request failed: `PER_FAILURE` seconds more, `MOST` in all."""
        self.level = min(self.value(now) + PER_FAILURE, MOST)
        self.at = now

    def value(self, now: float) -> float:
        """Seconds to add to an ordering now."""
        return decayed(self.level, self.at, now)

    def reset(self) -> None:
        self.level = 0.0

    def __repr__(self) -> str:
        return f"<Penalty {self.level:.3f} s at {self.at}>"
