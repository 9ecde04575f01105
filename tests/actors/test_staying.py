"""The same provider once more: where the next candidate would be another model, or nobody."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.phase import Phase
from infermux.config.settings import Backoff, CircuitBreaker, Retry, Routing
from infermux.errors import CallerLeft, FailureKind, ProviderRefusal, RateLimited, UpstreamError, UpstreamTimeout
from tests.actors._scripted import (
    HANGS,
    PRIORITY,
    SERVER_ERROR,
    Person,
    fails,
    nothing_is_left,
    provider,
    world,
)

STAYING = Retry(backoff=Backoff(base=1.0, max=8.0))
TOO_LONG = fails(FailureKind.CALLER, status=400, code="context_length_exceeded", body=b"{}")
FALLBACK = Routing(strategy="priority", fallbacks={"m": ("other",)})


async def test_the_only_provider_is_asked_once_more_after_a_pause(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), retry=STAYING, script={"a": [SERVER_ERROR]}) as w:
        run = w.run()
        await run.begin()
        first, second = w["a"].times
        assert 0 <= second - first <= 1.0
        assert run.attempts == 2
        await nothing_is_left(w)


async def test_another_provider_of_the_model_is_asked_at_once_instead(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("b", "m"))
    async with world(*providers, retry=STAYING, routing=PRIORITY, script={"a": [SERVER_ERROR]}) as w:
        await w.chat()
        assert (len(w["a"].asked), len(w["b"].asked)) == (1, 1)
        assert w["a"].times == w["b"].times


@pytest.mark.parametrize(("stays", "asked"), [(True, (2, 0)), (False, (1, 1))])
async def test_before_another_model_the_same_provider_comes_first_if_it_may(
    stays: bool, asked: tuple[int, int], autojump_clock: MockClock
) -> None:
    retry = Retry(stay_when_model_changes=stays)
    providers = (provider("a", "m"), provider("b", "other"))
    async with world(*providers, retry=retry, routing=FALLBACK, script={"a": [SERVER_ERROR]}) as w:
        await w.chat()
        assert (len(w["a"].asked), len(w["b"].asked)) == asked


async def test_an_alias_is_another_model(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("b", "big", model_aliases={"m": "big"}))
    async with world(*providers, retry=STAYING, routing=PRIORITY, script={"a": [SERVER_ERROR] * 2}) as w:
        run = w.run()
        await run.begin()
        assert (len(w["a"].asked), w["b"].models, run.attempts) == (2, ["big"], 3)


async def test_a_short_retry_after_is_waited_for_and_the_provider_takes_the_request_again(
    autojump_clock: MockClock,
) -> None:
    limited = fails(FailureKind.RATE_LIMITED, status=429, retry_after=3.0)
    async with world(provider("a", "m"), retry=STAYING, script={"a": [limited]}) as w:
        await w.chat()
        first, second = w["a"].times
        assert second - first == pytest.approx(3.0)


async def test_a_long_retry_after_is_told_to_the_caller(autojump_clock: MockClock) -> None:
    limited = fails(FailureKind.RATE_LIMITED, status=429, retry_after=3.5)
    async with world(provider("a", "m"), retry=STAYING, script={"a": [limited]}) as w:
        with pytest.raises(RateLimited):
            await w.chat()
        assert len(w["a"].asked) == 1


async def test_silence_never_stays(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), retry=STAYING, script={"a": [HANGS]}) as w:
        with pytest.raises(UpstreamTimeout, match="no whole answer"):
            await w.chat()
        assert len(w["a"].asked) == 1


async def test_the_budget_bounds_staying_over_all_requests(autojump_clock: MockClock) -> None:
    retry = Retry(budget_ratio=0.5, budget_min_per_second=0.0, backoff=Backoff(base=0.001, max=0.001))
    async with world(
        provider("a", "m", circuit_breaker=CircuitBreaker(consecutive_failures=999, min_requests=999)), retry=retry
    ) as w:
        w["a"].rest = SERVER_ERROR
        for _ in range(20):
            with pytest.raises(UpstreamError):
                await w.chat()
        assert len(w["a"].asked) == 30


async def test_who_leaves_in_the_pause_ends_the_request_there(autojump_clock: MockClock) -> None:
    person = Person()
    limited = fails(FailureKind.RATE_LIMITED, status=429, retry_after=2.0)
    async with world(provider("a", "m"), retry=STAYING, script={"a": [limited]}) as w, trio.open_nursery() as nursery:
        run = w.run(caller=person)

        async def leave() -> None:
            await trio.sleep(1.0)
            assert run.phase is Phase.PAUSING
            person.leave()

        nursery.start_soon(leave)
        with pytest.raises(CallerLeft):
            await run.begin()
        assert trio.current_time() == pytest.approx(1.0)
        run.close()
        await nothing_is_left(w)


async def test_a_provider_that_was_removed_in_the_pause_is_not_asked(autojump_clock: MockClock) -> None:
    limited = fails(FailureKind.RATE_LIMITED, status=429, retry_after=2.0)
    providers = (provider("a", "m"), provider("b", "other"))
    async with world(*providers, retry=STAYING, routing=FALLBACK, script={"a": [limited]}) as w:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.fleet.remove, "a")
            await w.chat()
        assert len(w["b"].asked) == 1


# Prompts that are too long.

CONTEXT = Routing(strategy="priority", context_fallbacks={"m": ("long",)}, fallbacks={"m": ("other",)})


async def test_a_prompt_that_is_too_long_goes_to_the_models_declared_for_that(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("b", "other"), provider("c", "long"))
    async with world(*providers, routing=CONTEXT, script={"a": [TOO_LONG]}) as w:
        run = w.run()
        await run.begin()
        assert ([len(w[name].asked) for name in "abc"], run.attempts) == ([1, 0, 1], 2)
        assert w["a"].models + w["c"].models == ["m", "long"]


async def test_it_goes_there_once(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("c", "long"), provider("d", "long"))
    script = {"a": [TOO_LONG], "c": [TOO_LONG]}
    async with world(*providers, routing=CONTEXT, script=script) as w:
        with pytest.raises(ProviderRefusal) as caught:
            await w.chat()
        assert (caught.value.code, caught.value.provider) == ("context_length_exceeded", "c")
        assert [len(w[name].asked) for name in "acd"] == [1, 1, 0]


async def test_without_such_models_the_refusal_goes_back_as_it_is(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [TOO_LONG]}) as w:
        with pytest.raises(ProviderRefusal) as caught:
            await w.chat()
        assert (caught.value.status, caught.value.body) == (400, b"{}")


async def test_when_those_models_fail_the_prompt_is_still_too_long(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("c", "long"))
    async with world(*providers, routing=CONTEXT, script={"a": [TOO_LONG], "c": [SERVER_ERROR]}) as w:
        with pytest.raises(ProviderRefusal) as caught:
            await w.chat()
        assert (caught.value.code, caught.value.provider) == ("context_length_exceeded", "a")
