"""A stream that broke and was gone on with, as the official SDKs see it: one whole answer."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import openai
import pytest
import trio

from tests.e2e._claude import CLAUDE, claude_provider, claude_sdk
from tests.e2e._router import EITHER_WAY, HELLO, SAID, Router, in_order, provider, routing
from tests.mocks.anthropic_upstream import AnthropicUpstream
from tests.mocks.anthropic_upstream import Reply as ClaudeReply
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

CUT = Reply(cut_after=3, interval=0.01)
REST = Reply(tokens=(" mock", "."))
CUT_CLAUDE = ClaudeReply(cut_after=3, interval=0.01)
REST_CLAUDE = ClaudeReply(tokens=(" mock", "."))
MARK = ': infermux-rescued {"from":["one"],"to":"two","attempts":2}'


def rescuing(*providers: dict[str, Any], **more: Any) -> AbstractAsyncContextManager[Router]:
    return routing(*providers, rescue="continue", routing=in_order(), **more)


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_chats_are_whole_by_either_way_in(way: str) -> None:
    async with (
        OpenAIUpstream(default=CUT) as bad,
        OpenAIUpstream(default=REST) as good,
        rescuing(provider("one", bad), provider("two", good), way=way) as router,
        router.sdk() as sdk,
    ):
        stream = await sdk.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
        assert len({chunk.id for chunk in chunks}) == 1
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 5
        async with sdk.chat.completions.stream(model="gpt-4o", messages=HELLO) as helped:
            final = await helped.get_final_completion()
        assert (final.choices[0].message.content, final.choices[0].finish_reason) == (SAID, "stop")
        assert MARK in (await router.chat(stream=True)).text


async def test_responses_are_whole() -> None:
    async with (
        OpenAIUpstream(default=CUT) as bad,
        OpenAIUpstream(default=REST) as good,
        rescuing(provider("one", bad), provider("two", good)) as router,
        router.sdk() as sdk,
    ):
        async with sdk.responses.stream(model="gpt-4o", input="Hello") as stream:
            numbers = [event.sequence_number async for event in stream if hasattr(event, "sequence_number")]
            final = await stream.get_final_response()
        assert final.output_text == SAID
        assert numbers == list(range(len(numbers)))
        assert final.usage is not None
        assert final.usage.output_tokens > 5


async def test_messages_are_whole_whoever_goes_on() -> None:
    async with (
        AnthropicUpstream(default=CUT_CLAUDE) as bad,
        OpenAIUpstream(default=REST) as other,
        AnthropicUpstream(default=REST_CLAUDE) as same,
        rescuing(claude_provider("one", bad), provider("two", other, model_aliases={CLAUDE: "gpt-4o"})) as first,
        rescuing(claude_provider("one", bad), claude_provider("two", same)) as second,
    ):
        for router in (first, second):
            async with (
                claude_sdk(router) as sdk,
                sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream,
            ):
                assert "".join([text async for text in stream.text_stream]) == SAID
                final = await stream.get_final_message()
            assert final.stop_reason == "end_turn"
            assert final.usage.output_tokens > 5
        assert same.messages[0].json["messages"] == [*HELLO, {"role": "assistant", "content": "Hello from the"}]
        assert same.messages[0].json["max_tokens"] < 64


async def test_with_nobody_left_the_sdk_raises() -> None:
    async with OpenAIUpstream(default=CUT) as bad, rescuing(provider("one", bad)) as router, router.sdk() as sdk:
        stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "upstream_error"
        assert "[DONE]" not in (await router.chat(stream=True)).text


@pytest.mark.parametrize("asks", [True, False])
async def test_who_reads_trailers_gets_one(asks: bool) -> None:
    async with (
        OpenAIUpstream(default=CUT) as bad,
        OpenAIUpstream(default=REST) as good,
        rescuing(provider("one", bad), provider("two", good)) as router,
    ):
        body = json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{router.port}\r\nContent-Length: {len(body)}\r\n"
        head += "TE: trailers\r\n\r\n" if asks else "\r\n"
        stream = await trio.open_tcp_stream("127.0.0.1", router.port)
        async with stream:
            await stream.send_all(head.encode() + body)
            data = b""
            with trio.fail_after(30):
                while not data.endswith(b"\r\n\r\n") or b"\r\n0\r\n" not in data:
                    data += await stream.receive_some()
        assert (b"\r\ntrailer: x-infermux-rescued\r\n" in data) is asks
        end = data[data.index(b"\r\n0\r\n") + 5 :]
        assert end == (b"x-infermux-rescued: two; from=one; attempts=2\r\n\r\n" if asks else b"\r\n")


async def test_a_stream_that_did_not_break_says_nothing_of_it() -> None:
    async with OpenAIUpstream() as good, rescuing(provider("one", good)) as router:
        answer: httpx.Response = await router.chat(stream=True, headers={"TE": "trailers"})
        assert "rescued" not in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
