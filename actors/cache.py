"""What was answered before, within bounds of memory and time. Pure: the time is passed in.

The memory for answers still in the making is taken from the same bound, so that what is kept and what is being
recorded together never exceed it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

import attrs
import msgspec

ONE_PART: int = 8  # of the bound, which one answer takes at most
IN_THE_MAKING: int = 2  # of the bound, which all answers in the making take at most
OVERHEAD: int = 1024  # bytes counted for an answer besides its own: its key, its places in the tables, its objects

Item = TypeVar("Item")


@attrs.define(eq=False)
class Tally:
    """What came of it so far. `evicted` made room for others, `expired` were too old, `too_large` never were kept."""

    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    followed: int = 0
    evicted: int = 0
    expired: int = 0
    too_large: int = 0


class _Place(msgspec.Struct, Generic[Item], frozen=True, gc=False):
    item: Item
    size: int
    until: float


@attrs.define(eq=False)
class Cache(Generic[Item]):
    """Items by key: each for `ttl` seconds, all of them in at most `max_bytes`; what was asked for longest ago goes.

    `size` are the bytes of what is kept, `making` those promised to what is not complete. What cannot fit never makes
    another one go.
    """

    ttl: float
    max_bytes: int
    tally: Tally = attrs.field(factory=Tally)
    size: int = 0
    making: int = 0
    _places: OrderedDict[bytes, _Place[Item]] = attrs.field(  # by when asked for
        factory=OrderedDict[bytes, _Place[Item]], repr=False
    )
    _ages: dict[bytes, None] = attrs.field(factory=dict[bytes, None], repr=False)  # by when put there

    def __len__(self) -> int:
        return len(self._places)

    @property
    def largest(self) -> int:
        """Bytes that one item may have, `OVERHEAD` not counted."""
        return self.max_bytes // ONE_PART - OVERHEAD

    def find(self, key: bytes, now: float) -> Item | None:
        """What was put there under `key`, less than `ttl` seconds ago."""
        place = self._places.get(key)
        if place is None:
            return None
        if now >= place.until:
            self._drop(key)
            self.tally.expired += 1
            return None
        self._places.move_to_end(key)
        return place.item

    def put(self, key: bytes, item: Item, size: int, now: float) -> bool:
        """Keep `item`, of `size` bytes, in the place of what had its key. False: it is too large."""
        if size > self.largest:
            self.tally.too_large += 1
            return False
        if key in self._places:
            self._drop(key)
        self._make_room(size + OVERHEAD, now)
        self._places[key] = _Place(item, size + OVERHEAD, now + self.ttl)
        self._ages[key] = None
        self.size += size + OVERHEAD
        return True

    def promise(self, size: int, now: float) -> bool:
        """Hold `size` more bytes for an item in the making, until `give_back`. False: too much is in the making."""
        if self.making + size > self.max_bytes // IN_THE_MAKING:
            return False
        self._make_room(size, now)
        self.making += size
        return True

    def give_back(self, size: int) -> None:
        """The item in the making that `size` bytes were promised to is complete, or given up."""
        self.making -= size

    def _make_room(self, size: int, now: float) -> None:
        """There is always some: one item and all those in the making are but parts of the bound."""
        most = self.max_bytes - self.making - size
        while self._ages and now >= self._places[oldest := next(iter(self._ages))].until:
            self._drop(oldest)
            self.tally.expired += 1
        while self.size > most:
            self._drop(next(iter(self._places)))
            self.tally.evicted += 1

    def _drop(self, key: bytes) -> None:
        self.size -= self._places.pop(key).size
        del self._ages[key]
