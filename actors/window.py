"""What came of the requests of the last so many seconds: totals, failures, and the 95th percentile of latency.

The window slides in steps of a sixtieth of its length: an outcome is counted for at least 59/60 of the window and never
longer than the window. Memory is bounded by 60 sub-buckets of at most `len(_EDGES)` counters each, whatever the
traffic; recording is O(1) but for the step to a new sub-bucket, which is O(the latencies that expire).
"""

from __future__ import annotations

from bisect import bisect_right

import attrs

SLOTS = 60
GROWTH = 1.02
_SHORTEST = 0.001
_LONGEST = 7200.0


def _edges() -> tuple[float, ...]:
    """Lower edges of the latency bins: 0, then a millisecond, each `GROWTH` times the one before, up to two hours."""
    edges = [0.0]
    edge = _SHORTEST
    while edge <= _LONGEST:
        edges.append(edge)
        edge *= GROWTH
    return tuple(edges)


_EDGES = _edges()


@attrs.define(eq=False)
class _Slot:
    total: int = 0
    failures: int = 0
    latencies: dict[int, int] = attrs.field(factory=dict[int, int])


class Window:
    """A sliding window over `seconds`. Times may stand still; a time before the latest one counts as the latest."""

    __slots__ = ("_failures", "_latencies", "_measured", "_slot", "_slots", "_tick", "_total", "_width")

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a window must be longer than 0 seconds, not {seconds}")
        self._width = seconds / SLOTS
        self._slots = [_Slot() for _ in range(SLOTS)]
        self._tick = 0
        self._slot = self._slots[0]  # that of `_tick`
        self._total = 0
        self._failures = 0
        self._measured = 0
        self._latencies: dict[int, int] = {}

    def record(self, now: float, *, failed: bool, latency: float | None = None) -> None:
        """Count one outcome; `latency` in seconds where it says something about the provider's speed."""
        slot = self._at(now) if now // self._width > self._tick else self._slot
        slot.total += 1
        self._total += 1
        if failed:
            slot.failures += 1
            self._failures += 1
        if latency is not None:
            edge = bisect_right(_EDGES, latency, 1) - 1
            slot.latencies[edge] = slot.latencies.get(edge, 0) + 1
            self._latencies[edge] = self._latencies.get(edge, 0) + 1
            self._measured += 1

    def counts(self, now: float) -> tuple[int, int]:
        """All outcomes, and the failures among them."""
        self._at(now)
        return self._total, self._failures

    def total(self, now: float) -> int:
        return self.counts(now)[0]

    def failures(self, now: float) -> int:
        return self.counts(now)[1]

    @property
    def has_failures(self) -> bool:
        """Cheaper than `failures`: False only when there are none; those that have just left may still count."""
        return self._failures > 0

    def error_rate(self, now: float) -> float:
        """Failures over all outcomes, 0 when there were none. Correctly rounded: 3 of 10 is the float 0.3."""
        total, failures = self.counts(now)
        return failures / total if total else 0.0

    def p95(self, now: float) -> float | None:
        """The 95th percentile by nearest rank of the latencies recorded, in seconds; None without any.

        Never above the true one, and at most 2 % (`GROWTH`) below it from 1 ms to two hours; 0 for less than 1 ms.
        """
        self._at(now)
        if not self._measured:
            return None
        slower = self._measured - (95 * self._measured + 99) // 100
        for edge in sorted(self._latencies, reverse=True):
            slower -= self._latencies[edge]
            if slower < 0:
                return _EDGES[edge]
        raise AssertionError("the latency counters do not add up")  # pragma: no cover

    def clear(self) -> None:
        """Forget all outcomes."""
        for slot in self._slots:
            self._expire(slot)

    def __repr__(self) -> str:
        return f"<Window total={self._total} failures={self._failures} measured={self._measured}>"

    def _at(self, now: float) -> _Slot:
        """The sub-bucket of `now`, after those that have left the window were emptied."""
        tick = int(now // self._width)
        if tick > self._tick:
            for passed in range(max(self._tick + 1, tick - SLOTS + 1), tick + 1):
                self._expire(self._slots[passed % SLOTS])
            self._tick = tick
            self._slot = self._slots[tick % SLOTS]
        return self._slot

    def _expire(self, slot: _Slot) -> None:
        if not slot.total:
            return
        self._total -= slot.total
        self._failures -= slot.failures
        for edge, count in slot.latencies.items():
            self._measured -= count
            left = self._latencies[edge] - count
            if left:
                self._latencies[edge] = left
            else:
                del self._latencies[edge]
        slot.total = slot.failures = 0
        slot.latencies = {}
