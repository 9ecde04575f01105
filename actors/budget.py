"""A bound on extra requests, as a share of the ordinary ones: pure, the time is an argument."""

from __future__ import annotations

import attrs

WINDOW = 10  # seconds, in slots of one second


@attrs.define
class Budget:
    """Over the last ten seconds at most `ratio` extra requests per ordinary one, and `per_second` a second always.

    So when all of a provider's requests fail, what is sent on top does not grow with the failures. The idea is that of
    Finagle's RetryBudget (https://finagle.github.io/blog/2016/02/08/retry-budgets/), which lets old deposits expire
    after ten seconds too.
    """

    ratio: float
    per_second: float
    _requests: list[int] = attrs.field(factory=lambda: [0] * WINDOW)
    _extras: list[int] = attrs.field(factory=lambda: [0] * WINDOW)
    _second: int = 0

    def note_request(self, now: float) -> None:
        """An ordinary request began."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        self._requests[second % WINDOW] += 1

    def take(self, now: float) -> bool:
        """Whether one more extra request may be made; it is counted if so."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        allowed = self.ratio * sum(self._requests) + self.per_second * WINDOW
        if sum(self._extras) + 1 > allowed:
            return False
        self._extras[second % WINDOW] += 1
        return True

    def _turn(self, second: int) -> None:
        """Forget the slots that are over."""
        for old in range(max(self._second + 1, second - WINDOW + 1), second + 1):
            self._requests[old % WINDOW] = self._extras[old % WINDOW] = 0
        self._second = second
