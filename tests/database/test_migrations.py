"""The schema's versions: every way there leads to the same tables, and nobody goes back."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import MetaData
from sqlalchemy.engine import Connection

from infermux.database.migrations import NEWEST, STEPS, Step, migrate
from infermux.database.place import Place
from infermux.database.session import Session
from infermux.database.store import Store
from infermux.database.tables import METADATA
from infermux.errors import SchemaTooNew


def place_in(folder: Path) -> Place:
    return Place.of(f"sqlite:///{folder}/ledger.db")


def version(session: Session) -> int:
    [[found]] = session.rows("SELECT max(version) FROM schema_version")
    return int(found)


def test_the_steps_are_numbered_from_one() -> None:
    assert [step.version for step in STEPS] == list(range(1, NEWEST + 1))


def test_after_the_last_step_the_schema_is_what_the_tables_say() -> None:
    def columns(metadata: MetaData) -> dict[str, dict[str, tuple[bool, bool]]]:
        """Whether each must be filled, and whether it is part of the key: that is, as SQLite tells it."""

        return {
            table.name: {
                column.name: (not (column.nullable or column.primary_key), column.primary_key)
                for column in table.columns
            }
            for table in metadata.tables.values()
        }

    def look(connection: Connection) -> MetaData:
        found = MetaData()
        found.reflect(connection)
        return found

    assert columns(Store(Place.of("sqlite://")).ask(look)) == columns(METADATA)


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    store = Store(place)
    store.write(lambda session: session.change("INSERT INTO schema_version VALUES (99, 'from the future', 0)"))
    store.close()
    with pytest.raises(SchemaTooNew, match=f"schema version 99.*up to {NEWEST}.*Upgrade infermux"):
        store.read(version)


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    store = Store(place)
    bad = (*STEPS, Step(NEWEST + 1, "half", ("CREATE TABLE half (n INTEGER)", "CREATE TABLE half (n INTEGER)")))
    with pytest.raises(Exception, match="already exists"):
        store.write(lambda session: migrate(session, place, bad))
    assert store.read(version) == NEWEST
    assert not store.read(lambda session: session.rows("SELECT name FROM sqlite_master WHERE name = 'half'"))


def test_a_database_of_an_older_version_keeps_its_rows(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    store = Store(place)
    more = (*STEPS, Step(NEWEST + 1, "more", ("CREATE TABLE more (n {int64})", "INSERT INTO more VALUES (1)")))
    store.write(lambda session: migrate(session, place, more))
    store.write(lambda session: migrate(session, place, more))
    assert store.read(lambda session: session.rows("SELECT n FROM more")) == [(1,)]


def test_many_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    place, found = place_in(tmp_path), list[int]()
    ready = threading.Barrier(8)

    def start() -> None:
        ready.wait()
        store = Store(place)
        found.append(store.read(version))
        store.close()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [NEWEST] * 8


@pytest.mark.slow
def test_two_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom infermux.database.place import Place\nfrom infermux.database.store import Store\n"
        "print('ready', flush=True)\ninput()\n"
        "print(Store(Place.of(sys.argv[1])).write(lambda s: s.rows('SELECT count(*) FROM schema_version'))[0][0])"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/ledger.db"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=20)[0] for process in both] == [f"{NEWEST}\n"] * 2
