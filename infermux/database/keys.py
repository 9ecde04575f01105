"""The keys in the database: read and changed by whoever may block (`KeyFile`), or by trio tasks (`DatabaseKeys`).

Rows are never taken out: a revoked key goes on naming the rows of the ledger. Each change adds one to its row's
`revision`, so the sum over all rows is another number after every committed change, in whatever order they commit;
the newest of some number or time would miss those that commit late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import msgspec

from infermux.errors import Conflict
from infermux.keys import Allowance, StoredKey

from .stamp import Seen, Stamp
from .store import Store
from .worker import Database

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

T = TypeVar("T")


def revision(connection: Connection) -> int:
    """Another number after each change."""
    from sqlalchemy import func, select

    from .tables import API_KEYS

    return int(connection.execute(select(func.coalesce(func.sum(API_KEYS.c.revision), 0))).scalar_one())


def load(connection: Connection) -> list[StoredKey]:
    """All keys, the oldest first."""
    from sqlalchemy import select

    from .tables import API_KEYS

    rows = connection.execute(select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id)).mappings()
    return [_key(cast("Mapping[str, Any]", row)) for row in rows]


def add(connection: Connection, key: StoredKey) -> None:
    """Keep a new key. Conflict: one that is not revoked has its name, or its name is the id of another one."""
    from sqlalchemy import insert, select
    from sqlalchemy.exc import IntegrityError

    from .tables import API_KEYS

    if connection.execute(select(API_KEYS.c.id).where(API_KEYS.c.id == key.name)).first() is not None:
        raise Conflict(f"{key.name!r} is the id of another key: choose another name")
    try:
        connection.execute(insert(API_KEYS).values(_row(key)))
    except IntegrityError:
        raise Conflict(
            f"there is a key named {key.name!r} already: revoke it, rotate it, or choose another name"
        ) from None


def replace(connection: Connection, key: StoredKey) -> StoredKey:
    """Keep `key` in the place of the one with its id and revision; see `KeyStore.replace`."""
    from sqlalchemy import update

    from .tables import API_KEYS

    changed = attrs.evolve(key, revision=key.revision + 1)
    same = (API_KEYS.c.id == key.id) & (API_KEYS.c.revision == key.revision)
    if connection.execute(update(API_KEYS).where(same).values(_row(changed))).rowcount != 1:
        raise Conflict(f"the key {key.name!r} was changed meanwhile; look at it again")
    return changed


def _row(key: StoredKey) -> dict[str, Any]:
    row = attrs.asdict(key, recurse=False)
    row["digest"] = key.digest.hex()
    row["old_digest"] = None if key.old_digest is None else key.old_digest.hex()
    row["allows"] = msgspec.json.encode(key.allows).decode()
    return row


def _key(row: Mapping[str, Any]) -> StoredKey:
    fields, old = dict(row), row["old_digest"]
    fields["digest"] = bytes.fromhex(row["digest"])
    fields["old_digest"] = None if old is None else bytes.fromhex(old)
    fields["allows"] = msgspec.json.decode(row["allows"], type=Allowance)
    return StoredKey(**fields)


@attrs.define(eq=False)
class DatabaseKeys:
    """The `KeyStore` of a running router. Raises DatabaseUnavailable from every call."""

    database: Database
    _seen: Seen = attrs.field(factory=Seen)

    async def revision(self) -> int:
        """A file that nobody has written to is not read again: it is asked every two seconds, for ever."""
        stamp = Stamp.of(self.database.place)
        found = self._seen.still(stamp)
        if found is None:
            found = await self.database.read(revision)
            self._seen.note(stamp, found)
        return found

    async def load(self) -> Sequence[StoredKey]:
        return await self.database.read(load)

    async def add(self, key: StoredKey) -> None:
        await self.database.write(lambda connection: add(connection, key))

    async def replace(self, key: StoredKey) -> StoredKey:
        return await self.database.write(lambda connection: replace(connection, key))


@attrs.frozen
class KeyFile:
    """The same for a command. Raises DatabaseUnavailable from every call."""

    store: Store

    def load(self) -> list[StoredKey]:
        return self.store.read(load)

    def add(self, key: StoredKey) -> None:
        self.store.write(lambda connection: add(connection, key))

    def change(self, change: Callable[[Sequence[StoredKey]], tuple[StoredKey, T]]) -> tuple[StoredKey, T]:
        """In one transaction: `change` is given all keys; returns one as it is to be, and what else to return."""

        def work(connection: Connection) -> tuple[StoredKey, T]:
            key, said = change(load(connection))
            return replace(connection, key), said

        return self.store.write(work)
