"""A stream that breaks after its first content: told in-band, never ended cleanly, never retried."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e._router import EITHER_WAY, HELLO, PATIENCE, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("way", EITHER_WAY)]

IDLE = {"timeouts": {"idle": "200ms"}}
FAULTS = {
    "cut": (Reply(cut_after=2), "upstream_error"),
    "reset": (Reply(reset_after=2), "upstream_error"),
    "cut without chunks": (Reply(cut_after=2, framing="close"), "upstream_error"),
    "ended without an end": (Reply(finish=False, done=False), "upstream_error"),
    "stalled": (Reply(stall_after=2), "idle_timeout"),
    "an in-band error": (Reply(error_after=2, interval=0.03), "upstream_error"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_that_breaks_ends_in_one_error_event_and_makes_the_sdk_raise(way: str, fault: str) -> None:
    reply, code = FAULTS[fault]
    async with (
        OpenAIUpstream(default=reply) as upstream,
        OpenAIUpstream() as other,
        routing(
            provider("one", upstream, **(IDLE if code == "idle_timeout" else {})),
            provider("two", other),
            way=way,
            routing={"strategy": "priority"},
        ) as router,
        router.sdk() as sdk,
    ):
        stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        said = ""
        with pytest.raises(openai.APIError) as caught:  # noqa: PT012 - what came before the error counts too
            async for chunk in stream:
                said += chunk.choices[0].delta.content or ""
        assert said.startswith("Hello from")
        assert caught.value.code == code
        assert "one" in caught.value.message
        answer = await router.chat(stream=True)
        events = answer.text.split("\n\n")
        assert events.pop() == ""
        assert "[DONE]" not in answer.text
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == code
        assert sum('"error"' in event for event in events) == 1
        assert other.chats == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply(cut_after=0),
        Reply(reset_after=0),
        Reply(stall_after=0),
        Reply(error_after=0),
        Reply(finish=False, tokens=()),
    ],
    ids=["cut", "reset", "stalled", "in-band error", "ended without content"],
)
async def test_a_stream_that_breaks_before_its_first_content_is_replaced_unseen(way: str, reply: Reply) -> None:
    async with (
        OpenAIUpstream(default=reply) as bad,
        OpenAIUpstream() as good,
        routing(
            provider("bad", bad, timeout="100ms"), provider("good", good), way=way, routing={"strategy": "priority"}
        ) as router,
    ):
        answer = await router.chat(stream=True)
        assert answer.headers["x-infermux-provider"] == "good"
        assert answer.text.count('"role": "assistant"') == 1
        assert answer.text.endswith("data: [DONE]\n\n")
        assert "error" not in answer.text


async def test_the_callers_own_time_limit_also_ends_a_stream(way: str) -> None:
    default = Reply(endless=True, interval=0.02)
    async with OpenAIUpstream(default=default) as upstream, routing(provider("one", upstream), way=way) as router:
        answer = await router.chat(stream=True, headers={"X-Infermux-Timeout": "1s"})
        assert answer.status_code == 200
        assert _last(answer.text)["error"]["code"] == "deadline_exceeded"


async def test_a_total_timeout_ends_a_stream(way: str) -> None:
    default = Reply(endless=True, interval=0.02)
    settings = {"timeouts": {"total": "1s"}}
    async with (
        OpenAIUpstream(default=default) as upstream,
        routing(provider("one", upstream, **settings), way=way) as router,
    ):
        answer = await router.chat(stream=True)
        assert _last(answer.text)["error"]["code"] == "total_timeout"


async def test_a_steady_stream_outlives_its_idle_and_first_token_timeouts(way: str) -> None:
    default = Reply(tokens=tuple("abcdefghij"), interval=0.2)
    settings = {"timeout": "1500ms", "timeouts": {"idle": "1500ms"}}
    async with (
        OpenAIUpstream(default=default) as upstream,
        routing(provider("one", upstream, **settings), way=way) as router,
    ):
        answer = await router.chat(stream=True)
        assert answer.text.endswith("data: [DONE]\n\n")


async def test_each_token_is_passed_on_when_it_comes(way: str) -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), way=way) as router,
        router.sdk(timeout=PATIENCE) as sdk,
    ):
        for count in (1, 2, 5):
            upstream.script.append(Reply(stall_after=count))  # whatever waits for more waits for ever
            said = 0
            async with await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
                async for chunk in stream:
                    said += bool(chunk.choices[0].delta.content)
                    if said == count:
                        break
            assert said == count


def _last(text: str) -> Any:
    assert "[DONE]" not in text
    return json.loads(text.split("\n\n")[-2].removeprefix("data: "))
