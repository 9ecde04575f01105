"""A provider without a credential of its own is called with its callers': what that says of it, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.actors.messages import Health, Want
from infermux.errors import (
    CallerError,
    FailureKind,
    ProviderRefusal,
    RateLimited,
    Unauthorized,
    UpstreamError,
    UpstreamFailure,
)
from infermux.providers.interface import Answer, Call, Endpoint
from infermux.providers.ratelimits import Quotas
from infermux.secret import Secret
from tests.actors._scripted import (
    CREDENTIALS,
    NO_MODEL,
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    Step,
    Taken,
    World,
    fails,
    nothing_is_left,
    provider,
    streams,
    world,
)

MINE = Secret("sk-mine")


def run_of(w: World, lent: Secret | None, *, stream: bool = False) -> Run:
    call = Call(endpoint=Endpoint.CHAT, body=b"{}", model="m", requested_model="m", stream=stream, lent=lent)
    return w.fleet.run(Want("m"), call)


async def chat(w: World, lent: Secret | None = MINE, *, stream: bool = False) -> Run:
    run = run_of(w, lent, stream=stream)
    try:
        answer = await run.begin()
        if not isinstance(answer, Answer):
            await run.pump(Taken())
    finally:
        run.close()
    return run


def borrower(name: str = "a", **more: Any) -> Any:
    return provider(name, "m", borrows=True, probed=True, base_url="http://127.0.0.1:1/v1", **more)


async def test_the_credential_goes_only_where_there_is_none_of_ours(autojump_clock: MockClock) -> None:
    own = provider("own", "m", api_key=Secret("sk-ours"))
    script = {"own": [SERVER_ERROR]}
    async with world(own, borrower("lent"), routing=PRIORITY, script=script) as w:
        await chat(w)
        assert [call.lent for _, call in w["own"].asked] == [None]
        assert [call.lent for _, call in w["lent"].asked] == [MINE]


async def test_it_is_never_probed_and_always_unchecked(autojump_clock: MockClock) -> None:
    async with world(borrower()) as w:
        await chat(w)
        assert not w["a"].probed
        assert w.fleet.members["a"].standing.health is Health.UNCHECKED


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_credential_goes_back_as_it_is_and_is_tried_nowhere_else(
    status: int, autojump_clock: MockClock
) -> None:
    refused = fails(FailureKind.CREDENTIALS, status=status, body=b'{"error":"no"}')
    async with world(borrower("a"), borrower("b"), routing=PRIORITY, script={"a": [refused]}) as w:
        with pytest.raises(ProviderRefusal) as told:
            await chat(w)
        assert (told.value.status, told.value.body) == (status, b'{"error":"no"}')
        assert not w["b"].asked
        assert (await chat(w)).lease is not None
        assert len(w["a"].asked) == 2, "the next caller is served by the same provider"
        await nothing_is_left(w)


async def test_our_own_refused_credential_is_a_502_all_the_same(autojump_clock: MockClock) -> None:
    async with world(provider("own", "m"), script={"own": [CREDENTIALS]}) as w:
        with pytest.raises(UpstreamError):
            await chat(w)


async def test_a_refusal_in_the_middle_of_a_stream_is_no_fault_of_the_provider(autojump_clock: MockClock) -> None:
    breaks = UpstreamFailure(FailureKind.CREDENTIALS, "not any more", status=401)
    async with world(borrower(), script={"a": [streams(b"one", breaks=breaks)]}) as w:
        with pytest.raises(UpstreamError):
            await chat(w, stream=True)
        assert w.fleet.members["a"].standing.reason is None
        await chat(w)


async def test_the_limit_of_an_account_moves_its_request_on_and_stops_nobody_else(autojump_clock: MockClock) -> None:
    async with world(borrower("a"), borrower("b"), routing=PRIORITY, script={"a": [RATE_LIMITED]}) as w:
        assert (await chat(w)).lease is not None
        assert len(w["b"].asked) == 1
        await chat(w)
        assert len(w["a"].asked) == 2
    async with world(borrower("a"), script={"a": [RATE_LIMITED]}) as w:
        with pytest.raises(RateLimited):
            await chat(w)
        await chat(w)


async def test_a_model_that_one_account_does_not_have_is_not_set_aside(autojump_clock: MockClock) -> None:
    async with world(borrower("a"), script={"a": [NO_MODEL]}) as w:
        with pytest.raises(ProviderRefusal):
            await chat(w)
        await chat(w)


async def test_what_it_tells_of_its_limits_is_about_one_account(autojump_clock: MockClock) -> None:
    told = Step(quotas=Quotas())
    async with world(borrower("a"), script={"a": [told]}) as w:
        await chat(w)
        assert w["a"].asked[0][1].heard is None


async def test_its_own_faults_count_as_ever(autojump_clock: MockClock) -> None:
    async with world(borrower("a"), script={"a": [SERVER_ERROR] * 5}) as w:
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await chat(w)
        assert w.fleet.members["a"].standing.reason is not None


@pytest.mark.parametrize("lent", [None, Secret("")])
async def test_without_a_credential_nothing_is_sent_where_everybody_needs_one(
    lent: Secret | None, autojump_clock: MockClock
) -> None:
    hosted = provider("a", "m", borrows=True)
    async with world(hosted, borrower("b"), routing=PRIORITY) as w:
        with pytest.raises(Unauthorized, match="your own key"):
            await chat(w, lent)
        assert not w["a"].asked
        await nothing_is_left(w)
    async with world(borrower("b")) as w:  # at an address of its own it may need none
        await chat(w, lent)
        assert len(w["b"].asked) == 1


async def test_a_refusal_of_nobodys_credential_is_its_callers_error_too(autojump_clock: MockClock) -> None:
    async with world(borrower("b"), script={"b": [CREDENTIALS]}) as w:
        with pytest.raises(CallerError):
            await chat(w, None)
        await chat(w)
