"""What the caller is told when no attempt is left."""

from __future__ import annotations

import contextlib

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.kit_errors import MailboxFull
from infermux.errors import (
    FailureKind,
    ModelNotFound,
    Overloaded,
    ProviderRefusal,
    RateLimited,
    UpstreamError,
)
from infermux.secret import Secret
from tests.actors._scripted import (
    CREDENTIALS,
    NO_MODEL,
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    Poison,
    fails,
    provider,
    two,
    world,
)


async def test_all_429_are_a_429_that_says_when_to_come_back(autojump_clock: MockClock) -> None:
    script = {
        "a": [fails(FailureKind.RATE_LIMITED, status=429, retry_after=30.0)],
        "b": [fails(FailureKind.RATE_LIMITED, status=429, retry_after=12.0)],
    }
    async with world(*two(), routing=PRIORITY, script=script) as w:
        with pytest.raises(RateLimited) as caught:
            await w.chat()
        assert (caught.value.status, caught.value.retry_after) == (429, 12.0)
        assert "a, b answered 429" in str(caught.value)


async def test_refused_credentials_are_a_502_that_names_provider_and_status(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", api_key=Secret("k")), script={"a": [CREDENTIALS]}) as w:
        with pytest.raises(UpstreamError) as caught:
            await w.chat()
        assert caught.value.status == 502
        assert "provider a refused the router's own credentials with status 401" in str(caught.value)


async def test_a_model_that_no_provider_has_is_the_providers_own_404_and_then_ours(autojump_clock: MockClock) -> None:
    async with world(provider("a"), script={"a": [NO_MODEL] * 9}) as w:
        for _ in range(2):
            with pytest.raises((ProviderRefusal, ModelNotFound)) as caught:
                await w.chat("x")
            assert caught.value.status == 404
        assert len(w["a"].asked) == 1


async def test_a_model_that_a_provider_lacks_is_set_aside_there_for_a_minute(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m", "n"), provider("b", "m")
    async with world(a, b, routing=PRIORITY, script={"a": [NO_MODEL]}) as w:
        assert await w.answered_by("m") == "b"
        await trio.sleep(59.0)
        assert await w.answered_by("m") == "b"
        assert await w.answered_by("n") == "a"
        await trio.sleep(1.5)
        assert await w.answered_by("m") == "a"


async def test_a_provider_without_the_model_counts_only_when_nobody_has_it(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [RATE_LIMITED], "b": [NO_MODEL]}) as w:
        with pytest.raises(RateLimited):
            await w.chat()


async def test_the_error_is_that_of_the_last_failure_that_says_more_than_429(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [SERVER_ERROR], "b": [RATE_LIMITED]}) as w:
        with pytest.raises(UpstreamError, match="provider a answered 500"):
            await w.chat()


# Where there is no room.


async def test_more_requests_than_the_router_holds_are_told_to_come_back(autojump_clock: MockClock) -> None:
    async with world(*two()) as w:
        w.fleet.router.tell(Poison())  # from here to its end it only queues
        filling = 0
        with contextlib.suppress(MailboxFull):
            while True:
                w.fleet.router.tell("x")
                filling += 1
        assert filling > 10_000
        with pytest.raises(Overloaded, match="more requests waiting") as caught:
            await w.chat()
        assert (caught.value.status, caught.value.retry_after) == (503, 1)
