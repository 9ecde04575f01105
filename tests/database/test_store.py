"""The store: what is on disk, in whose hands, and what is said when it cannot be had."""

from __future__ import annotations

import logging
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from sqlalchemy.engine import Connection

from infermux.database import sqlite
from infermux.database.migrations import NEWEST, Step, migrate
from infermux.database.place import Place
from infermux.database.session import Session, Unfit
from infermux.database.sqlite import SqliteSession
from infermux.database.store import Store
from infermux.database.worker import Database
from infermux.errors import DatabaseUnavailable
from tests.database._hanging import closed_while_writing, reaches


def store_in(folder: Path) -> Store:
    return Store(Place.of(f"sqlite:///{folder}/ledger.db"))


def add(session: Session, seq: int = 1) -> None:
    assert session.change("INSERT INTO schema_version VALUES (?, '', 0)", (-seq,)) == 1


def added(session: Session) -> int:
    [[found]] = session.rows("SELECT count(*) FROM schema_version WHERE version < 0")
    return int(found)


def test_the_folder_and_the_file_are_for_their_owner_only(tmp_path: Path) -> None:
    store = store_in(tmp_path / "new")
    store.write(add)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()} == {0o600}


def test_work_that_raises_leaves_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    def fail(session: Session) -> None:
        add(session)
        raise LookupError

    with pytest.raises(LookupError):
        store.write(fail)
    assert store.read(added) == 0


def test_what_the_database_has_against_the_values_passes_as_it_is(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(add)
    with pytest.raises(Unfit):
        store.write(add)


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    def write_and_read_elsewhere(session: Session) -> int:
        add(session)
        return store.read(added)

    assert store.write(write_and_read_elsewhere) == 0
    assert store.read(added) == 1


def test_a_database_that_another_process_holds_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    store = store_in(tmp_path)
    store.write(add)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseUnavailable, match=r"ledger\.db: database is locked"):
        store.write(add)
    other.close()
    store.write(lambda session: add(session, 2))
    assert store.read(added) == 2


