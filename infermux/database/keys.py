"""The keys in the database: read and changed by whoever may block (`KeyFile`), or by trio tasks (`DatabaseKeys`).

Rows are never taken out: a revoked key goes on naming the rows of the ledger. Each change adds one to its row's
`revision`, so the sum over all rows is another number after every committed change, in whatever order they commit;
the newest of some number or time would miss those that commit late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
import msgspec

from infermux.errors import Conflict
from infermux.keys import Allowance, StoredKey

from .session import Row, Session, Unfit
from .stamp import Seen, Stamp
from .store import Store
from .worker import Database

T = TypeVar("T")

_FIELDS: Final = tuple(field.name for field in attrs.fields(StoredKey))  # columns are called as they are
_EVERY: Final = f"SELECT {', '.join(_FIELDS)} FROM api_keys ORDER BY created_at, id"  # noqa: S608 - all of it is ours
_INSERT: Final = f"INSERT INTO api_keys ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608
_SET: Final = ", ".join(f"{name} = ?" for name in _FIELDS)
_UPDATE: Final = f"UPDATE api_keys SET {_SET} WHERE id = ? AND revision = ?"  # noqa: S608


def revision(session: Session) -> int:
    """Another number after each change."""
    return int(session.rows("SELECT coalesce(sum(revision), 0) FROM api_keys")[0][0])


def load(session: Session) -> list[StoredKey]:
    """All keys, the oldest first."""
    rows = session.rows(_EVERY)
    return [_key(dict(zip(_FIELDS, row, strict=True))) for row in rows]


def add(session: Session, key: StoredKey) -> None:
    """Keep a new key. Conflict: one that is not revoked has its name, or its name is the id of another one."""
    if session.rows("SELECT id FROM api_keys WHERE id = ?", (key.name,)):
        raise Conflict(f"{key.name!r} is the id of another key: choose another name")
    try:
        session.change(_INSERT, _row(key))
    except Unfit:
        raise Conflict(
            f"there is a key named {key.name!r} already: revoke it, rotate it, or choose another name"
        ) from None


def replace(session: Session, key: StoredKey) -> StoredKey:
    """Keep `key` in the place of the one with its id and revision; see `KeyStore.replace`."""
    changed = attrs.evolve(key, revision=key.revision + 1)
    if session.change(_UPDATE, (*_row(changed), key.id, key.revision)) != 1:
        raise Conflict(f"the key {key.name!r} was changed meanwhile; look at it again")
    return changed


def _row(key: StoredKey) -> Row:
    """In the order of `_FIELDS`."""
    row = attrs.asdict(key, recurse=False)
    row["digest"] = key.digest.hex()
    row["old_digest"] = None if key.old_digest is None else key.old_digest.hex()
    row["allows"] = msgspec.json.encode(key.allows).decode()
    return tuple(row.values())


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
        await self.database.write(lambda session: add(session, key))

    async def replace(self, key: StoredKey) -> StoredKey:
        return await self.database.write(lambda session: replace(session, key))


@attrs.frozen
class KeyFile:
    """The same for a command. Raises DatabaseUnavailable from every call."""

    store: Store

    def load(self) -> list[StoredKey]:
        return self.store.read(load)

    def add(self, key: StoredKey) -> None:
        self.store.write(lambda session: add(session, key))

    def change(self, change: Callable[[Sequence[StoredKey]], tuple[StoredKey, T]]) -> tuple[StoredKey, T]:
        """In one transaction: `change` is given all keys; returns one as it is to be, and what else to return."""

        def work(session: Session) -> tuple[StoredKey, T]:
            key, said = change(load(session))
            return replace(session, key), said

        return self.store.write(work)
