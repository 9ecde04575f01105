"""Keys in a database: kept, changed by several at once, and told apart from those who looked before."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from infermux.database.keys import DatabaseKeys, KeyFile, replace, revision
from infermux.database.place import Place
from infermux.database.session import Session
from infermux.database.store import Store
from infermux.database.worker import Database
from infermux.errors import Conflict, DatabaseUnavailable
from infermux.keys import Allowance, KeyBudget, StoredKey, new_key, pick

POSTGRESQL = (pytest.mark.slow, pytest.mark.needs("initdb", "pg_ctl", "psql"))
EVERYTHING = Allowance(
    models=("gpt-*", "ünicode"),
    groups=("fast",),
    requests_per_minute=60,
    tokens_per_minute=2**53,
    max_concurrent=4,
    budget=KeyBudget(limit_usd=0.1, period="week"),
    priority="batch",
    names_callers=True,
)


def file_in(folder: Path) -> KeyFile:
    return KeyFile(Store(Place.of(f"sqlite:///{folder}/keys.db")))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[*POSTGRESQL])])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Of an empty database of each kind."""
    return Place.of(f"sqlite:///{tmp_path}/keys.db" if request.param == "sqlite" else request.getfixturevalue("url"))


@pytest.fixture
def kept(place: Place) -> Generator[KeyFile]:
    made = KeyFile(Store(place))
    yield made
    made.store.close()


def made(name: str = "a", allows: Allowance = EVERYTHING, now: float = 1_800_000_000.125) -> StoredKey:
    return new_key(name=name, allows=allows, now=now)[1]


def revoked(found: Sequence[StoredKey]) -> tuple[StoredKey, None]:
    return attrs.evolve(pick("a", found), revoked_at=5.5), None


def test_what_is_kept_comes_back_as_it_was(kept: KeyFile, place: Place) -> None:
    keys = [
        made(),
        attrs.evolve(made("b", Allowance()), expires_at=1.5, old_digest=b"\0" * 32, old_until=2.5, revoked_at=3.5),
    ]
    for key in keys:
        kept.add(key)
    assert sorted(kept.load(), key=lambda key: key.name) == keys
    again = KeyFile(Store(place))
    assert again.load() == kept.load()
    again.store.close()


def test_a_name_is_taken_until_its_key_is_revoked(kept: KeyFile) -> None:
    kept.add(made())
    with pytest.raises(Conflict, match="a key named 'a' already"):
        kept.add(made())
    kept.change(revoked)
    kept.add(made())
    assert [key.name for key in kept.load()] == ["a", "a"]


def test_every_change_is_another_revision_in_whatever_order_they_commit(kept: KeyFile) -> None:
    seen = [kept.store.read(revision)]
    for name in ("a", "b", "c"):
        kept.add(made(name))
        seen.append(kept.store.read(revision))
    for name in ("c", "a"):
        kept.change(lambda found, name=name: (attrs.evolve(pick(name, found), expires_at=9.0), None))  # type: ignore[misc]
        seen.append(kept.store.read(revision))
    assert seen == sorted(set(seen))


def test_of_two_changes_of_the_same_key_the_later_is_refused(kept: KeyFile) -> None:
    key = made()
    kept.add(key)
    changed = kept.store.write(lambda session: replace(session, attrs.evolve(key, revoked_at=1.0)))
    assert changed.revision == 2
    with pytest.raises(Conflict, match="changed meanwhile"):
        kept.store.write(lambda session: replace(session, attrs.evolve(key, digest=b"\1" * 32)))
    assert kept.load() == [changed]


def test_a_change_that_fails_leaves_nothing(kept: KeyFile) -> None:
    kept.add(made())

    def fail(found: Sequence[StoredKey]) -> tuple[StoredKey, None]:
        raise Conflict("no")

    before = kept.load()
    with pytest.raises(Conflict):
        kept.change(fail)
    assert kept.load() == before


def test_only_the_hash_of_a_secret_is_in_the_database(tmp_path: Path) -> None:
    secret, key = new_key(name="a", allows=EVERYTHING, now=1.0)
    kept = file_in(tmp_path)
    kept.add(key)
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.digest.hex().encode() in everything
    assert secret.reveal().rpartition("_")[2].encode() not in everything


async def test_the_same_for_tasks(place: Place) -> None:
    database = Database.at(place)
    keys = DatabaseKeys(database)
    assert (await keys.revision(), await keys.load()) == (0, [])
    key = made()
    await keys.add(key)
    changed = await keys.replace(attrs.evolve(key, revoked_at=5.0))
    assert await keys.load() == [changed]
    assert await keys.revision() == 2
    await database.aclose()


async def test_a_database_that_cannot_be_had_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "keys.db").mkdir()
    keys = DatabaseKeys(Database.at(Place.of(f"sqlite:///{tmp_path}/keys.db")))
    with pytest.raises(DatabaseUnavailable):
        await keys.revision()
    with pytest.raises(DatabaseUnavailable):
        await keys.add(made())


def test_what_a_row_does_not_say_is_as_for_a_new_key(kept: KeyFile) -> None:
    kept.add(made(allows=Allowance()))

    def write(session: Session) -> None:
        session.change("UPDATE api_keys SET allows = '{\"max_concurrent\": 3}'")

    kept.store.write(write)
    assert kept.load()[0].allows == Allowance(max_concurrent=3)


def test_several_at_once_change_different_keys_and_lose_none(kept: KeyFile, place: Place) -> None:
    names = [f"key-{number}" for number in range(6)]
    for name in names:
        kept.add(made(name))

    def revoke(name: str) -> None:
        mine = KeyFile(Store(place))
        mine.change(lambda found: (attrs.evolve(pick(name, found), revoked_at=5.5), None))
        mine.store.close()

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(revoke, names))
    assert [(key.revoked_at, key.revision > 1) for key in kept.load()] == [(5.5, True)] * len(names)
