"""Costs, asked of the tables: whom they belong to, what is not known of them, and what is no question."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from infermux.actors.identity import Identity
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Ending, Record, Tried
from infermux.costs import WIDEST, CostQuery, Costs
from infermux.database import costs as module
from infermux.database.costs import costs
from infermux.database.place import Place
from infermux.database.rows import write_entries
from infermux.database.store import Store
from infermux.errors import InvalidRequest
from infermux.providers.interface import Usage

DAY = 86_400
NOW = 20_000.5 * DAY  # 2024-10-04, noon
USAGE = Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=40)


def tried(provider: str, cost: float | None, *, outcome: str = "ok") -> Tried:
    return Tried(provider=provider, model="m", started=0.0, ended=1.0, usage=USAGE, cost=cost, outcome=outcome)


def asked(caller: str, *attempts: Tried, at: float = NOW, **more: Any) -> Record:
    """A request that the last of its attempts answered."""
    prices = [each.cost for each in attempts]
    known = [price for price in prices if price is not None]
    usage = USAGE if len(attempts) == 1 else Usage(100 * len(attempts), 10 * len(attempts), 40 * len(attempts))
    tags = more.pop("tags", {})
    return Record(
        id="r",
        at=at,
        who=Identity(caller=caller, key=f"key-of-{caller}", tags=tags),
        provider=attempts[-1].provider,
        model=attempts[-1].model,
        attempts=attempts,
        usage=usage,
        cost=sum(known) if len(known) == len(prices) else None,
        **more,
    )


def answer(*records: Record, group_by: str = "", since: str = "", until: str = "") -> Costs:
    store = Store(Place.of("sqlite://"))
    entries = [entry_of(seq, record) for seq, record in enumerate(records)]
    store.write(lambda session: write_entries(session, entries)) if entries else None
    query = CostQuery.of(group_by=group_by, since=since, until=until, now=NOW)
    return store.ask(lambda connection: costs(connection, query))


def brief(found: Costs) -> list[tuple[Any, ...]]:
    return [(*line.group, line.requests, line.cost) for line in found.lines]


def test_the_dearest_come_first_and_the_total_is_of_all() -> None:
    records = [asked("a", tried("one", 0.25)), asked("b", tried("one", 1.0)), asked("a", tried("two", 0.5))]
    found = answer(*records, group_by="caller")
    assert brief(found) == [("b", 1, 1.0), ("a", 2, 0.75)]
    total = found.total
    assert (total.requests, total.cost, total.prompt_tokens, total.cached_tokens) == (3, 1.75, 300, 120)


@pytest.mark.parametrize(
    ("group_by", "first"),
    [
        ("caller,model", ("a", "m")),
        ("provider", ("one",)),
        ("group", ("fast",)),
        ("key", ("key-of-a",)),
        ("day", ("2024-10-04",)),
        ("tag", ("app=chat",)),
        ("tag:app,caller", ("chat", "a")),
        ("tag:none", ("",)),
        ("", ()),
    ],
)
def test_everything_that_can_be_grouped_by(group_by: str, first: tuple[str, ...]) -> None:
    found = answer(asked("a", tried("one", 1.0), group="fast", tags={"app": "chat"}), group_by=group_by)
    assert [line.group for line in found.lines] == [first]
    assert found.total.cost == 1.0


def test_what_a_failed_attempt_cost_belongs_to_its_provider() -> None:
    lost = tried("one", 0.5, outcome="cancelled")
    found = answer(asked("a", lost, tried("two", 1.0)), group_by="provider")
    assert brief(found) == [("two", 1, 1.0), ("one", 0, 0.5)]
    assert [line.prompt_tokens for line in found.lines] == [100, 100]
    assert (found.total.requests, found.total.cost, found.total.prompt_tokens) == (1, 1.5, 200)


def test_an_unknown_price_is_counted_and_never_nothing() -> None:
    found = answer(asked("a", tried("one", None)), asked("b", tried("one", None)), asked("b", tried("one", 1.0)),
                   group_by="caller")  # fmt: skip
    assert [(line.group, line.cost, line.unpriced) for line in found.lines] == [(("b",), 1.0, 1), (("a",), None, 1)]
    assert (found.total.cost, found.total.unpriced) == (1.0, 2)
    rows = list(found.as_table()[1])
    assert [row[-2:] for row in rows] == [("$1.0000", "1"), ("unknown", "1"), ("$1.0000", "2")]


def test_a_request_of_which_two_attempts_have_no_price_is_one() -> None:
    found = answer(asked("a", tried("one", None, outcome="cancelled"), tried("two", None)), group_by="caller")
    assert found.lines[0].unpriced == 1


def test_what_is_free_costs_nothing_and_that_is_known() -> None:
    refused = Record(id="r", at=NOW, ending=Ending.REFUSED, status=404)
    found = answer(asked("a", tried("ollama", 0.0)), refused)
    assert (found.total.cost, found.total.unpriced, found.total.requests, found.total.failed) == (0.0, 0, 2, 1)


def test_tokens_that_nobody_told_are_marked() -> None:
    guessed = Record(
        id="r", at=NOW, provider="one", attempts=(tried("one", 1.0),), usage=Usage(10, 10, estimated=True), cost=1.0
    )
    assert answer(guessed, asked("a", tried("one", 1.0))).total.estimated == 1


def test_no_rows_are_an_empty_answer_of_nothing() -> None:
    found = answer(group_by="caller")
    assert (found.lines, found.total.requests, found.total.cost) == ((), 0, 0.0)


def test_the_time_is_from_since_to_before_until() -> None:
    records = [asked(str(age), tried("one", 1.0), at=NOW - age * DAY) for age in range(10)]

    def callers(since: str, until: str) -> set[str]:
        return {line.group[0] for line in answer(*records, group_by="caller", since=since, until=until).lines}

    assert callers("2d", "") == {"0", "1", "2"}
    assert callers("48h", "1d") == {"2"}
    assert callers("1w", "2024-09-29") == {"6", "7"}
    assert callers("2024-10-03T12:00", "2024-10-04T14:00+02:00") == {"1"}


def test_days_come_in_their_order() -> None:
    records = [asked("a", tried("one", float(age)), at=NOW - age * DAY) for age in range(3)]
    found = answer(*records, group_by="day")
    assert [line.group[0] for line in found.lines] == ["2024-10-02", "2024-10-03", "2024-10-04"]


@pytest.mark.parametrize(
    ("question", "param", "said"),
    [
        ({"group_by": "caller,colour"}, "group_by", "caller, model, provider, group, key, tag, day and tag:NAME"),
        ({"group_by": "tag:"}, "group_by", "tag:NAME"),
        ({"group_by": "caller,caller"}, "group_by", "twice"),
        ({"since": "yesterday"}, "since", "such as 30m, 24h, 7d or 4w, or a date such as 2026-01-31"),
        ({"until": "7 days"}, "until", "until must be an age"),
        ({"since": "1d", "until": "2d"}, "since", "before"),
        ({"since": "10000-01-01"}, "since", "an age"),
    ],
)
def test_what_is_no_question_is_refused_by_name(question: dict[str, str], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        answer(**question)
    assert refused.value.param == param


def test_a_date_before_there_was_anything_is_from_the_beginning() -> None:
    found = answer(asked("a", tried("one", 1.0)), since="0001-01-01T00:00+23:00")
    assert found.query.since == 0.0
    assert found.total.requests == 1


def test_more_lines_than_anybody_reads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINES", 2)
    make: Callable[[int], Record] = lambda number: asked(str(number), tried("one", 1.0))  # noqa: E731
    assert len(answer(*map(make, range(2)), group_by="caller").lines) == 2
    with pytest.raises(InvalidRequest, match="more than 2 lines: group by less"):
        answer(*map(make, range(3)), group_by="caller")


def test_as_json_it_says_what_was_asked() -> None:
    shown = answer(
        asked("a", tried("one", 0.1)), asked("a", tried("one", 0.2)), group_by="caller", since="1d"
    ).as_json()
    assert (shown["since"], shown["until"], shown["group_by"]) == ("2024-10-03T12:00:00Z", None, ["caller"])
    assert shown["costs"] == [
        {
            "caller": "a", "requests": 2, "failed": 0, "prompt_tokens": 200, "cached_tokens": 80,
            "cache_write_tokens": 0, "completion_tokens": 20, "reasoning_tokens": 0, "estimated": 0, "cost": 0.3,
            "unpriced": 0,
        }
    ]  # fmt: skip
    assert shown["total"]["cost"] == 0.3


def test_as_csv_it_can_be_read_again_and_runs_in_no_spreadsheet() -> None:
    found = answer(asked('=HYPERLINK("x")', tried("one", None)), asked("a,\nb", tried("one", 1.0)), group_by="caller")
    rows = list(csv.DictReader(io.StringIO(found.as_csv(), newline="")))
    assert [(row["caller"], row["cost"], row["unpriced"]) for row in rows] == [
        ("a,\nb", "1.0", "0"),
        ('\'=HYPERLINK("x")', "", "1"),
    ]


def test_the_money_of_one_attempt_that_nobody_answered_is_its_providers() -> None:
    left = Record(id="r", at=NOW, who=Identity(caller="a"), attempts=(tried("one", 0.5),), usage=USAGE, cost=0.5)
    found = answer(left, asked("a", tried("one", 1.0)), group_by="provider,model")
    assert brief(found) == [("one", "m", 1, 1.5), ("", "", 1, 0.0)]
    assert (found.total.requests, found.total.cost, found.total.prompt_tokens) == (2, 1.5, 200)
    [line] = answer(left, group_by="caller").lines
    assert (line.requests, line.cost, line.prompt_tokens, line.unpriced) == (1, 0.5, 100, 0)


def test_nor_is_its_price_unknown_twice() -> None:
    left = Record(id="r", at=NOW, attempts=(tried("one", None),), usage=USAGE, cost=None)
    found = answer(left, group_by="provider")
    assert (found.total.requests, found.total.unpriced, found.total.cost) == (1, 1, None)


def test_names_that_would_break_a_table_do_not() -> None:
    line = next(answer(asked("evil\nteam" + "x" * 400, tried("one", 1.0)), group_by="caller").as_table()[1])
    assert line[0] == "evil?team" + "x" * 50 + "…"
    assert len(line[0]) == WIDEST


def test_a_key_is_told_with_its_name_where_it_is_known() -> None:
    found = attrs.evolve(answer(asked("a", tried("one", 1.0)), group_by="day,key"), key_names={"key-of-a": "team-a"})
    assert found.names == ("day", "key", "key_name")
    assert found.as_json()["costs"][0]["key_name"] == "team-a"
    assert found.as_csv().startswith("day,key,key_name,requests,")
    heads, rows = found.as_table()
    assert heads[:3] == ("DAY", "KEY", "KEY NAME")
    assert [row[:3] for row in rows] == [(found.lines[0].group[0], "key-of-a", "team-a"), ("total", "", "")]