def test_a_removed_file_is_made_anew_instead_of_being_written_unseen(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(add)
    for file in tmp_path.iterdir():
        file.unlink()
    store.write(add)
    assert store_in(tmp_path).read(added) == 1


@pytest.mark.parametrize("stores", [1, 2])
def test_a_process_that_looks_and_leaves_takes_no_rows_with_it(tmp_path: Path, stores: int) -> None:
    # The last one to leave removes the log. Whether it is that, it sees by the others' locks on the file, of which a
    # process loses all when it closes the file once: fcntl(2).
    opened = [store_in(tmp_path) for _ in range(stores)]
    for seq, store in enumerate(opened, 1):
        store.write(partial(add, seq=seq))
    assert elsewhere(tmp_path) == stores
    for seq, store in enumerate(opened, 11):
        store.write(partial(add, seq=seq))
    assert elsewhere(tmp_path) == 2 * stores


def elsewhere(folder: Path) -> int:
    """What `added` finds, asked for by a process of its own."""
    question = "SELECT count(*) FROM schema_version WHERE version < 0"
    code = f"import sqlite3; c = sqlite3.connect('ledger.db'); print(*c.execute({question!r}).fetchone()); c.close()"
    run = [sys.executable, "-I", "-c", code]
    return int(subprocess.run(run, cwd=folder, check=True, timeout=60, stdout=subprocess.PIPE).stdout)


def test_a_full_disk_is_unavailable_and_the_file_stays_whole(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(add)

    def fill(session: Session) -> None:
        session.change("PRAGMA max_page_count = 1")  # as many as there are: no page more
        for seq in range(2, 10_000):
            add(session, seq)

    with pytest.raises(DatabaseUnavailable, match="full"):
        store.write(fill)
    assert store.read(added) == 1
    assert store.read(lambda session: session.rows("PRAGMA integrity_check")) == [("ok",)]


def test_a_schema_that_found_no_room_is_not_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def migrate_without_room(session: Session, place: Place) -> list[Step]:
        migrate(session, place)
        raise DatabaseUnavailable("full")

    with monkeypatch.context() as patch:
        patch.setattr("infermux.database.store.migrate", migrate_without_room)
        with pytest.raises(DatabaseUnavailable):
            store_in(tmp_path).write(add)
    assert "schema version" not in caplog.text
    store_in(tmp_path).write(add)
    assert caplog.text.count("schema version") == NEWEST


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"anything else" * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        store_in(tmp_path).read(added)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match=r"file/ledger\.db: (Not a directory|File exists)"):
        store_in(tmp_path / "file").write(add)


def test_who_only_reads_makes_no_file(tmp_path: Path) -> None:
    store = Store(Place.of(f"sqlite:///{tmp_path}/ledger.db"), create=False)
    with pytest.raises(DatabaseUnavailable, match="No such file"):
        store.read(added)
    assert not list(tmp_path.iterdir())


def test_a_closed_store_opens_again(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(add)
    store.close()
    store.close()
    assert store.read(added) == 1


def test_a_store_in_memory_keeps_what_it_has_between_uses() -> None:
    store = Store(Place.of("sqlite://"))
    store.write(add)
    assert store.read(added) == 1


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told() -> None:
    store = Store(Place.of("postgresql://somebody:hidden@127.0.0.1:1/ledger"))
    with pytest.raises(DatabaseUnavailable) as refused:
        store.read(added)
    assert "127.0.0.1" in refused.value.message
    assert "hidden" not in refused.value.message


def test_a_connection_that_is_in_use_when_the_store_is_closed_is_closed_after_it(tmp_path: Path) -> None:
    store = Store(Place.of(f"sqlite:///{tmp_path / 'ledger.db'}"))
    used: list[Any] = []

    def work(session: Session) -> None:
        used.append(cast(SqliteSession, session).connection)
        store.close()

    store.read(work)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used[0].execute("SELECT 1")


@pytest.mark.slow
def test_what_a_router_writes_and_reads_all_the_time_does_not_need_sqlalchemy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from infermux.database import budgets, keys, rows\n"
        "from infermux.database.place import Place\n"
        "from infermux.database.store import Store\n"
        "store = Store(Place.of(sys.argv[1]))\n"
        "store.write(lambda session: rows.write_entries(session, []))\n"
        "batch = budgets.Batch(1, 1, [budgets.Added('all', '', 'day', 0, 1, 1)])\n"
        "store.write(lambda session: budgets.add(session, batch))\n"
        "store.read(lambda session: budgets.look(session, 0.0))\n"
        "print(store.read(lambda session: (keys.load(session), keys.revision(session))))\n"
        "print(store.read(lambda session: budgets.load(session, [budgets.Term('all', 'day', 0)], 1.0)))\n"
        "print('sqlalchemy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/ledger.db"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == ["([], 0)", "[Spent(scope='all', name='', period='day', start=0, amount=1)]", "False"]


@pytest.mark.parametrize("where", ["sqlite:///{}/ledger.db", "sqlite://"])
def test_questions_over_sqlalchemy_see_what_was_written(tmp_path: Path, where: str) -> None:
    def asked(connection: Connection) -> Any:
        return connection.exec_driver_sql("SELECT count(*) FROM schema_version WHERE version < 0").scalar()

    store = Store(Place.of(where.format(tmp_path)))
    store.write(add)
    assert store.ask(asked) == 1
    with pytest.raises(DatabaseUnavailable, match="no such table"):
        store.ask(lambda connection: connection.exec_driver_sql("SELECT 1 FROM nowhere"))
    store.write(lambda session: add(session, 2))
    assert store.ask(asked) == 2
    store.close()


def test_a_part_that_fails_is_undone_and_the_rest_is_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    def work(session: Session) -> None:
        add(session, 1)
        with suppress(Unfit), session.part():
            add(session, 2)
            add(session, 1)
        with session.part():
            add(session, 3)

    store.write(work)
    assert store.read(lambda session: session.rows("SELECT version FROM schema_version WHERE version < 0")) == [
        (-3,),
        (-1,),
    ]


def test_after_its_end_a_thread_that_begins_late_opens_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    async def lives() -> None:
        database = Database(store)
        assert await database.read(added) == 0
        await database.aclose()

    trio.run(lives)
    for use in (store.read, store.write):  # as of a task that was cancelled before its thread had begun
        with pytest.raises(DatabaseUnavailable, match="it was closed"):
            use(added)
    assert not list(tmp_path.glob("*-wal")), "nobody has it open"


def test_a_thread_that_hangs_at_its_end_is_the_last_one_and_leaves_nothing_open(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    async def lives() -> None:
        database = Database(store)
        assert await database.read(added) == 0
        go_on = await closed_while_writing(database, add)
        for use in (store.read, store.write):  # as of a thread that begins late
            with pytest.raises(DatabaseUnavailable, match="it was closed"):
                use(added)
        go_on()
        await reaches(lambda: not list(tmp_path.glob("*-wal")))  # which the last connection to be closed removes

    trio.run(lives)
    assert store_in(tmp_path).read(added) == 1, "what it wrote is kept"
