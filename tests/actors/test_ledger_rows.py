"""A record as rows: nothing made up, nothing lost, nothing that a database would choke on."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, select

from infermux.actors.identity import Identity
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Ending, Record, Tried
from infermux.database import rows
from infermux.database.place import Place
from infermux.database.rows import LARGEST_NUMBER, Entry, write_entries
from infermux.database.store import Store
from infermux.database.tables import ATTEMPTS, METADATA, REQUESTS, TAGS
from infermux.errors import Fault
from infermux.providers.interface import Usage
from tests._properties import examples

USAGE = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=30, reasoning_tokens=5, cache_write_tokens=7)
FAILED = Tried(provider="one", model="m", started=0.0, ended=0.4, outcome="connect_error")
OK = Tried(provider="two", model="m-2", started=0.4, ended=1.5, first_token=0.7, status=200, usage=USAGE, cost=0.25)
WHOLE = Record(
    id="req-1",
    at=1_767_225_599.5,
    who=Identity(caller="team-a", key="k-1", tags={"app": "chat", "env": "test"}),
    endpoint="/v1/chat/completions",
    stream=True,
    requested="smart",
    group="fast",
    strategy="priority",
    provider="two",
    model="m-2",
    attempts=(FAILED, OK),
    rescues=1,
    usage=USAGE,
    cost=0.25,
    latency=1.5,
    first_token=0.7,
    waited=0.1,
    overhead=0.01,
    cache="miss",
)


def kept(*entries: Entry) -> tuple[list[Any], list[Any], list[Any]]:
    """What the tables have after these were written twice."""
    store = Store(Place.of("sqlite://"))
    assert [store.write(lambda session: write_entries(session, entries)) for _ in range(2)] == [0, 0]

    def found(table: Table) -> list[Any]:
        return store.ask(lambda connection: [dict(row) for row in connection.execute(select(table)).mappings()])

    return found(REQUESTS), found(ATTEMPTS), found(TAGS)


def said(record: Record) -> dict[str, Any]:
    """Its row, by column."""
    return dict(zip(rows.REQUESTS.names, entry_of(1, record).request, strict=True))


@pytest.mark.parametrize("columns", [rows.REQUESTS, rows.ATTEMPTS, rows.TAGS], ids=lambda columns: columns.table)
def test_rows_have_every_column_of_their_table(columns: rows.Columns) -> None:
    assert set(columns.names) == set(METADATA.tables[columns.table].columns.keys())
    assert len(columns.names) * rows.AT_ONCE <= 999


@pytest.mark.parametrize("count", [1, 31, 32, 33, 127])
def test_any_number_of_rows_is_written(count: int) -> None:
    found, _, tags = kept(*(entry_of(seq, WHOLE) for seq in range(count)))
    assert ([row["seq"] for row in found], len(tags)) == (list(range(count)), 2 * count)


def test_everything_a_record_says_is_in_the_tables_once() -> None:
    [request], attempts, tags = kept(entry_of(7, WHOLE))
    tokens = {"prompt_tokens": 100, "cached_tokens": 30, "cache_write_tokens": 7, "completion_tokens": 20}
    tokens |= {"reasoning_tokens": 5, "estimated": False}
    assert request == {
        "seq": 7, "id": "req-1", "at": 1_767_225_599.5, "day": "2025-12-31", "caller": "team-a", "key": "k-1",
        "endpoint": "/v1/chat/completions", "stream": True, "requested": "smart", "route_group": "fast",
        "strategy": "priority", "provider": "two", "model": "m-2", "attempts": 2, "rescues": 1, "outcome": "ok",
        "status": 200, "code": "", "fault": "", "cache": "miss", "latency": 1.5, "first_token": 0.7, "waited": 0.1,
        "overhead": 0.01, "cost": 0.25, **tokens,
    }  # fmt: skip
    nothing = dict.fromkeys(tokens)
    assert attempts == [
        {
            "seq": 7, "number": 1, "provider": "one", "model": "m", "outcome": "connect_error", "status": None,
            "started": 0.0, "ended": 0.4, "first_token": None, "cost": 0.0, **nothing,
        },
        {
            "seq": 7, "number": 2, "provider": "two", "model": "m-2", "outcome": "ok", "status": 200,
            "started": 0.4, "ended": 1.5, "first_token": 0.7, "cost": 0.25, **tokens,
        },
    ]  # fmt: skip
    assert tags == [{"seq": 7, "name": "app", "value": "chat"}, {"seq": 7, "name": "env", "value": "test"}]


def test_one_attempt_needs_no_row_of_its_own() -> None:
    assert kept(entry_of(1, Record(id="r", at=0.0, provider="two", model="m-2", attempts=(OK,))))[1] == []


def test_one_that_was_not_the_answer_does() -> None:
    """Else nobody knew whose its money is."""
    [row] = kept(entry_of(1, Record(id="r", at=0.0, ending=Ending.LEFT, attempts=(OK,))))[1]
    assert (row["provider"], row["model"], row["cost"]) == ("two", "m-2", 0.25)


def test_an_unknown_cost_is_null_and_no_cost_is_nothing() -> None:
    def cost(record: Record) -> float | None:
        found: float | None = said(record)["cost"]
        return found

    assert cost(Record(id="unpriced", at=0.0, attempts=(OK,), usage=USAGE)) is None
    assert cost(Record(id="without usage", at=0.0, attempts=(OK,))) is None
    refused = Record(id="r", at=0.0, ending=Ending.REFUSED, status=404, code="model_not_found", fault=Fault.CALLER)
    assert cost(refused) == 0.0
    assert (said(refused)["outcome"], said(refused)["fault"]) == ("refused", "caller")


def test_a_row_no_database_takes_keeps_only_itself_out() -> None:
    entries = [entry_of(seq, Record(id=f"r{seq}", at=0.0)) for seq in range(100)]
    entries[41] = attrs.evolve(entries[41], request=(41, None, *entries[41].request[2:]))
    store = Store(Place.of("sqlite://"))
    assert store.write(lambda session: write_entries(session, entries)) == 1
    ids = [found for [found] in store.read(lambda session: session.rows("SELECT id FROM requests"))]
    assert ids == [f"r{seq}" for seq in range(100) if seq != 41]


@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=3), st.integers(min_value=0))
@settings(max_examples=examples(25), deadline=None)
def test_whatever_callers_and_providers_say_has_its_place(text: str, tags: dict[str, str], number: int) -> None:
    record = Record(
        id=text,
        at=0.0,
        who=Identity(caller=text + "\ud800", tags=tags),
        code="\0" + text * 100,
        usage=Usage(prompt_tokens=number, completion_tokens=2**70),
    )
    [request], _, _ = kept(entry_of(1, record))
    assert len(request["code"]) <= 512
    assert request["completion_tokens"] == LARGEST_NUMBER
    assert request["prompt_tokens"] == min(number, LARGEST_NUMBER)
