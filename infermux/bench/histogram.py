"""Times as a histogram: microseconds with a relative error below 1/256, in fixed memory.

The idea is HdrHistogram's: linear buckets inside each power of two. `c/histogram.h` has the same buckets, so what both
generators count can be added up.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

SUB_BITS = 8
SUB = 1 << SUB_BITS
POWERS = 32
LAST = (POWERS + 1) * SUB - 1


class Latencies(msgspec.Struct, frozen=True):
    """Microseconds that were counted. `buckets` are those that are not empty: number and count, by number."""

    count: int = 0
    sum: int = 0
    max: int = 0
    buckets: tuple[tuple[int, int], ...] = ()

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    @property
    def p50(self) -> float:
        return self.percentile(0.5)

    @property
    def p99(self) -> float:
        return self.percentile(0.99)

    @property
    def p999(self) -> float:
        return self.percentile(0.999)

    def percentile(self, share: float) -> float:
        """The middle of the bucket that holds it; never above the largest value. 0 when nothing was counted."""
        wanted, seen = int(share * self.count), 0
        for bucket, count in self.buckets:
            seen += count
            if seen > wanted or seen == self.count:
                return min(value_of(bucket), float(self.max))
        return 0.0


class Histogram:
    """What is being counted."""

    __slots__ = ("_buckets", "_most", "_sum")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._sum = 0
        self._most = 0

    def record(self, seconds: float) -> None:
        value = max(0, int(seconds * 1e6))
        bucket = bucket_of(value)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._sum += value
        self._most = max(self._most, value)

    def latencies(self) -> Latencies:
        buckets = tuple(sorted(self._buckets.items()))
        return Latencies(count=sum(self._buckets.values()), sum=self._sum, max=self._most, buckets=buckets)


def bucket_of(value: int) -> int:
    """The bucket of whole microseconds."""
    if value < SUB:
        return value
    shift = value.bit_length() - 1 - SUB_BITS
    return (shift + 1) * SUB + (value >> shift) - SUB if shift < POWERS else LAST


def value_of(bucket: int) -> float:
    """The middle of a bucket."""
    if bucket < SUB:
        return float(bucket)
    shift = bucket // SUB - 1
    return (bucket % SUB + SUB + 0.5) * (1 << shift)


def added_up(parts: Iterable[Latencies]) -> Latencies:
    """All of them as one."""
    found: dict[int, int] = {}
    total = most = 0
    for part in parts:
        total += part.sum
        most = max(most, part.max)
        for bucket, count in part.buckets:
            found[bucket] = found.get(bucket, 0) + count
    return Latencies(count=sum(found.values()), sum=total, max=most, buckets=tuple(sorted(found.items())))
