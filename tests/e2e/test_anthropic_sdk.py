"""What a caller with Anthropic's SDK sees, whichever API is behind the router."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
import trio

from tests.e2e._claude import CLAUDE, WEATHER, chat_calls, claude_provider, claude_sdk
from tests.e2e._router import EITHER_WAY, HELLO, SAID, in_order, provider, routing
from tests.mocks.anthropic_upstream import AnthropicUpstream, Reply, Tool, betas_of
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.mocks.openai_upstream import Reply as ChatReply

pytestmark = pytest.mark.slow
THINK: Any = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_message_is_answered_whole_and_streamed(way: str) -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream), way=way) as router,
        claude_sdk(router) as sdk,
    ):
        raw = await sdk.messages.with_raw_response.create(model=CLAUDE, max_tokens=64, messages=HELLO)
        message = await raw.parse()
        assert message.content[0].type == "text"
        assert message.content[0].text == SAID
        assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 5)
        assert raw.headers["x-infermux-provider"] == "one"
        assert raw.headers["request-id"] == raw.headers["x-request-id"]
        assert "x-infermux-dropped" not in raw.headers
        assert upstream.messages[0].json == {"model": CLAUDE, "max_tokens": 64, "messages": HELLO}
        async with sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream]) == SAID
            final = await stream.get_final_message()
        assert final.stop_reason == "end_turn"
        assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 5)


async def test_the_synchronous_sdk_is_answered() -> None:
    async with AnthropicUpstream() as upstream, routing(claude_provider("one", upstream)) as router:

        def talk() -> str:
            http_client = anthropic.DefaultHttpxClient(trust_env=False)
            with (
                anthropic.Anthropic(
                    base_url=router.url, api_key="unused", max_retries=0, http_client=http_client
                ) as sdk,
                sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream,
            ):
                return stream.get_final_text()

        assert await trio.to_thread.run_sync(talk) == SAID


async def test_thinking_and_tools_go_there_and_back_with_their_signatures() -> None:
    script = Reply(thinking=("Where", "?"), redacted="opaque", tokens=(), tools=(Tool(input={"place": "Pau"}), Tool()))
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        upstream.script += (script, Reply())
        async with sdk.messages.stream(
            model=CLAUDE, max_tokens=2048, thinking=THINK, tools=[WEATHER], messages=HELLO
        ) as stream:
            first = await stream.get_final_message()
        assert [block.type for block in first.content] == ["thinking", "redacted_thinking", "tool_use", "tool_use"]
        calls = [block for block in first.content if block.type == "tool_use"]
        assert [call.input for call in calls] == [{"place": "Pau"}, {}]
        results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "sun"} for call in calls]
        turns: Any = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        second = await sdk.messages.create(
            model=CLAUDE, max_tokens=2048, thinking=THINK, tools=[WEATHER], messages=turns
        )
        assert second.content[-1].type == "text"
        assert upstream.messages[1].json["messages"][1]["content"][0]["signature"]


async def test_tokens_are_counted_by_the_provider() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        raw = await sdk.messages.with_raw_response.count_tokens(model=CLAUDE, messages=HELLO)
        assert (await raw.parse()).input_tokens > 0
        assert "x-infermux-estimated" not in raw.headers
        assert upstream.requests[0].path == "/v1/messages/count_tokens"


async def test_the_version_of_the_sdk_goes_on() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        await sdk.messages.create(model=CLAUDE, max_tokens=64, messages=HELLO)
        assert upstream.messages[0].header("anthropic-version") == sdk.default_headers["anthropic-version"]


async def test_betas_go_on() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        await sdk.messages.create(
            model=CLAUDE,
            max_tokens=64,
            messages=HELLO,
            extra_headers={"anthropic-beta": "context-management-2025-06-27"},
            extra_body={"context_management": {"edits": []}},
        )
        assert betas_of(upstream.messages[0]) == ["context-management-2025-06-27"]
        assert upstream.messages[0].json["context_management"] == {"edits": []}


@pytest.mark.parametrize(
    ("reply", "error", "kind"),
    [
        (
            Reply(status=400, message="prompt is too long: 9 tokens > 8"),
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
        (Reply(status=413), anthropic.APIStatusError, "request_too_large"),
        (Reply(status=429, headers=(("retry-after", "3"),)), anthropic.RateLimitError, "rate_limit_error"),
        (Reply(status=529), anthropic.InternalServerError, "api_error"),
        (Reply(status=401), anthropic.InternalServerError, "api_error"),
        (Reply(hang=True), anthropic.InternalServerError, "timeout_error"),
    ],
)
async def test_errors_are_those_of_the_sdk(reply: Reply, error: type[anthropic.APIStatusError], kind: str) -> None:
    async with (
        AnthropicUpstream(default=reply) as upstream,
        routing(claude_provider("one", upstream, timeout="300ms" if reply.hang else "60s")) as router,
        claude_sdk(router) as sdk,
    ):
        with pytest.raises(error) as caught:
            await sdk.messages.create(model=CLAUDE, max_tokens=64, messages=HELLO)
        body: Any = caught.value.body
        assert body["type"] == "error"
        assert body["error"]["type"] == kind
        if kind == "rate_limit_error":
            assert caught.value.response.headers["retry-after"] == "3"


async def test_a_model_nobody_serves_is_not_found() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await sdk.messages.create(model="claude-none", max_tokens=64, messages=HELLO)
        body: Any = caught.value.body
        assert body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("first", [Reply(status=529), Reply(error_after=0), Reply(cut_after=0), Reply(reset=True)])
async def test_what_fails_before_any_content_is_answered_by_another_provider(first: Reply) -> None:
    async with (
        AnthropicUpstream(default=first) as bad,
        AnthropicUpstream() as good,
        routing(claude_provider("bad", bad), claude_provider("good", good), routing=in_order()) as router,
        claude_sdk(router) as sdk,
    ):
        async with sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream:
            assert await stream.get_final_text() == SAID
            assert stream.response.headers["x-infermux-provider"] == "good"
        assert len(bad.messages) == 1


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (Reply(error_after=2), "overloaded_error"),  # the provider's own word, for which agents wait and try again
        (Reply(cut_after=2), "api_error"),
        (Reply(reset_after=2), "api_error"),
    ],
)
async def test_what_breaks_after_content_is_told_as_an_error(first: Reply, kind: str) -> None:
    async with (
        AnthropicUpstream(default=first) as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        said: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream:
                said += [text async for text in stream.text_stream]
        body: Any = caught.value.body
        assert body["error"]["type"] == kind


async def test_what_lacks_only_its_last_event_is_whole() -> None:
    async with (
        AnthropicUpstream(default=Reply(stop=False)) as upstream,
        routing(claude_provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
        sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream,
    ):
        message = await stream.get_final_message()
        assert (await stream.get_final_text(), message.stop_reason) == (SAID, "end_turn")


# The same caller, and another API behind.


def chat_provider(kind: str, upstream: OpenAIUpstream) -> dict[str, Any]:
    more: dict[str, Any] = {"type": kind}
    if kind == "azure_openai":
        more["azure_api_version"] = upstream.api_version
    return provider(kind, upstream, **more)


KINDS: Any = [("openai", "openai"), ("azure_openai", "azure"), ("ollama", "ollama")]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
async def test_a_message_is_answered_by_chat_completions(kind: str, mode: Any) -> None:
    async with (
        OpenAIUpstream(mode) as upstream,
        routing(chat_provider(kind, upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        raw = await sdk.messages.with_raw_response.create(
            model="gpt-4o",
            max_tokens=64,
            system="Be brief.",
            messages=HELLO,
            stop_sequences=["X"],
            extra_body={"top_k": 3},
        )
        message = await raw.parse()
        assert message.content[0].type == "text"
        assert message.content[0].text == SAID
        assert message.stop_reason == "end_turn"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 5)
        assert raw.headers["x-infermux-dropped"] == "top_k"
        assert upstream.chats[0].json == {
            "model": "gpt-4o",
            "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
            "max_tokens": 64,
            "stop": ["X"],
        }
        async with sdk.messages.stream(model="gpt-4o", max_tokens=64, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream]) == SAID
            final = await stream.get_final_message()
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens == 5


async def test_a_message_is_answered_by_a_simulated_provider() -> None:
    simulated = {"name": "sim", "type": "simulated", "models": ["sim-1"], "simulate": {"first_token": "0s"}}
    async with routing(simulated) as router, claude_sdk(router) as sdk:
        message = await sdk.messages.create(model="sim-1", max_tokens=5, messages=HELLO)
        assert message.content[0].type == "text"
        async with sdk.messages.stream(model="sim-1", max_tokens=5, messages=HELLO) as stream:
            final = await stream.get_final_message()
        assert final.usage.output_tokens == 5


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_are_called_and_answered_through_chat_completions(streamed: bool) -> None:
    calls = (("call_1", "weather", '{"place": "Pau"}'), ("call_2", "weather", ""))
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router, claude_sdk(router) as sdk:
        upstream.script += (chat_calls(*calls, stream=streamed), ChatReply())
        messages: Any = sdk.messages  # what it is called with is put together here
        asked = {"model": "gpt-4o", "max_tokens": 64, "tools": [WEATHER], "tool_choice": {"type": "any"}}
        first: Any
        if streamed:
            async with messages.stream(messages=HELLO, **asked) as stream:
                first = await stream.get_final_message()
        else:
            first = await messages.create(messages=HELLO, **asked)
        assert first.stop_reason == "tool_use"
        found = [(block.id, block.input) for block in first.content if block.type == "tool_use"]
        assert found == [("call_1", {"place": "Pau"}), ("call_2", {})]
        results: Any = [{"type": "tool_result", "tool_use_id": id_, "content": id_} for id_, _ in found]
        turns: Any = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        second = await messages.create(messages=turns, **asked)
        assert second.content[0].type == "text"
        sent = upstream.chats[1].json
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool", "tool"]
        assert [message.get("tool_call_id") for message in sent["messages"][2:]] == ["call_1", "call_2"]
        assert sent["tool_choice"] == "required"


async def test_tokens_are_estimated_for_a_provider_that_does_not_count() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router, claude_sdk(router) as sdk:
        raw = await sdk.messages.with_raw_response.count_tokens(model="gpt-4o", messages=HELLO)
        assert (await raw.parse()).input_tokens > 0
        assert raw.headers["x-infermux-estimated"] == "true"
        assert not upstream.requests


async def test_what_cannot_be_carried_is_refused_when_the_caller_is_strict() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router, claude_sdk(router) as sdk:
        with pytest.raises(anthropic.BadRequestError, match="top_k") as caught:
            await sdk.messages.create(
                model="gpt-4o",
                max_tokens=64,
                messages=HELLO,
                extra_body={"top_k": 3},
                extra_headers={"X-Infermux-Strict": "true"},
            )
        body: Any = caught.value.body
        assert body["error"]["type"] == "invalid_request_error"
        assert not upstream.requests


async def test_a_tool_call_without_its_result_is_refused_by_name() -> None:
    turns: Any = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_9", "name": "x", "input": {}}]},
    ]
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router, claude_sdk(router) as sdk:
        with pytest.raises(anthropic.BadRequestError, match="toolu_9"):
            await sdk.messages.create(model="gpt-4o", max_tokens=64, messages=[*turns, *HELLO])


@pytest.mark.parametrize(
    ("reply", "error", "kind"),
    [
        (ChatReply(status=400), anthropic.BadRequestError, "invalid_request_error"),
        (ChatReply(status=404), anthropic.NotFoundError, "not_found_error"),
        (ChatReply(status=429), anthropic.RateLimitError, "rate_limit_error"),
        (ChatReply(status=500), anthropic.InternalServerError, "api_error"),
        (ChatReply(body=b"{}"), anthropic.InternalServerError, "api_error"),
    ],
)
async def test_errors_of_chat_completions_are_told_in_the_callers_words(
    reply: ChatReply, error: type[anthropic.APIStatusError], kind: str
) -> None:
    async with (
        OpenAIUpstream(default=reply) as upstream,
        routing(provider("one", upstream)) as router,
        claude_sdk(router) as sdk,
    ):
        with pytest.raises(error) as caught:
            await sdk.messages.create(model="gpt-4o", max_tokens=64, messages=HELLO)
        body: Any = caught.value.body
        assert (body["type"], body["error"]["type"]) == ("error", kind)


@pytest.mark.parametrize(
    "first", [ChatReply(error_after=2), ChatReply(cut_after=2), ChatReply(finish=False, done=False)]
)
async def test_a_translated_stream_that_breaks_has_no_clean_ending(first: ChatReply) -> None:
    async with OpenAIUpstream(default=first) as upstream, routing(provider("one", upstream)) as router:
        body = {"model": "gpt-4o", "max_tokens": 64, "messages": HELLO, "stream": True}
        answer = await router.web.post("/v1/messages", json=body)
        events = [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")]
        assert events[0] == "message_start"
        assert events[-1] == "error"
        assert "message_stop" not in events
        data = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
        assert data["error"]["type"] == "api_error"


async def test_a_provider_of_another_type_takes_over() -> None:
    async with (
        AnthropicUpstream(default=Reply(status=529)) as bad,
        OpenAIUpstream() as good,
        routing(
            claude_provider("bad", bad),
            provider("good", good, model_aliases={CLAUDE: "gpt-4o"}),
            routing=in_order(aliases="equal"),
        ) as router,
        claude_sdk(router) as sdk,
        sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=HELLO) as stream,
    ):
        assert await stream.get_final_text() == SAID
        assert stream.response.headers["x-infermux-provider"] == "good"
