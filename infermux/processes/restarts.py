"""When a process that ended is started again, and when it has ended too often. Pure: the time is passed in."""

from __future__ import annotations

from collections import deque

import attrs

from .spec import Spec


@attrs.define(eq=False)
class Restarts:
    """The exits of one process. It is forgiven when it was ready for as long as the crash loop's period.

    `looping`: it ended `most_exits` times within `period` seconds, and has not been forgiven since.
    """

    spec: Spec
    looping: bool = False
    exits: int = 0
    _recent: deque[float] = attrs.field(factory=deque[float])
    _in_a_row: int = 0

    def ended(self, now: float, ready_for: float) -> float:
        """Note an end after `ready_for` seconds of being ready; returns the seconds to the next start."""
        spec = self.spec
        self.exits += 1
        if ready_for >= spec.period:
            self.forgive()
        self._recent.append(now)
        while now - self._recent[0] > spec.period:
            self._recent.popleft()
        self._in_a_row += 1
        if len(self._recent) >= spec.most_exits:
            self.looping = True
        if self.looping:
            return spec.retry_failed
        # The exponent is bounded: beyond it a float would overflow, long after the maximum is reached.
        return min(spec.backoff_max, spec.backoff_base * 2.0 ** min(self._in_a_row - 1, 64))

    def forgive(self) -> None:
        """Start over, as after a long time of being well."""
        self.looping = False
        self._in_a_row = 0
        self._recent.clear()
