"""A store of keys in memory, which can be slow, away, and changed behind the actor's back."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from infermux.errors import Conflict, DatabaseUnavailable
from infermux.keys import Allowance, StoredKey, new_key

WALL = 1_800_000_000.0


class MemoryKeys:
    """See `actors.keys.KeyStore`. `looks` and `loads` count; while `away` it cannot be asked; it takes `seconds`."""

    def __init__(self) -> None:
        self.keys: dict[str, StoredKey] = {}
        self.looks = self.loads = 0
        self.away = False
        self.seconds = 0.0

    async def revision(self) -> int:
        self.looks += 1
        await self._answer()
        return sum(key.revision for key in self.keys.values())

    async def load(self) -> Sequence[StoredKey]:
        self.loads += 1
        found = list(self.keys.values())
        await self._answer()
        return found

    async def add(self, key: StoredKey) -> None:
        await self._answer()
        if any(each.name == key.name and each.revoked_at is None for each in self.keys.values()):
            raise Conflict(f"{key.name} is taken")
        self.keys[key.id] = key

    async def replace(self, key: StoredKey) -> StoredKey:
        await self._answer()
        if self.keys[key.id].revision != key.revision:
            raise Conflict("changed")
        changed = self.keys[key.id] = attrs.evolve(key, revision=key.revision + 1)
        return changed

    async def _answer(self) -> None:
        await trio.sleep(self.seconds)
        if self.away:
            raise DatabaseUnavailable("the database is away")

    # From elsewhere.

    def made(self, name: str = "team", *, expires_at: float | None = None, **allows: object) -> tuple[bytes, StoredKey]:
        """A key that is there, made by somebody else."""
        declared = Allowance(**allows)  # type: ignore[arg-type]
        text, stored = new_key(name=name, allows=declared, now=WALL, expires_at=expires_at)
        self.keys[stored.id] = stored
        return text.reveal().encode(), stored

    def changed(self, key: StoredKey, **changes: object) -> None:
        """What somebody else makes of a key."""
        there = self.keys[key.id]
        self.keys[key.id] = attrs.evolve(there, revision=there.revision + 1, **changes)  # type: ignore[arg-type]
