"""What is noted of a request becomes its record: attempts, times, money, whose fault."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.draft import Draft, covered, sums_of_all, sums_of_one, total_cost, total_usage
from infermux.actors.journal import Journal
from infermux.actors.record import Ending, Record, Tried
from infermux.config.settings import Backoff, Hedge, Price, Queue, RateLimits, Retry
from infermux.errors import CallerLeft, Fault, InfermuxError, NotCarried, UpstreamError
from infermux.providers.interface import Answer, Usage
from tests.actors._scripted import (
    PRIORITY,
    SERVER_ERROR,
    USAGE,
    Person,
    Step,
    Taken,
    World,
    breaking,
    provider,
    streams,
    two,
    world,
)

PRICES = {"a": {"m": Price(input_per_million=1.0, output_per_million=2.0)}}


def told(draft: Draft, *, shutting_down: bool = False) -> Record:
    """The record of `draft`, closed now."""
    records: list[Record] = []
    draft.journal.listen(records.append)
    if draft.run is not None:
        draft.run.close()
    draft.close(shutting_down=shutting_down)
    [record] = records
    return record


async def asked(w: World, **more: object) -> Record:
    """One request to its end, as a handler does it."""
    draft = Draft(journal=Journal(), id=b"r1", endpoint="chat")
    run = draft.run = w.run(**more)  # type: ignore[arg-type]
    try:
        answer = await run.begin()
        draft.status = 200
        if not isinstance(answer, Answer):
            await run.pump(Taken())
        draft.ended_well()
    except InfermuxError as error:
        draft.broke(error) if draft.status else draft.refused(error)
    except CallerLeft:
        draft.left()
    return told(draft)


async def test_an_answer_at_once_has_one_attempt_and_its_money(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), pricing=PRICES, script={"a": [Step(seconds=2.0)]}) as w:
        record = await asked(w)
    assert record.attempts == (
        Tried(provider="a", model="m", started=0.0, ended=2.0, status=200, usage=USAGE, cost=20e-6),
    )
    assert (record.ending, record.status, record.code, record.fault) == (Ending.OK, 200, "", None)
    assert (record.provider, record.model, record.requested, record.strategy) == ("a", "m", "m", "round_robin")
    assert (record.usage, record.cost) == (USAGE, 20e-6)
    assert (record.latency, record.first_token, record.waited, record.overhead) == (2.0, None, 0.0, 0.0)


async def test_a_failed_attempt_stays_in_the_trail(autojump_clock: MockClock) -> None:
    script = {"a": [Step(seconds=1.0, failure=SERVER_ERROR.failure)], "b": [streams(seconds=0.5, gap=1.0)]}
    async with world(*two(), routing=PRIORITY, script=script) as w:
        record = await asked(w, stream=True)
    first, second = record.attempts
    assert (first.provider, first.outcome, first.status, first.started, first.ended) == ("a", "server_error", 500, 0, 1)
    assert (second.provider, second.outcome, second.first_token, second.ended) == ("b", "ok", 1.5, 3.5)
    assert (record.provider, record.ending, record.first_token, record.latency) == ("b", Ending.OK, 1.5, 3.5)
    assert record.stream


async def test_who_fails_for_good_is_nobodys_answer(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [SERVER_ERROR], "b": [SERVER_ERROR]}) as w:
        record = await asked(w)
    assert (record.ending, record.status, record.code, record.fault) == (
        Ending.REFUSED,
        502,
        "upstream_error",
        Fault.PROVIDER,
    )
    assert (record.provider, record.model, len(record.attempts)) == ("", "", 2)
    assert "told to fail" in record.message


async def test_a_stream_that_breaks_is_a_broken_answer_of_its_provider(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(gap=1.0, breaks=breaking())]}) as w:
        record = await asked(w, stream=True)
    assert (record.ending, record.status, record.provider, record.fault) == (Ending.BROKEN, 200, "a", Fault.PROVIDER)
    assert record.attempts[0].outcome == "broken"
    assert record.usage is not None
    assert record.usage.estimated


async def test_a_caller_that_leaves_has_used_what_it_has_used(autojump_clock: MockClock) -> None:
    person = Person()
    async with world(provider("a", "m"), script={"a": [Step(hangs=True)]}) as w, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await trio.sleep(3)
            person.leave()

        record = await asked(w, caller=person)
    assert (record.ending, record.status, record.provider, record.code) == (Ending.LEFT, 499, "", "")
    assert (record.attempts[0].outcome, record.attempts[0].ended) == ("cancelled", 3.0)


async def test_the_loser_of_a_race_is_an_attempt_too(autojump_clock: MockClock) -> None:
    hedge = Hedge(enabled=True, after="1s", max_extra_ratio=1.0)
    script = {"a": [Step(hangs=True)], "b": [Step(seconds=2.0)]}
    async with world(*two(), routing=PRIORITY, hedge=hedge, script=script) as w:
        record = await asked(w)
    assert [(tried.provider, tried.outcome, tried.started, tried.ended) for tried in record.attempts] == [
        ("a", "cancelled", 0.0, 3.0),
        ("b", "ok", 1.0, 3.0),
    ]
    assert (record.provider, record.latency, record.overhead) == ("b", 3.0, 0.0)


async def test_who_could_not_be_given_what_was_asked_had_no_attempt(autojump_clock: MockClock) -> None:
    passing = Step(bug=NotCarried("not here"))
    async with world(*two(), routing=PRIORITY, script={"a": [passing]}) as w:
        record = await asked(w)
    assert ([tried.provider for tried in record.attempts], record.provider) == (["b"], "b")
    async with world(*two(), script={"a": [passing], "b": [passing]}, hedge=Hedge(enabled=True, after="1s")) as w:
        record = await asked(w)
    assert (record.attempts, record.ending, record.status, record.cost) == ((), Ending.REFUSED, 400, None)


async def test_waiting_in_the_queue_is_neither_the_providers_time_nor_ours(autojump_clock: MockClock) -> None:
    limited = provider("a", "m", rate_limits=RateLimits(max_concurrent=1))
    script = {"a": [Step(seconds=4.0)]}
    async with world(limited, queue=Queue(max_wait=10.0), script=script) as w, trio.open_nursery() as nursery:
        nursery.start_soon(asked, w)
        await trio.sleep(1)
        record = await asked(w)
    assert (record.waited, record.latency, record.overhead) == (3.0, 3.0, 0.0)
    assert record.attempts[0].started == 3.0


async def test_a_pause_before_the_same_provider_is_waiting(autojump_clock: MockClock) -> None:
    retry = Retry(backoff=Backoff(base=1.0, max=1.0))
    async with world(provider("a", "m"), retry=retry, script={"a": [SERVER_ERROR]}) as w:
        record = await asked(w)
    assert len(record.attempts) == 2
    assert record.waited == pytest.approx(record.attempts[1].started)
    assert record.waited > 0


async def test_a_record_is_made_only_for_those_who_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object, **__: object) -> None:
        pytest.fail("nobody listens")

    monkeypatch.setattr("infermux.actors.draft.Record", made)
    draft = Draft(journal=Journal(), id=b"r1")
    draft.refused(UpstreamError("no"))
    draft.close()


@pytest.mark.parametrize(
    ("status", "ending", "code"), [(0, Ending.REFUSED, "shutting_down"), (200, Ending.BROKEN, "shutting_down")]
)
async def test_what_the_end_of_the_server_cuts_is_told_as_that(status: int, ending: Ending, code: str) -> None:
    draft = Draft(journal=Journal(), id=b"r1", status=status)
    record = told(draft, shutting_down=True)
    assert (record.ending, record.code, record.fault) == (ending, code, Fault.POLICY)


async def test_what_is_cancelled_otherwise_has_left() -> None:
    assert told(Draft(journal=Journal(), id=b"r1")).ending is Ending.LEFT


async def test_names_and_messages_of_others_are_cut(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        record = await asked(w, model="x" * 100_000)
    assert len(record.requested) == 256
    assert len(record.message) <= 500


def test_what_overlaps_is_covered_once() -> None:
    def tried(started: float, ended: float) -> Tried:
        return Tried(provider="a", model="m", started=started, ended=ended)

    assert covered(()) == 0.0
    assert covered((tried(1, 3),)) == 2.0
    assert covered((tried(2, 5), tried(0, 3), tried(3, 4), tried(7, 8))) == 6.0


def test_a_price_that_nobody_knows_makes_the_sum_unknown() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=1, estimated=True)
    known = Tried(provider="a", model="m", started=0, ended=1, usage=USAGE, cost=0.5)
    unknown = Tried(provider="b", model="m", started=0, ended=1, usage=usage)
    nothing_used = Tried(provider="c", model="m", started=0, ended=1)
    assert total_cost((known, nothing_used)) == 0.5
    assert total_cost((known, unknown)) is None
    assert total_cost(()) is None
    total = total_usage((known, unknown, nothing_used))
    assert total == Usage(prompt_tokens=11, completion_tokens=7, cached_tokens=1, estimated=True)
    assert total_usage((nothing_used,)) is None


@pytest.mark.parametrize("usage", [None, USAGE])
@pytest.mark.parametrize("cost", [None, 0.0, 0.25])
@pytest.mark.parametrize("first", [None, 1.5])
def test_the_sums_of_one_attempt_are_those_of_all(usage: Usage | None, cost: float | None, first: float | None) -> None:
    tried = Tried(provider="a", model="m", started=1.0, ended=3.0, usage=usage, cost=cost, first_token=first)
    assert sums_of_one(tried) == sums_of_all((tried,))
