"""Responses that go on from one before, with the official SDK and two accounts that keep their own."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import openai
import pytest

from infermux.providers.dialects.neutral import Text
from tests.e2e._router import SAID, Router, in_order, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply
from tests.providers.dialects._openai_responses import answer, completion, unfold, written

pytestmark = pytest.mark.slow


@attrs.frozen(kw_only=True)
class Accounts:
    """Two providers of one model, `one` asked first, and the SDK in front of them."""

    router: Router
    sdk: openai.AsyncOpenAI
    one: OpenAIUpstream
    two: OpenAIUpstream

    async def create(self, **asked: Any) -> Any:
        """The response to whatever is asked."""
        responses: Any = self.sdk.responses
        return await responses.create(**asked)


@asynccontextmanager
async def accounts() -> AsyncGenerator[Accounts]:
    async with OpenAIUpstream(responses=True) as one, OpenAIUpstream(responses=True) as two:
        one.kept, two.kept = set(), set()
        declared = (provider("one", one), provider("two", two))
        async with routing(*declared, routing=in_order()) as router, router.sdk() as sdk:
            yield Accounts(router=router, sdk=sdk, one=one, two=two)


def says(upstream: OpenAIUpstream, response: str, *, stream: bool = False) -> None:
    """The next answer of `upstream` is kept by that id."""
    found = attrs.evolve(completion(Text(text=SAID)), id=response)
    if stream:
        events = tuple(event + b"\n\n" for event in written(unfold(found)).split(b"\n\n")[:-1])
        upstream.script.append(Reply(events=tuple(event.replace(b"resp_1", response.encode()) for event in events)))
    else:
        upstream.script.append(Reply(body=json.dumps({**answer(found), "id": response}).encode()))
    assert upstream.kept is not None
    upstream.kept.add(response)


async def test_a_conversation_stays_at_the_account_that_keeps_it() -> None:
    async with accounts() as both:
        asked: Any = {"model": "gpt-4o", "input": "Hello"}
        both.one.script.append(Reply(status=500))
        says(both.two, "resp_first")
        first = await both.create(**asked)
        assert first.id == "resp_first"
        says(both.two, "resp_second", stream=True)
        async with both.sdk.responses.stream(**asked, previous_response_id=first.id) as stream:
            second = await stream.get_final_response()
        assert second.id == "resp_second"
        says(both.two, "resp_third")
        third = await both.create(**asked, previous_response_id=second.id)
        assert (third.id, third.output_text) == ("resp_third", SAID)
        assert len(both.one.requests) == 1, "the one that failed"
        with pytest.raises(openai.BadRequestError) as caught:
            await both.create(**asked, previous_response_id="resp_of_yesterday")
        assert caught.value.code == "previous_response_not_found", "as the account itself says it"
        await both.router.web.post("/_infermux/providers/two/disable")
        with pytest.raises(openai.InternalServerError, match="two alone keeps the response") as left:
            await both.create(**asked, previous_response_id=third.id)
        assert (left.value.status_code, left.value.code) == (503, "no_healthy_providers")


async def test_a_response_that_cannot_be_reached_any_more_is_told_as_openai_does() -> None:
    async with accounts() as both:
        says(both.one, "resp_first")
        await both.create(model="gpt-4o", input="Hello")
        ignore: Any = {"provider": {"ignore": ["one"]}}
        with pytest.raises(openai.BadRequestError) as caught:
            await both.create(model="gpt-4o", input="And?", previous_response_id="resp_first", extra_body=ignore)
        error = caught.value
        assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
        assert error.type == "invalid_request_error"
        assert "leaves out one, which keeps it" in error.message


async def test_kept_responses_are_not_offered_themselves() -> None:
    async with accounts() as both:
        for ask in (both.sdk.responses.retrieve, both.sdk.responses.delete, both.sdk.responses.cancel):
            with pytest.raises(openai.NotFoundError, match=r"there is no (GET|DELETE|POST) /v1/responses/resp_1") as no:
                await ask("resp_1")
            assert no.value.code == "not_found"
        assert not both.one.requests
        assert not both.two.requests
