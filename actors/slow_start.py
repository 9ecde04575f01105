"""Coming back slowly: a provider that has just recovered gets few requests at first, then more.

After an outage everything that piled up would go to it at once and might push it over again. So at first one request
may be out, one more after each success (which doubles it per round trip, as TCP's slow start does, RFC 5681 section
3.1), and twice as many each second, so that long answers do not hold it up. At 64 it is over: at the latest after 6 s.

It is a preference, not a limit: a request that no other provider can take goes out all the same (see the router), so
that slow start turns nobody away.
"""

from __future__ import annotations

DOUBLES_EVERY = 1.0
ENOUGH = 64
_SLACK = 1e-6  # seconds: what is promised for a time must hold at that time, whatever floats make of it


class SlowStart:
    """One provider's ramp. Only requests that went out since it began count. Times are seconds on one clock."""

    __slots__ = ("_began", "_out", "_successes", "is_over")

    def __init__(self) -> None:
        self.is_over = True  # while nothing is held back nobody need ask, or tell
        self._began = 0.0
        self._out = 0
        self._successes = 0

    def begin(self, at: float) -> None:
        """The provider is, or will be, back at the time `at`. Begins anew where a ramp is under way."""
        self.is_over = False
        self._began = at
        self._out = self._successes = 0

    def stop(self) -> None:
        self.is_over = True

    def allowed(self, now: float) -> int | None:
        """How many requests may be out at once; None: as many as will."""
        if self.is_over:
            return None
        steps = max(0, int((now - self._began) / DOUBLES_EVERY + _SLACK))
        if steps < ENOUGH.bit_length():
            allowed = (1 + self._successes) << steps
            if allowed < ENOUGH:
                return allowed
        self.is_over = True
        return None

    def blocked_until(self, now: float) -> float:
        """0 when one more may go out, else the time from which one may, if none ends before."""
        allowed = self.allowed(now)
        if allowed is None or self._out < allowed:
            return 0.0
        steps = 0
        while (1 + self._successes) << steps <= self._out:
            steps += 1
        return self._began + steps * DOUBLES_EVERY

    def sent(self) -> None:
        """A request goes out."""
        if not self.is_over:
            self._out += 1

    def ended(self, sent_at: float, *, well: bool, now: float, badly: bool = False) -> None:
        """A request sent at `sent_at` has ended: `well`, `badly` (the ramp begins anew), or neither."""
        if self.is_over or sent_at < self._began:
            return
        self._out = max(0, self._out - 1)
        self._successes += well
        if badly:
            self.begin(now)

    def __repr__(self) -> str:
        return f"<SlowStart over={self.is_over} began={self._began} out={self._out} successes={self._successes}>"
