"""What budgets have spent, on disk: kept, and held against what the ledger says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from infermux.actors.identity import Identity
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Record, Tried
from infermux.database.budgets import KEPT, MOST_NANO, DatabaseBudgets, Spent, Term, load, save
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
        store.write(lambda connection: save(connection, rows))
    return store


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


def test_an_amount_only_grows() -> None:
    store = memory(Spent("caller", "a", "month", MONTH, 5))
    larger, smaller = (Spent("caller", "a", "month", MONTH, amount) for amount in (9, 3))
    store.write(lambda connection: save(connection, [larger]))
    store.write(lambda connection: save(connection, [smaller]))
    assert spent(store, ("caller", "month")) == {("caller", "a", "month"): 9}


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


@pytest.mark.slow
async def test_a_router_keeps_and_forgets(tmp_path: Path) -> None:
    database = Database.at(Place.of(f"sqlite:///{tmp_path}/ledger.db"))
    old = Spent("all", "", "month", MONTH - KEPT - DAY, 1)
    new = Spent("all", "", "month", MONTH, 2)
    await DatabaseBudgets(database).save([old])
    await DatabaseBudgets(database).save([new])
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


def test_the_largest_amount_can_be_kept() -> None:
    assert spent(memory(Spent("all", "", "month", MONTH, MOST_NANO)), ("all", "month")) == {
        ("all", "", "month"): MOST_NANO
    }
