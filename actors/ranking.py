"""Two structures for choosing among many that change one at a time: the smallest by a key, and one drawn at random.

Members are small integers, places in a list of somebody else's.
"""

from __future__ import annotations

import random
from heapq import heapify, heappop, heappush
from typing import Final

_SPARE: Final = 64

Key = tuple[float, ...]


class Ranking:
    """Who has the smallest key. Every step is O(log n), spread over many.

    A heap whose entries count only as long as they are what their member has now: the others are dropped when they come
    to the top, or when they are most of it. No two members may have the same key: let it end with the member's place.
    """

    __slots__ = ("_heap", "_keys")

    def __init__(self) -> None:
        self._heap: list[tuple[Key, int]] = []
        self._keys: dict[int, Key] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, member: int) -> bool:
        return member in self._keys

    def put(self, member: int, key: Key) -> None:
        """`member` has this key from now on."""
        keys, heap = self._keys, self._heap
        if keys.get(member) == key:
            return
        keys[member] = key
        heappush(heap, (key, member))
        if len(heap) > 2 * len(keys) + _SPARE:
            heap[:] = [(key, member) for member, key in keys.items()]
            heapify(heap)

    def drop(self, member: int) -> None:
        """It is no member any more, if it was one."""
        self._keys.pop(member, None)

    def first(self) -> tuple[Key, int] | None:
        """The smallest key and whose it is; None without members."""
        heap, keys = self._heap, self._keys
        while heap:
            key, member = top = heap[0]
            if keys.get(member) == key:
                return top
            heappop(heap)
        return None


class Roster:
    """Members in no order. Every step is O(1)."""

    __slots__ = ("_at", "_members")

    def __init__(self) -> None:
        self._members: list[int] = []
        self._at: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: int) -> None:
        if member not in self._at:
            self._at[member] = len(self._members)
            self._members.append(member)

    def drop(self, member: int) -> None:
        at = self._at.pop(member, None)
        if at is not None:
            last = self._members.pop()
            if last != member:
                self._members[at] = last
                self._at[last] = at

    def draw(self, rng: random.Random) -> int:
        """One of them, each with the same probability. There must be one."""
        return self._members[int(rng.random() * len(self._members))]

    def draw_two(self, rng: random.Random) -> tuple[int, int]:
        """Two different ones. There must be two."""
        n = len(self._members)
        i, j = int(rng.random() * n), int(rng.random() * (n - 1))
        return self._members[i], self._members[j + (j >= i)]
