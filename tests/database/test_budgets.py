"""What budgets have spent, on disk: kept, and held against what the ledger says."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infermux.actors.identity import Identity
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Record, Tried
from infermux.database.budgets import (
    AT_ONCE,
    KEPT,
    MOST_NANO,
    Added,
    Batch,
    DatabaseBudgets,
    Looked,
    Spent,
    Term,
    add,
    identity,
    load,
    look,
)
from infermux.database.place import Place
from infermux.database.rows import write_entries
from infermux.database.store import Store
from infermux.database.worker import Database

DAY = 86_400
MONTH = 19_997 * DAY  # 2024-10-01
NOW = MONTH + 3.5 * DAY
WHO = Identity(caller="team-a", key="k1", tags={"env": "prod", "x": "1"})


def memory(*rows: Spent) -> Store:
    store = Store(Place.of("sqlite://"))
    if rows:
        keep(store, *rows)
    return store


def keep(store: Store, *rows: Spent, writer: int = 1, number: int = 1) -> bool:
    """Add amounts that were spent, by a writer that knows of no others."""
    batch = Batch(writer, number, [Added(*row, row.amount) for row in rows])
    return store.write(lambda connection: add(connection, batch))


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.needs("initdb", "pg_ctl", "psql")]),
    ],
    name="place",
)
def _place(request: pytest.FixtureRequest) -> str:
    return "sqlite://" if request.param == "sqlite" else str(request.getfixturevalue("url"))


def note(store: Store, *records: Record) -> None:
    entries = [entry_of(seq, record) for seq, record in enumerate(records)]
    store.write(lambda connection: write_entries(connection, entries))


def asked(cost: float | None, at: float = NOW - 1, who: Identity = WHO) -> Record:
    tried = Tried(provider="p", model="m", started=0.0, ended=1.0, cost=cost)
    return Record(id="r", at=at, who=who, group="fast", attempts=(tried,), cost=cost)


def spent(store: Store, *terms: tuple[str, str]) -> dict[tuple[str, str, str], int]:
    asked_for = [Term(scope, period, MONTH) for scope, period in terms]
    rows = store.read(lambda connection: load(connection, asked_for, NOW))
    return {row[:3]: row.amount for row in rows}


def test_what_was_kept_is_there_again() -> None:
    store = memory(Spent("caller", "a", "month", MONTH, 5), Spent("all", "", "month", MONTH, 7))
    assert spent(store, ("caller", "month"), ("all", "month")) == {("caller", "a", "month"): 5, ("all", "", "month"): 7}


def test_other_periods_are_not() -> None:
    store = memory(Spent("caller", "a", "month", MONTH - 30 * DAY, 5), Spent("caller", "a", "day", MONTH, 5))
    assert spent(store, ("caller", "month")) == {}


def test_what_several_routers_spend_adds_up(place: str) -> None:
    store = Store(Place.of(place))
    for writer in (1, 2):
        assert keep(store, Spent("caller", "a", "month", MONTH, 5), Spent("all", "", "month", MONTH, 1), writer=writer)
    assert spent(store, ("caller", "month")) == {("caller", "a", "month"): 10}
    store.close()


def test_a_batch_that_is_sent_again_is_added_once(place: str) -> None:
    store, row = Store(Place.of(place)), Spent("caller", "a", "month", MONTH, 5)
    told = [keep(store, row), keep(store, row), keep(store, row, number=2), keep(store, row, number=1)]
    assert told == [True, False, True, False]
    assert spent(store, ("caller", "month")) == {("caller", "a", "month"): 10}
    store.close()


def test_what_the_database_has_lost_is_there_again_with_the_next_amount(place: str) -> None:
    store = Store(Place.of(place))
    for writer, more, least in ((1, 1, 100), (2, 2, 90), (3, 3, 3)):
        batch = Batch(writer, 7, [Added("caller", "a", "month", MONTH, more, least)])
        assert store.write(partial(add, batch=batch))
    assert spent(store, ("caller", "month")) == {("caller", "a", "month"): 105}
    store.close()


def test_a_batch_of_many_adds_to_each_what_is_its_own(place: str) -> None:
    store = Store(Place.of(place))
    rows = [Added("caller", f"team-{each} \\ \"'é", "month", MONTH, each, each) for each in range(2 * AT_ONCE + 3)]
    more = [Added("key", "new", "month", MONTH, 7, 9), Added("caller", rows[0].name, "day", MONTH, 1, 1)]
    for number, added in enumerate((rows, [*rows[3:], *more]), 1):
        assert store.write(partial(add, batch=Batch(1, number, added)))
    assert spent(store, ("caller", "month"), ("key", "month"), ("caller", "day")) == {
        **{row[:3]: row.more for row in rows[:3]},
        **{row[:3]: 2 * row.more for row in rows[3:]},
        **{row[:3]: row.least for row in more},
    }
    store.close()


def test_two_amounts_of_one_purse_in_a_batch_are_both_added(place: str) -> None:
    store, row = Store(Place.of(place)), Added("caller", "a", "month", MONTH, 5, 5)
    for number in (1, 2):
        store.write(partial(add, batch=Batch(1, number, [row, row._replace(more=2)])))
    assert spent(store, ("caller", "month")) == {("caller", "a", "month"): 14}
    store.close()


def test_a_look_tells_what_has_changed_since_the_one_before(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermux.database.budgets.OVERLAP", 0.0)
    store, today = Store(Place.of(place)), int(time.time())
    first, second = (Spent("caller", name, "month", today, 5) for name in "ab")
    keep(store, first, Spent("caller", "old", "month", MONTH, 5))
    time.sleep(0.01)  # SQLite's clock goes by milliseconds
    looked = store.read(lambda connection: look(connection, 0.0))
    assert looked.rows == [first]
    keep(store, second, writer=2)
    assert store.read(lambda connection: look(connection, looked.at)).rows == [second]
    store.close()


@pytest.mark.parametrize(
    ("scope", "names"),
    [("caller", ["team-a"]), ("key", ["k1"]), ("group", ["fast"]), ("tag", ["env=prod", "x=1"]), ("all", [""])],
)
def test_the_ledger_knows_what_was_not_kept(scope: str, names: list[str]) -> None:
    store = memory()
    note(store, asked(1.5), asked(0.25), asked(None))
    assert spent(store, (scope, "month")) == {(scope, name, "month"): 1_750_000_000 for name in names}


def test_of_what_was_kept_and_the_ledger_the_larger_counts() -> None:
    store = memory(Spent("caller", "team-a", "month", MONTH, 1_000), Spent("key", "k1", "month", MONTH, 9_000_000_000))
    note(store, asked(2.0))
    assert spent(store, ("caller", "month"), ("key", "month")) == {
        ("caller", "team-a", "month"): 2_000_000_000,
        ("key", "k1", "month"): 9_000_000_000,
    }


def test_of_the_ledger_only_the_running_period_counts_up_to_the_start() -> None:
    store = memory()
    note(store, asked(1.0, at=MONTH - 1), asked(2.0, at=MONTH), asked(4.0, at=NOW))
    assert spent(store, ("all", "month")) == {("all", "", "month"): 2_000_000_000}


def test_each_database_has_a_name_of_its_own_that_it_keeps() -> None:
    one, other = memory(), memory()
    names = [store.read(identity) for store in (one, other, one)]
    assert names[0] == names[2] != names[1]
    assert len(names[0]) == len(names[1]) == 32


@pytest.mark.slow
async def test_a_router_keeps_and_forgets(tmp_path: Path) -> None:
    database = Database.at(Place.of(f"sqlite:///{tmp_path}/ledger.db"))
    old = Spent("all", "", "month", MONTH - KEPT - DAY, 1)
    new = Spent("all", "", "month", MONTH, 2)
    for number, row in enumerate((old, new), 1):
        await DatabaseBudgets(database).add(Batch(1, number, [Added(*row, row.amount)]))
    assert list(await DatabaseBudgets(database).load([Term("all", "month", MONTH)], NOW)) == [new]
    assert list(await DatabaseBudgets(database).load([Term("all", "month", old.start)], NOW)) == []
    await database.aclose()


def test_rows_of_requests_that_cannot_have_cost_that_are_not_added_up() -> None:
    store = memory()
    note(store, asked(1.0), asked(1e24), asked(math.inf), asked(-5.0))
    assert spent(store, ("all", "month"), ("caller", "month")) == {
        ("all", "", "month"): 1_000_000_000,
        ("caller", "team-a", "month"): 1_000_000_000,
    }


def test_the_largest_amount_can_be_kept_and_stays(place: str) -> None:
    store, most = Store(Place.of(place)), Spent("all", "", "month", MONTH, MOST_NANO)
    for number in (1, 2):
        keep(store, most, number=number)
    assert spent(store, ("all", "month")) == {("all", "", "month"): MOST_NANO}
    store.close()


@pytest.mark.slow
async def test_who_adds_looks_ahead_once_and_only_for_the_next_one(tmp_path: Path) -> None:
    database, reads = Database.at(Place.of(f"sqlite:///{tmp_path}/ledger.db")), list[float]()
    read = database.store.read

    def counted(work: Any) -> Any:
        reads.append(time.monotonic())
        return read(work)

    database.store.read = counted  # type: ignore[method-assign]
    ours, theirs = DatabaseBudgets(database), Store(database.place)
    row = Added("all", "", "month", int(time.time()), 5, 5)
    seen = (await ours.look(0.0)).at
    await ours.add(Batch(1, 1, [row]))
    assert len(reads) == 1  # the last look was a moment ago
    ours._looked = -100.0  # pyright: ignore[reportPrivateUsage]
    theirs.write(lambda session: add(session, Batch(2, 1, [row])))
    await ours.add(Batch(1, 2, [row]))
    looked = await ours.look(seen)
    assert len(reads) == 2
    assert [each.amount for each in looked.rows] == [15]
    theirs.write(lambda session: add(session, Batch(2, 2, [row])))
    assert [each.amount for each in (await ours.look(looked.at)).rows] == [20]
    assert len(reads) == 3
    ours._looked = -100.0  # pyright: ignore[reportPrivateUsage]
    await ours.add(Batch(1, 3, [row]))
    assert [each.amount for each in (await ours.look(0.0)).rows] == [25]  # another question than the one looked at
    assert len(reads) == 5
    theirs.close()
    await database.aclose()


async def test_a_look_ahead_that_fails_undoes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DatabaseBudgets(Database.at(Place.of(f"sqlite:///{tmp_path}/ledger.db")))
    await store.look(0.0)
    store._looked = -100.0  # pyright: ignore[reportPrivateUsage]

    def broken(*_: object) -> Looked:
        raise ValueError("a bug")

    monkeypatch.setattr("infermux.database.budgets.look", broken)
    await store.add(Batch(1, 1, [Added("all", "", "month", MONTH, 5, 5)]))
    assert [each.amount for each in await store.load([Term("all", "month", MONTH)], NOW)] == [5]
    with pytest.raises(ValueError, match="a bug"):
        await store.look(0.0)
    await store.database.aclose()
