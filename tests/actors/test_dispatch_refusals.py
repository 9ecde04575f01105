"""What an adapter refuses for the caller's sake, and bodies that cannot be sent twice."""

from __future__ import annotations

from math import inf

import attrs
import msgspec
import pytest
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.config.settings import RateLimits, Retry, Routing
from infermux.errors import (
    CallerLeft,
    DeadlineExceeded,
    InvalidRequest,
    NotCarried,
    RequestTimeout,
    UpstreamError,
    UpstreamTimeout,
)
from infermux.providers.interface import Answer
from infermux.providers.transport import Source, Stoppable
from tests.actors._scripted import HANGS, SERVER_ERROR, Step, World, provider, world

PRIORITY = Routing(strategy="priority")


@attrs.define(eq=False)
class Body:
    """An upload of which this much is known."""

    spent: bool = False
    waited: float = 0.0
    scope: Stoppable | None = None
    last: float = inf

    def open(self, model: str) -> Source:
        raise AssertionError("scripted adapters read no bodies")

    def close(self) -> None:
        """Nothing is kept."""


def uploading(w: World, body: Body, *, timeout: float | None = None) -> Run:
    run = w.run(timeout=timeout)
    run.call = msgspec.structs.replace(run.call, upload=body)
    return run


async def test_a_request_that_is_wrong_is_the_callers_error_at_once(autojump_clock: MockClock) -> None:
    refusing = Step(bug=InvalidRequest("top_k is no number", param="top_k"))
    a = provider("a", "m", rate_limits=RateLimits(requests_per_minute=1))
    async with world(a, provider("b", "m"), routing=PRIORITY, script={"a": [refusing]}) as w:
        with pytest.raises(InvalidRequest) as caught:
            await w.chat()
        assert caught.value.param == "top_k"
        await w.settled()
        assert (w.in_flight("a"), w["b"].asked) == (0, [])
        assert await w.answered_by() == "a", "nothing was sent, so nothing is charged"


NOT_HERE = Step(bug=NotCarried("no responses are kept here", param="previous_response_id"))


async def test_what_one_provider_cannot_be_given_goes_to_one_that_can(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script={"a": [NOT_HERE]}) as w:
        run = await w.chat()
        assert run.lease is not None
        assert (run.lease.provider, run.attempts, w.in_flight("a")) == ("b", 1, 0)


async def test_what_no_provider_can_be_given_is_refused_in_the_words_of_the_first(autojump_clock: MockClock) -> None:
    script = {"a": [NOT_HERE], "b": [Step(bug=NotCarried("nor here"))]}
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script=script) as w:
        run = w.run()
        with pytest.raises(NotCarried, match="kept here"):
            await run.begin()
        assert (len(w["b"].asked), run.attempts) == (1, 0)
        run.close()


async def test_a_failure_says_more_than_what_the_others_cannot_be_given(autojump_clock: MockClock) -> None:
    for script in ({"a": [NOT_HERE], "b": [SERVER_ERROR]}, {"a": [SERVER_ERROR], "b": [NOT_HERE]}):
        async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script=script) as w:
            with pytest.raises(UpstreamError):
                await w.chat()


async def test_a_request_stays_with_a_provider_where_the_next_one_cannot_be_given_it(autojump_clock: MockClock) -> None:
    script = {"a": [SERVER_ERROR], "b": [NOT_HERE]}
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, retry=Retry(), script=script) as w:
        run = await w.chat()
        assert run.lease is not None
        assert (run.lease.provider, run.attempts, len(w["b"].asked)) == ("a", 2, 1)


async def test_many_refusals_do_not_open_a_circuit(autojump_clock: MockClock) -> None:
    refusing = Step(bug=InvalidRequest("no"))
    async with world(provider("a", "m"), script={"a": [refusing] * 30}) as w:
        for _ in range(30):
            with pytest.raises(InvalidRequest):
                await w.chat()
        assert await w.answered_by() == "a"


async def test_a_body_can_go_to_another_provider_until_it_is_spent(autojump_clock: MockClock) -> None:
    for spent in (False, True):
        script = {"a": [SERVER_ERROR]}
        async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script=script) as w:
            run = uploading(w, Body(spent=spent))
            if spent:
                with pytest.raises(UpstreamError):
                    await run.begin()
            else:
                assert isinstance(await run.begin(), Answer)
            assert (len(w["b"].asked), run.attempts) == (0, 1) if spent else (1, 2)
            run.close()


@pytest.mark.parametrize(("bug", "told"), [(RequestTimeout("slow"), RequestTimeout), (CallerLeft(), CallerLeft)])
async def test_a_body_that_does_not_come_is_nobodys_failure_but_the_callers(
    bug: Exception, told: type[Exception], autojump_clock: MockClock
) -> None:
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script={"a": [Step(bug=bug)] * 20}) as w:
        for _ in range(20):
            run = uploading(w, Body())
            with pytest.raises(told):
                await run.begin()
            run.close()
        await w.settled()
        assert (w.in_flight("a"), w["b"].asked) == (0, [])
        w["a"].script.clear()
        assert await w.answered_by() == "a"


async def test_the_time_a_provider_waited_for_the_caller_is_not_its_latency(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [Step(seconds=10)]}) as w:
        run = uploading(w, Body(waited=9.0))
        await run.begin()
        await w.settled()
        assert w.fleet.members["a"].standing.response.value == pytest.approx(1.0)
        run.close()


async def test_an_upload_knows_the_attempts_scope_and_the_callers_deadline(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", timeout=5.0), script={"a": [HANGS, HANGS]}) as w:
        body = Body()
        run = uploading(w, body)
        with pytest.raises(UpstreamTimeout):
            await run.begin()
        assert body.scope is not None
        assert body.last == inf
        run = uploading(w, body, timeout=2.0)
        with pytest.raises(DeadlineExceeded):
            await run.begin()
        assert body.last == run.started_at + 2.0
        run.close()
