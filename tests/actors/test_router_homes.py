"""A request that goes on from a response goes to whoever keeps that, or nowhere."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from trio.testing import MockClock

from infermux.actors.provider_messages import Verb
from infermux.actors.requests import request_run
from infermux.config.settings import Config, Queue, Routing
from infermux.errors import NoHealthyProviders, PreviousResponseNotFound, RateLimited, UpstreamError
from infermux.providers.interface import Answer, Endpoint
from infermux.secret import Secret
from tests.actors._scripted import (
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    Step,
    Taken,
    World,
    provider,
    streams,
    world,
)

KEPT = Step(response="resp_b", body=b"{}")
KEYS = (Secret("sk-canary-one"), Secret("sk-canary-two"))
BOTH = (provider("a", "m"), provider("b", "m"))


async def respond(w: World, *, stream: bool = False, **fields: Any) -> str:
    """One response to its end; returns who gave it."""
    body = msgspec.json.encode({"model": "m", "input": "hi", "stream": stream, **fields})
    run = request_run(w.fleet, Endpoint.RESPONSES, body)
    try:
        if not isinstance(await run.begin(), Answer):
            await run.pump(Taken())
    finally:
        run.close()
    assert run.lease is not None, "an answered run has its lease"
    return run.lease.provider


async def kept_by_b(w: World, **fields: Any) -> None:
    """Let `b` keep `resp_b`; `a` is asked first otherwise."""
    w["b"].script.append(KEPT)
    assert await respond(w, provider={"only": ["b"]}, **fields) == "b"


async def test_it_goes_where_the_response_is_kept(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        assert await respond(w) == "a"
        for _ in range(3):
            assert await respond(w, previous_response_id="resp_b") == "b"


async def test_a_streamed_response_is_remembered_too(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        w["b"].script.append(streams(b"one", response="resp_b"))
        assert await respond(w, stream=True, provider={"only": ["b"]}) == "b"
        assert await respond(w, stream=True, previous_response_id="resp_b") == "b"


async def test_what_nobody_knows_of_goes_anywhere(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        assert await respond(w, previous_response_id="resp_of_yesterday") == "a"


async def test_what_is_not_to_be_stored_is_not_remembered(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w, store=False)
        assert len(w.fleet.homes) == 0
        assert await respond(w, previous_response_id="resp_b") == "a"


async def test_a_failure_there_is_not_tried_elsewhere(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        w["b"].script.append(SERVER_ERROR)
        with pytest.raises(UpstreamError, match="provider b"):
            await respond(w, previous_response_id="resp_b")
        assert not w["a"].asked


async def test_a_provider_that_takes_nothing_now_is_a_503_with_its_reason(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        await w.fleet.command("b", Verb.DISABLE)
        with pytest.raises(NoHealthyProviders, match=r"\(b: disabled\); b alone keeps the response it goes on from"):
            await respond(w, previous_response_id="resp_b")
        assert not w["a"].asked


async def test_a_limit_there_is_a_429_and_can_be_waited_for(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        w["b"].script.append(RATE_LIMITED)
        for _ in range(2):
            with pytest.raises(RateLimited):
                await respond(w, previous_response_id="resp_b")
    async with world(*BOTH, routing=PRIORITY, queue=Queue(max_wait=60.0)) as w:
        await kept_by_b(w)
        w["b"].script.append(RATE_LIMITED)
        with pytest.raises(RateLimited):
            await respond(w, previous_response_id="resp_b")
        assert await respond(w, previous_response_id="resp_b") == "b"


async def test_a_provider_that_is_gone_took_its_responses_along(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        await w.fleet.remove("b")
        with pytest.raises(PreviousResponseNotFound, match="keeps it, b, is no longer here") as caught:
            await respond(w, previous_response_id="resp_b")
        error = caught.value
        assert (error.status, error.code, error.param) == (400, "previous_response_not_found", "previous_response_id")
        assert error.message.startswith("Previous response with id 'resp_b' not found")


async def test_a_reload_keeps_what_is_known(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        heavier = attrs.evolve(BOTH[1], weight=2.0)
        await w.fleet.reload(Config(providers=(BOTH[0], heavier), routing=PRIORITY, retry=w.fleet.config.retry))
        assert await respond(w, previous_response_id="resp_b") == "b"


async def test_another_model_than_its_provider_has_cannot_go_on(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", "other"), provider("b", "m"), routing=PRIORITY) as w:
        await kept_by_b(w)
        with pytest.raises(PreviousResponseNotFound, match="b, does not serve the model 'other'"):
            await respond(w, model="other", previous_response_id="resp_b")


async def test_a_fallback_model_of_the_same_provider_can(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="priority", fallbacks={"m": ("spare",)})
    async with world(provider("a", "m"), provider("b", "spare"), routing=routing) as w:
        w["b"].script.append(KEPT)
        assert await respond(w, model="spare") == "b"
        assert await respond(w, previous_response_id="resp_b") == "b"
        assert w["b"].models == ["spare", "spare"]


@pytest.mark.parametrize("wish", [{"ignore": ["b"]}, {"only": ["a"]}])
async def test_a_wish_that_leaves_its_provider_out_is_told(wish: dict[str, Any], autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        with pytest.raises(PreviousResponseNotFound, match="leaves out b, which keeps it"):
            await respond(w, previous_response_id="resp_b", provider=wish)


async def test_a_wish_that_allows_its_provider_changes_nothing(autojump_clock: MockClock) -> None:
    async with world(*BOTH, routing=PRIORITY) as w:
        await kept_by_b(w)
        for wish in ({"order": ["a", "b"]}, {"only": ["a", "b"]}, {"allow_fallbacks": False}, {"sort": "latency"}):
            assert await respond(w, previous_response_id="resp_b", provider=wish) == "b"
        assert not w["a"].asked


async def test_it_is_asked_for_with_the_same_key(autojump_clock: MockClock) -> None:
    async with world(provider("b", "m", api_keys=KEYS)) as w:
        for number in range(8):
            w["b"].script.append(Step(response=f"resp_{number}"))
            await respond(w, input=f"question {number}")
        first = [call.key for _, call in w["b"].asked]
        assert set(first) == set(KEYS), "both were used"
        for number in range(8):
            await respond(w, input=f"another {number}", previous_response_id=f"resp_{number}")
        assert [call.key for _, call in w["b"].asked[8:]] == first
