"""A second attempt beside a slow one: when it is made, who wins, what becomes of the other."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.hedging import CREDIT, ENOUGH_TIMES, KEPT_TIMES, Hedging, Times, hedging_of
from infermux.actors.provider_messages import Verb
from infermux.config.settings import Hedge, RateLimits, Retry
from infermux.errors import CallerLeft, FailureKind, NotCarried, UpstreamError
from infermux.providers.interface import Answer, Call, Stream
from tests.actors._scripted import (
    HANGS,
    PRIORITY,
    USAGE,
    Person,
    Step,
    Taken,
    World,
    breaking,
    fails,
    nothing_is_left,
    provider,
    world,
)

ALWAYS = Hedge(enabled=True, after="1s", max_extra_ratio=1.0)
PAIR = (provider("a", "m"), provider("b", "m"))
SLOW, SLOWER = Step(seconds=5.0, body=b'"slow"'), Step(seconds=8.0)
FAST = Step(seconds=0.5, body=b'"fast"')


def test_turned_off_it_is_not_there() -> None:
    assert hedging_of(Hedge()) is None


@given(st.lists(st.floats(0, 100), min_size=ENOUGH_TIMES, max_size=KEPT_TIMES), st.integers(1, 99))
def test_a_percentile_has_that_many_at_or_below_it(seconds: list[float], percent: int) -> None:
    times = Times()
    for each in seconds:
        times.note(each)
    found = times.percentile(percent)
    assert found is not None
    assert sum(each <= found for each in seconds) * 100 >= percent * len(seconds)
    assert sum(each < found for each in seconds) * 100 < percent * len(seconds)


def test_too_few_times_say_nothing_and_old_ones_are_forgotten() -> None:
    times = Times()
    for _ in range(ENOUGH_TIMES - 1):
        times.note(9.0)
    assert times.percentile(95) is None
    for _ in range(KEPT_TIMES):
        times.note(1.0)
    assert times.percentile(95) == 1.0


def test_streams_and_whole_answers_are_timed_apart() -> None:
    hedging = Hedging(Hedge(enabled=True))
    for _ in range(ENOUGH_TIMES):
        hedging.note("a", 0.1, stream=True)
        hedging.note("a", 4.0, stream=False)
    assert (hedging.after("a", stream=True), hedging.after("a", stream=False)) == (0.1, 4.0)
    assert hedging.after("b", stream=True) is None


@given(st.lists(st.booleans(), max_size=500), st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_there_are_never_more_than_the_share_of_all_requests(asks: list[bool], ratio: float) -> None:
    hedging, taken = Hedging(Hedge(enabled=True, max_extra_ratio=ratio)), 0
    for requests, ask in enumerate(asks, 1):
        hedging.note_request()
        taken += ask and hedging.take()
        assert taken <= ratio * requests + 1e-6


def test_quiet_times_save_up_only_so_much() -> None:
    hedging = Hedging(Hedge(enabled=True, max_extra_ratio=1.0))
    for _ in range(1000):
        hedging.note_request()
    assert sum(hedging.take() for _ in range(100)) == CREDIT


async def test_the_faster_answer_wins_and_the_slower_attempt_is_cancelled_and_charged(
    autojump_clock: MockClock,
) -> None:
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [SLOW], "b": [FAST]}) as w:
        run = w.run(prompt_tokens=7)
        answer = await run.begin()
        assert (answer, trio.current_time()) == (run.attempt and run.attempt.answer, 1.5)
        assert run.lease is not None
        assert (run.lease.provider, run.attempts, w["a"].cancelled) == ("b", 2, 1)
        await nothing_is_left(w)


async def test_two_that_answer_at_once_are_both_charged_what_they_say(autojump_clock: MockClock) -> None:
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS) as w:
        both = trio.Event()

        async def answered(call: Call) -> Answer:
            await both.wait()  # nothing after it in which the slower one, a step later, could be cancelled
            return Answer(200, b"application/json", b"{}", USAGE)

        w["a"].send = w["b"].send = answered  # type: ignore[method-assign]
        run = w.run(prompt_tokens=7)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.begin)
            await trio.sleep(2)
            both.set()
        assert [lease.outcome and lease.outcome.usage for lease in run.trail] == [USAGE, USAGE]
        await nothing_is_left(w)


async def test_the_first_one_wins_if_it_is_faster_after_all(autojump_clock: MockClock) -> None:
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [SLOW], "b": [SLOWER]}) as w:
        assert await w.answered_by() == "a"
        assert (trio.current_time(), w["b"].cancelled) == (5.0, 1)
        await nothing_is_left(w)


async def test_whoever_answers_in_time_is_alone(autojump_clock: MockClock) -> None:
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [FAST]}) as w:
        assert await w.answered_by() == "a"
        assert w["b"].asked == []


async def test_without_another_provider_of_the_model_there_is_no_second_attempt(autojump_clock: MockClock) -> None:
    aliased = provider("b", "big", model_aliases={"m": "big"})
    async with world(PAIR[0], aliased, hedge=ALWAYS, routing=PRIORITY, script={"a": [SLOW]}) as w:
        assert await w.answered_by() == "a"
        assert w["b"].asked == []


async def test_a_share_of_nothing_makes_none(autojump_clock: MockClock) -> None:
    none = Hedge(enabled=True, after="1s", max_extra_ratio=0.0)
    async with world(*PAIR, routing=PRIORITY, hedge=none, script={"a": [SLOW]}) as w:
        assert await w.answered_by() == "a"
        assert w["b"].asked == []


async def test_what_could_not_be_made_does_not_count_as_made(autojump_clock: MockClock) -> None:
    half = Hedge(enabled=True, after="1s", max_extra_ratio=0.5)
    async with world(*PAIR, routing=PRIORITY, hedge=half) as w:
        w["a"].rest = SLOW
        await w.fleet.command("b", Verb.DISABLE)
        for _ in range(2):
            await w.chat()
        await w.fleet.command("b", Verb.ENABLE)
        assert await w.answered_by() == "b"


async def test_a_second_attempt_counts_among_those_a_request_may_have(autojump_clock: MockClock) -> None:
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, retry=Retry(max_attempts=1), script={"a": [SLOW]}) as w:
        assert await w.answered_by() == "a"
        assert w["b"].asked == []


@pytest.mark.parametrize("failing", ["a", "b"])
async def test_when_one_fails_the_other_goes_on(failing: str, autojump_clock: MockClock) -> None:
    fault = fails(FailureKind.SERVER_ERROR, status=500, seconds=1.2)
    script = {failing: [fault], "ab".replace(failing, ""): [SLOW]}
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script=script) as w:
        run = w.run()
        await run.begin()
        assert run.lease is not None
        assert (run.lease.provider != failing, run.attempts) == (True, 2)
        assert w.fleet.members[failing].gate.breaker.consecutive_failures == 1
        await nothing_is_left(w)


async def test_who_cannot_be_given_it_leaves_the_other_alone(autojump_clock: MockClock) -> None:
    for refusing, other in (("a", "b"), ("b", "a")):
        script = {refusing: [Step(seconds=2.0, bug=NotCarried("not here"))], other: [SLOW]}
        async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script=script) as w:
            run = await w.chat()
            assert run.lease is not None
            assert (run.lease.provider, run.attempts) == (other, 1)
            await nothing_is_left(w)


async def test_where_neither_can_be_given_it_the_request_goes_to_others(autojump_clock: MockClock) -> None:
    script = {name: [Step(seconds=2.0, bug=NotCarried(f"not at {name}"))] * 2 for name in "ab"}
    async with world(*PAIR, provider("c", "m"), routing=PRIORITY, hedge=ALWAYS, script=script) as w:
        run = await w.chat()
        assert run.lease is not None
        assert (run.lease.provider, run.attempts) == ("c", 1)
        await w.fleet.command("c", Verb.DISABLE)
        with pytest.raises(NotCarried, match="not at a"):
            await w.chat()
        await nothing_is_left(w)


async def test_when_both_fail_the_request_goes_on_as_ever(autojump_clock: MockClock) -> None:
    fault = fails(FailureKind.SERVER_ERROR, status=500, seconds=2.0)
    providers = (*PAIR, provider("c", "m"))
    async with world(*providers, routing=PRIORITY, hedge=ALWAYS, script={"a": [fault], "b": [fault]}) as w:
        run = w.run()
        await run.begin()
        assert run.lease is not None
        assert (run.lease.provider, run.attempts) == ("c", 3)
        await nothing_is_left(w)


async def test_the_first_token_of_a_stream_wins(autojump_clock: MockClock) -> None:
    slow = Step(chunks=(b"role", b"slow"), gap=5.0, content_at=1)
    fast = Step(chunks=(b"role", b"fast", b"end"), gap=0.5, content_at=1)
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [slow], "b": [fast]}) as w:
        run, sink = w.run(stream=True), Taken()
        await run.begin()
        await run.pump(sink)
        assert (b"".join(sink.data), w["a"].cancelled) == (b"rolefastend", 1)
        await nothing_is_left(w)


async def test_whose_held_events_reach_the_caller_first_goes_on_alone(autojump_clock: MockClock) -> None:
    given: list[bytes] = []

    def commit(stream: Stream, data: bytes) -> None:
        given.append(data)

    slow = Step(chunks=(b"role", b"slow"), gap=6.0, content_at=1)
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [slow], "b": [SLOWER]}) as w:
        run, sink = w.run(stream=True), Taken()
        await run.begin(commit)
        await run.pump(sink)
        assert (given, sink.data, w["b"].cancelled) == ([b"role"], [b"slow"], 1)
        await nothing_is_left(w)


async def test_a_committed_one_that_breaks_is_told(autojump_clock: MockClock) -> None:
    def commit(stream: Stream, data: bytes) -> None:
        pass

    broken = Step(chunks=(b"role", b"ping"), gap=3.0, content_at=9, breaks=breaking())
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [broken], "b": [SLOWER]}) as w:
        run = w.run(stream=True)
        with pytest.raises(UpstreamError):
            await run.begin(commit)
        run.close()
        await nothing_is_left(w)


async def _cancelled_at(w: World, seconds: float, person: Person) -> None:
    run = w.run(caller=person)
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.sleep(seconds)
            person.leave()

        nursery.start_soon(leave)
        with pytest.raises(CallerLeft):
            await run.begin()
    run.close()


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0])
async def test_who_leaves_ends_both(seconds: float, autojump_clock: MockClock) -> None:
    script = {"a": [HANGS], "b": [HANGS]}
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script=script) as w:
        await _cancelled_at(w, seconds, Person())
        assert trio.current_time() == seconds
        await nothing_is_left(w)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.1, 3.0])
async def test_a_cancelled_task_leaves_nothing(seconds: float, autojump_clock: MockClock) -> None:
    fault = fails(FailureKind.SERVER_ERROR, status=500, seconds=1.05)
    async with world(*PAIR, routing=PRIORITY, hedge=ALWAYS, script={"a": [fault], "b": [HANGS]}) as w:
        run = w.run()
        with trio.move_on_after(seconds):
            await run.begin()
        run.close()
        await nothing_is_left(w)


async def test_a_percentile_is_learned_from_the_providers_own_times(autojump_clock: MockClock) -> None:
    learning = Hedge(enabled=True, after="p95", max_extra_ratio=1.0)
    async with world(*PAIR, routing=PRIORITY, hedge=learning) as w:
        w["a"].rest = Step(seconds=0.5)
        for _ in range(ENOUGH_TIMES):
            await w.chat()
        assert w["b"].asked == []
        w["a"].rest, before = HANGS, trio.current_time()
        assert await w.answered_by() == "b"
        assert trio.current_time() - before == pytest.approx(0.5)


async def test_a_refusal_costs_nothing_also_when_the_caller_leaves_at_that_moment(autojump_clock: MockClock) -> None:
    limits = RateLimits(tokens_per_minute=1000)
    async with world(provider("a", "m", rate_limits=limits), hedge=ALWAYS) as w:
        person = Person()
        refuse = w["a"].send

        async def leaving(call: Call) -> Answer | Stream:
            try:
                return await refuse(call)
            finally:
                person.leave()

        w["a"].send = leaving  # type: ignore[method-assign]
        w["a"].rest = fails(FailureKind.SERVER_ERROR, seconds=0.5, status=503)
        with pytest.raises(CallerLeft):
            await w.chat(caller=person, prompt_tokens=100)
        await nothing_is_left(w)
        tokens = w.fleet.members["a"].gate.tokens
        assert tokens is not None
        assert tokens.is_full(trio.current_time()), "it was refused, whoever heard of it"
