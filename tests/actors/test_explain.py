"""What is kept of decisions, and what is said of one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.decisions import Decisions, decided
from infermux.actors.draft import LONGEST_MODEL, Draft
from infermux.actors.explain import explained
from infermux.actors.provider_messages import Verb
from infermux.actors.record import Record
from infermux.actors.strategies import SCORES, STRATEGY_NAMES
from infermux.config.settings import Routing
from infermux.errors import InfermuxError, NotCarried
from infermux.providers.peek import Preferences
from tests._properties import examples
from tests.actors._scripted import PRIORITY, SERVER_ERROR, Step, World, provider, three, world


async def asked(w: World, model: str = "m", **want: Any) -> dict[str, Any]:
    """What is said of one request to its end."""
    draft = Draft(journal=w.fleet.journal, id=b"x")
    run = draft.run = w.run(model, **want)
    try:
        await run.begin()
        draft.status = 200
        draft.ended_well()
    except InfermuxError as error:
        draft.refused(error)
    finally:
        run.close()
    return explained(decided(draft.record(), run))


def became(said: dict[str, Any]) -> list[tuple[str, int | None, str, str]]:
    return [(row["provider"], row["place"], row["verdict"], row["reason"]) for row in said["candidates"]]


async def test_each_candidate_has_its_place_and_what_became_of_it(autojump_clock: MockClock) -> None:
    async with world(*three(), provider("d", "m"), routing=PRIORITY, script={"b": [SERVER_ERROR]}) as w:
        await w.fleet.command("a", Verb.DISABLE)
        said = await asked(w)
    assert became(said) == [
        ("b", 1, "asked", "server_error"),
        ("c", 2, "asked", "ok"),
        ("d", 3, "not_asked", "not_needed"),
        ("a", None, "refused", "disabled"),
    ]
    assert [row["score"] for row in said["candidates"]] == [1, 2, 3, None]
    assert (said["provider"], said["ending"], said["tried"]) == ("c", "ok", 2)
    assert [(each["provider"], each["outcome"]) for each in said["attempts"]] == [("b", "server_error"), ("c", "ok")]
    assert said["scores"] == {"priority": SCORES["priority"]}


async def test_those_whom_the_request_itself_leaves_out_say_so(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=PRIORITY) as w:
        said = await asked(w, preferences=Preferences(only=("b",)))
    assert became(said) == [
        ("b", 1, "asked", "ok"),
        ("a", None, "left_out", "not_allowed"),
        ("c", None, "left_out", "not_allowed"),
    ]


async def test_a_single_candidate_has_no_score(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        said = await asked(w)
    assert became(said) == [("a", 1, "asked", "ok")]
    assert said["candidates"][0]["score"] is None


async def test_what_nobody_took_says_why_of_each(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        for name in "abc":
            await w.fleet.command(name, Verb.DISABLE)
        said = await asked(w)
    assert {row["reason"] for row in said["candidates"]} == {"disabled"}
    assert (said["ending"], said["code"], said["attempts"]) == ("refused", "no_healthy_providers", [])


async def test_who_could_not_be_given_what_was_asked_says_what_that_was(autojump_clock: MockClock) -> None:
    passing = Step(bug=NotCarried("it has no place for the field seed"))
    async with world(*three(), routing=PRIORITY, script={"a": [passing]}) as w:
        said = await asked(w)
    assert became(said)[:2] == [("a", 1, "refused", "not_carried"), ("b", 2, "asked", "ok")]
    assert said["candidates"][0]["detail"] == "it has no place for the field seed"
    assert said["tried"] == 1


async def test_an_unmeasured_provider_that_is_offered_twice_is_one_candidate(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="least_latency")) as w:
        said = await asked(w)
    assert sorted(row["provider"] for row in said["candidates"]) == ["a", "b", "c"]
    assert all(row["explore"] for row in said["candidates"])


async def test_a_model_name_without_end_is_not_kept(autojump_clock: MockClock) -> None:
    async with world(provider("a")) as w:
        said = await asked(w, "m" * (LONGEST_MODEL + 1))
    assert said["candidates"] == []
    assert len(said["requested"]) == LONGEST_MODEL


def test_every_strategy_of_our_own_says_what_its_score_is() -> None:
    assert set(SCORES) == set(STRATEGY_NAMES)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.integers(0, 20), max_size=60))
def test_the_last_ones_are_kept_and_of_an_id_that_comes_again_each_and_told_the_newest(ids: list[int]) -> None:
    kept = Decisions(kept=10)
    for index, each in enumerate(ids):
        kept.note(Record(id=str(each), at=float(index)), None)
    newest = ids[::-1][:10]
    assert [int(each.record.id) for each in kept.latest(100)] == newest
    assert len(kept) == len(newest)
    for each in newest:
        decision = kept.of(str(each))
        assert decision is not None
        assert decision.record.at == max(index for index, other in enumerate(ids) if other == each)
    assert kept.of("21") is None


async def test_a_score_without_bound_is_told_as_none(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="cost_weighted")) as w:
        said = await asked(w)  # nobody knows a price
    assert [row["score"] for row in said["candidates"]] == [None, None, None]
