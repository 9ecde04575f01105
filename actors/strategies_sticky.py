"""The sticky strategy: the same key goes to the same provider, as long as that one is not overloaded by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from .messages import Want
from .strategies_rotation import LeastBusy, share
from .strategy import Choice, Option

OVERLOAD = 1.25
_SPAN = 2.0**64
_MASK = 2**64 - 1


class Sticky:
    """Consistent hashing with bounded loads.

    Each provider draws a number from the hashes of the key and of its name: an exponential variate with its weight as
    rate, the lowest first. So a key's order never depends on who else is there: a provider that comes or goes moves
    only the keys it gains or loses (about 1/n of them), exactly by weight, with no ring to keep or rebuild; and it is
    the same in every worker and after every restart. (Thaler and Ravishankar, "Using name-based mappings to increase
    hit rates", 1998; weighted as in Schindelhauer and Schomaker, 2005.)

    The bound: a provider that would have more than 1.25 times its share of all requests in flight, rounded up, plus
    one, is passed over; those passed over come last, the least busy first (Mirrokni et al., "Consistent hashing with
    bounded loads", 2018). Without a key it is `least_busy`. The score is the drawn number.
    """

    def __init__(self) -> None:
        self._without_key = LeastBusy()

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        if not want.affinity:
            return self._without_key.order(options, want, now)
        requests, weights = 1, 0.0
        for option in options:
            requests += option.load
            weights += option.weight
        per_weight = OVERLOAD * requests / weights if weights > 0 else 0.0
        key = hash_of(want.affinity)
        within: list[tuple[float, int, Choice]] = []
        over: list[tuple[float, float, int, Choice]] = []
        for at, option in enumerate(options):
            drawn = drawn_by(key, option)
            choice = Choice(option, drawn)
            if room_for(option, per_weight):
                within.append((drawn, at, choice))
            else:
                over.append((share(option, now), drawn, at, choice))
        within.sort()
        over.sort()
        return [entry[-1] for entry in within] + [entry[-1] for entry in over]


def drawn_by(key: int, option: Option) -> float:
    """The number that a provider draws for a key, given as its hash."""
    return _exponential(_mix(key ^ _salt(option.provider)), option.weight)


def room_for(option: Option, per_weight: float) -> bool:
    """Whether one more fits: load + 1 <= ceil(1.25 * its share of all) + 1; `per_weight` is 1.25 * all / weights."""
    return option.load <= math.ceil(per_weight * option.weight)


def hash_of(data: bytes) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest())


@lru_cache(maxsize=4096)
def _salt(provider: str) -> int:
    return hash_of(provider.encode())


def _mix(number: int) -> int:
    """64 bits, each depending on all bits of `number`: the finalizer of splitmix64 (Steele, Lea and Flood, 2014)."""
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & _MASK
    return number ^ number >> 31


def _exponential(number: int, weight: float) -> float:
    """An exponential variate of rate `weight` from a 64-bit number."""
    return -math.log((number + 0.5) / _SPAN) / weight if weight > 0 else math.inf
