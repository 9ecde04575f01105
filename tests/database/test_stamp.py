"""When a database need not be read again: its files are what they were, and would not be, had somebody written."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from infermux.database.keys import DatabaseKeys, KeyFile
from infermux.database.place import Place
from infermux.database.stamp import SETTLES, Seen, Stamp
from infermux.database.store import Store
from infermux.database.worker import Database
from infermux.keys import Allowance, new_key


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "some.db").write_bytes(b"1")
    return Place.of(f"sqlite:///{tmp_path}/some.db")


def aged(place: Place, seconds: float = SETTLES + 1) -> None:
    assert place.file is not None
    at = time.time() - seconds
    for file in place.file.parent.glob(f"{place.file.name}*"):
        os.utime(file, (at, at))


def test_an_old_file_is_seen(place: Place) -> None:
    aged(place)
    seen = Seen()
    assert seen.still(Stamp.of(place)) is None
    seen.note(Stamp.of(place), 7)
    assert seen.still(Stamp.of(place)) == 7


def test_one_that_was_just_written_to_is_read_again(place: Place) -> None:
    seen = Seen()
    seen.note(Stamp.of(place), 7)
    assert seen.still(Stamp.of(place)) is None


@pytest.mark.parametrize("name", ["some.db", "some.db-wal"])
def test_a_change_of_either_file_is_a_change(place: Place, name: str) -> None:
    aged(place)
    seen = Seen()
    seen.note(Stamp.of(place), 7)
    assert place.file is not None
    (place.file.parent / name).write_bytes(b"2")
    assert seen.still(Stamp.of(place)) is None


def test_what_is_in_no_file_is_always_read() -> None:
    seen = Seen()
    for url in ("sqlite://", "postgresql://127.0.0.1/some"):
        assert Stamp.of(Place.of(url)) is None
    seen.note(None, 7)
    assert seen.still(None) is None


def test_a_file_that_is_not_there_is_always_read(tmp_path: Path) -> None:
    assert Stamp.of(Place.of(f"sqlite:///{tmp_path}/none.db")) is None


async def test_keys_are_read_again_only_where_somebody_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.of(f"sqlite:///{tmp_path}/keys.db")
    others, database = KeyFile(Store(place)), Database.at(place)
    others.add(new_key(name="a", allows=Allowance(), now=time.time())[1])
    keys, reads = DatabaseKeys(database), list[object]()
    read: Any = database.read

    async def counted(self: object, work: object) -> Any:
        reads.append(work)
        return await read(work)

    monkeypatch.setattr(Database, "read", counted)
    first = await keys.revision()
    aged(place)
    assert [await keys.revision(), await keys.revision(), await keys.revision()] == [first] * 3
    assert len(reads) == 2
    others.add(new_key(name="b", allows=Allowance(), now=time.time())[1])
    assert await keys.revision() != first
    others.store.close()
    await database.aclose()
