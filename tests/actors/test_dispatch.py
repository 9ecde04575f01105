"""One request from its first lease to its last byte: failover, timeouts, leaving, and what is left afterwards."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.phase import Phase
from infermux.config.settings import Retry, Routing, Timeouts
from infermux.errors import (
    DeadlineExceeded,
    FailureKind,
    ProviderRefusal,
    UpstreamError,
    UpstreamTimeout,
)
from infermux.providers.interface import MOST_TOKENS, Answer, Endpoint, Usage
from tests.actors._scripted import (
    CREDENTIALS,
    HANGS,
    NO_MODEL,
    OK,
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    USAGE,
    Step,
    Taken,
    breaking,
    fails,
    provider,
    streams,
    two,
    world,
)

# An answer.


async def test_an_answer_comes_back_as_the_provider_wrote_it(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY) as w:
        run = w.run()
        answer = await run.begin()
        assert isinstance(answer, Answer)
        assert (answer.body, run.usage, run.attempts, run.phase) == (OK.body, USAGE, 1, Phase.DONE)
        run.close()
        await w.settled()
        assert w.in_flight("a") == 0


async def test_each_attempt_carries_the_name_its_provider_knows_the_model_by(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "big", model_aliases={"m": "big"})
    async with world(a, b, routing=PRIORITY, script={"a": [SERVER_ERROR]}) as w:
        run = await w.chat()
        assert (w["a"].models, w["b"].models, run.attempts) == (["m"], ["big"], 2)
        assert w["b"].asked[0][1].requested_model == "m"


async def test_usage_that_a_provider_does_not_give_is_estimated_and_marked(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [Step(usage=None, body=b"x" * 40)]}) as w:
        run = await w.chat(prompt_tokens=7)
        assert run.usage == Usage(prompt_tokens=7, completion_tokens=10, estimated=True)


@pytest.mark.parametrize(
    "told",
    [
        Usage(prompt_tokens=10**30, completion_tokens=5),
        Usage(prompt_tokens=10, completion_tokens=MOST_TOKENS + 1),
        Usage(prompt_tokens=-1000, completion_tokens=-5),
        Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=-1),
        Usage(prompt_tokens=10, completion_tokens=5, cache_write_tokens=10**19),
        Usage(prompt_tokens=10, completion_tokens=5, reasoning_tokens=10**400),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_usage_that_cannot_be_is_estimated_and_logged(
    told: Usage, stream: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    answer = streams(usage=told) if stream else Step(usage=told, body=b"x" * 12)
    async with world(provider("a", "m"), script={"a": [answer]}) as w:
        run = await w.chat(prompt_tokens=7, stream=stream)
        assert run.usage == Usage(prompt_tokens=7, completion_tokens=3, estimated=True)
    assert "provider a told a usage that cannot be" in caplog.text


async def test_the_largest_prompt_there_is_is_believed(autojump_clock: MockClock) -> None:
    told = Usage(prompt_tokens=MOST_TOKENS, completion_tokens=5)
    async with world(provider("a", "m"), script={"a": [Step(usage=told)]}) as w:
        assert (await w.chat(prompt_tokens=7)).usage == told


async def test_a_picture_or_a_vector_is_not_estimated_as_text(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [Step(usage=None, body=b"x" * 400_000)]}) as w:
        run = await w.chat(prompt_tokens=7, endpoint=Endpoint.IMAGES)
        assert run.usage == Usage(prompt_tokens=7, completion_tokens=0, estimated=True)


# Failover before the commit point.

REPLACED = {
    "connect": fails(FailureKind.CONNECT),
    "connect_timeout": fails(FailureKind.CONNECT_TIMEOUT, seconds=5),
    "500": SERVER_ERROR,
    "529": fails(FailureKind.SERVER_ERROR, status=529),
    "429": RATE_LIMITED,
    "401": CREDENTIALS,
    "404 for the model": NO_MODEL,
    "malformed": fails(FailureKind.MALFORMED, status=200),
    "broken": fails(FailureKind.BROKEN),
    "408": fails(FailureKind.TOTAL_TIMEOUT, status=408),
    "hangs": HANGS,
    "a bug of the adapter": Step(bug=KeyError("choices")),
}
BROKEN_STREAMS = {
    "breaks before anything": Step(chunks=(), breaks=breaking()),
    "breaks before its first content": streams(b"role", content_at=1, breaks=breaking()),
    "ends before its first content": streams(b"role", content_at=1),
    "ends before anything": Step(chunks=()),
    "is silent before its first content": streams(b"role", content_at=1, stalls=True),
    "has a bug before its first content": streams(b"role", content_at=1, breaks=KeyError("delta")),
}


@pytest.mark.parametrize("kind", REPLACED)
async def test_a_failed_attempt_is_replaced_by_another_provider(kind: str, autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [REPLACED[kind]]}) as w:
        run = await w.chat()
        assert run.lease is not None
        assert (run.lease.provider, run.attempts) == ("b", 2)
        await w.settled()
        assert (w.in_flight("a"), w.in_flight("b"), w["a"].open) == (0, 0, 0)


@pytest.mark.parametrize("kind", REPLACED | BROKEN_STREAMS)
async def test_a_stream_that_fails_before_its_first_content_is_replaced_unseen(
    kind: str, autojump_clock: MockClock
) -> None:
    step = (REPLACED | BROKEN_STREAMS)[kind]
    async with world(*two(), routing=PRIORITY, script={"a": [step], "b": [streams()]}) as w:
        run, sink = w.run(stream=True), Taken()
        await run.begin()
        await run.pump(sink)
        run.close()
        assert (b"".join(sink.data), run.attempts) == (b"onetwothree", 2)
        await w.settled()
        assert (w.in_flight("a"), w.in_flight("b"), w["a"].open, w["b"].open) == (0, 0, 0, 0)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_what_the_caller_did_wrong_comes_back_as_it_is_without_a_retry(
    status: int, autojump_clock: MockClock
) -> None:
    refused = fails(FailureKind.CALLER, status=status, body=b"{their words}", content_type=b"text/json")
    async with world(*two(), routing=PRIORITY, script={"a": [refused]}) as w:
        with pytest.raises(ProviderRefusal) as caught:
            await w.chat()
        error = caught.value
        assert (error.status, error.body, error.content_type) == (status, b"{their words}", b"text/json")
        assert w["b"].asked == []


@pytest.mark.parametrize("most", [1, 2, 4])
async def test_max_attempts_counts_all_attempts_over_providers_and_fallback_models(
    most: int, autojump_clock: MockClock
) -> None:
    providers = [provider(name, "m") for name in "abc"] + [provider(name, "n") for name in "def"]
    routing = Routing(strategy="priority", fallbacks={"m": ("n",)})
    script = {name: [SERVER_ERROR] * 9 for name in "abcdef"}
    async with world(*providers, routing=routing, retry=Retry(max_attempts=most), script=script) as w:
        with pytest.raises(UpstreamError) as caught:
            await w.chat()
        assert sum(len(wire.asked) for wire in w.wires.values()) == most
        assert ("after" in str(caught.value)) == (most > 1)


async def test_a_fallback_model_answers_when_the_providers_of_the_model_have_failed(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "n")
    routing = Routing(fallbacks={"m": ("n",)})
    async with world(a, b, routing=routing, script={"a": [SERVER_ERROR]}) as w:
        run = await w.chat()
        assert w["b"].models == ["n"]
        assert run.attempts == 2


async def test_one_provider_can_be_tried_with_both_models_but_never_twice_with_one(autojump_clock: MockClock) -> None:
    a = provider("a", "m", "n")
    routing = Routing(fallbacks={"m": ("n", "m")})
    async with world(a, routing=routing, script={"a": [SERVER_ERROR] * 9}) as w:
        with pytest.raises(UpstreamError):
            await w.chat()
        assert w["a"].models == ["m", "n"]


async def test_a_provider_that_stayed_silent_is_not_asked_twice_in_one_request(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m", "n"), provider("b", "n")
    routing = Routing(strategy="priority", fallbacks={"m": ("n",)})
    async with world(a, b, routing=routing, script={"a": [HANGS]}) as w:
        assert await w.answered_by() == "b"
        assert w["a"].models == ["m"]


async def test_after_a_whole_answer_that_timed_out_at_most_one_other_provider_is_tried(
    autojump_clock: MockClock,
) -> None:
    providers = [provider(name, "m", timeout=10.0) for name in "abc"]
    script = {"a": [HANGS], "b": [SERVER_ERROR]}
    async with world(*providers, routing=PRIORITY, script=script) as w:
        with pytest.raises(UpstreamError):
            await w.chat()
        assert [len(w[name].asked) for name in "abc"] == [1, 1, 0]


async def test_a_whole_answer_that_times_out_after_other_failures_has_one_more_provider(
    autojump_clock: MockClock,
) -> None:
    providers = [provider(name, "m", timeout=10.0) for name in "abcd"]
    script = {"a": [SERVER_ERROR], "b": [HANGS], "c": [SERVER_ERROR]}
    async with world(*providers, routing=PRIORITY, script=script) as w:
        with pytest.raises(UpstreamError):
            await w.chat()
        assert [len(w[name].asked) for name in "abcd"] == [1, 1, 1, 0]


async def test_two_whole_answers_that_time_out_are_told_as_total_timeout(autojump_clock: MockClock) -> None:
    providers = [provider(name, "m", timeout=10.0) for name in "abc"]
    async with world(*providers, routing=PRIORITY, script={"a": [HANGS], "b": [HANGS]}) as w:
        with pytest.raises(UpstreamTimeout) as caught:
            await w.chat(timeout=100.0)
        assert (caught.value.status, caught.value.code, caught.value.provider) == (504, "total_timeout", "b")
        assert trio.current_time() == pytest.approx(20)


async def test_a_stream_may_try_every_provider_after_silence(autojump_clock: MockClock) -> None:
    # The one with the long timeout makes room for three: the bound is twice the largest.
    providers = [provider(name, "m", timeout=10.0) for name in "abc"] + [provider("d", "m", timeout=60.0)]
    script = {"a": [HANGS], "b": [HANGS], "c": [streams()]}
    async with world(*providers, routing=PRIORITY, script=script) as w:
        assert await w.answered_by(stream=True) == "c"


async def test_without_a_deadline_of_the_caller_twice_the_largest_timeout_is_the_bound(
    autojump_clock: MockClock,
) -> None:
    a, b, c = provider("a", "m", timeout=10.0), provider("b", "m", timeout=30.0), provider("c", "m", timeout=30.0)
    script = {name: [HANGS] for name in "abc"}
    async with world(a, b, c, routing=PRIORITY, script=script) as w:
        with pytest.raises(DeadlineExceeded) as caught:
            await w.chat(stream=True)
        assert trio.current_time() == pytest.approx(60)
        assert "twice the longest timeout" in str(caught.value)


async def test_the_default_bound_holds_until_the_first_token_only(autojump_clock: MockClock) -> None:
    slow = streams(*[b"x"] * 30, gap=9.0)
    async with world(provider("a", "m", timeout=10.0), script={"a": [slow]}) as w:
        run = await w.chat(stream=True)
        assert run.phase is Phase.DONE
        assert trio.current_time() > 200


@pytest.mark.parametrize("stream", [False, True])
async def test_the_callers_own_timeout_is_deadline_exceeded(stream: bool, autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [HANGS], "b": [HANGS]}) as w:
        with pytest.raises(DeadlineExceeded) as caught:
            await w.chat(stream=stream, timeout=20.0)
        assert (caught.value.status, caught.value.code) == (504, "deadline_exceeded")
        assert "X-Infermux-Timeout" in str(caught.value)
        assert trio.current_time() == pytest.approx(20)
        await w.settled()
        assert (w.in_flight("a"), w["a"].cancelled, w["b"].asked) == (0, 1, [])


async def test_a_deadline_that_passes_is_nobodys_failure(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [HANGS] * 20}) as w:
        for _ in range(20):
            with pytest.raises(DeadlineExceeded):
                await w.chat(timeout=1.0)
        await w.settled()
        assert w.fleet.members["a"].gate.breaker.consecutive_failures == 0


async def test_the_callers_deadline_goes_on_over_attempts(autojump_clock: MockClock) -> None:
    providers = [provider(name, "m", timeout=8.0) for name in "abc"]
    async with world(*providers, routing=PRIORITY, script={name: [HANGS] for name in "abc"}) as w:
        with pytest.raises(DeadlineExceeded):
            await w.chat(stream=True, timeout=20.0)
        assert trio.current_time() == pytest.approx(20)
        assert [w[name].times for name in "abc"] == [[0.0], [pytest.approx(8)], [pytest.approx(16)]]


async def test_the_callers_deadline_ends_a_running_stream_too(autojump_clock: MockClock) -> None:
    endless = streams(*[b"x"] * 100, gap=1.0)
    async with world(provider("a", "m"), script={"a": [endless]}) as w:
        with pytest.raises(DeadlineExceeded):
            await w.chat(stream=True, timeout=10.0)
        assert trio.current_time() == pytest.approx(10)
        await w.settled()
        assert (w.in_flight("a"), w["a"].open) == (0, 0)


@pytest.mark.parametrize(
    ("stream", "code"), [(False, FailureKind.TOTAL_TIMEOUT), (True, FailureKind.FIRST_TOKEN_TIMEOUT)]
)
async def test_silence_is_named_by_what_was_waited_for(
    stream: bool, code: FailureKind, autojump_clock: MockClock
) -> None:
    async with world(provider("a", "m", timeout=7.0), script={"a": [HANGS]}) as w:
        with pytest.raises(UpstreamTimeout) as caught:
            await w.chat(stream=stream)
        assert caught.value.code == code.value
        assert trio.current_time() == pytest.approx(7)
        assert "provider a" in str(caught.value)


async def test_a_first_token_timeout_of_its_own_bounds_streams_only(autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeout=30.0, timeouts=Timeouts(first_token=3.0))
    async with world(settings, script={"a": [Step(seconds=20), HANGS]}) as w:
        await w.chat()
        assert trio.current_time() == pytest.approx(20)
        with pytest.raises(UpstreamTimeout):
            await w.chat(stream=True)
        assert trio.current_time() == pytest.approx(23)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_total_timeout_bounds_an_attempt(stream: bool, autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(total=4.0))
    async with world(settings, script={"a": [HANGS]}) as w:
        with pytest.raises(UpstreamTimeout) as caught:
            await w.chat(stream=stream)
        assert caught.value.code == "total_timeout"
        assert trio.current_time() == pytest.approx(4)
