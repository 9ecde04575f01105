"""What a caller with OpenAI's SDK sees when Anthropic's API answers, beside what it sees of OpenAI's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
import yaml

from tests.e2e._claude import CLAUDE, FUNCTION, chat_calls, claude_provider
from tests.e2e._router import EITHER_WAY, HELLO, SAID, Router, in_order, provider, routing
from tests.mocks.anthropic_answers import SIGNATURE
from tests.mocks.anthropic_upstream import KEY, AnthropicUpstream, Reply, Tool, Usage
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.mocks.openai_upstream import Reply as ChatReply

pytestmark = pytest.mark.slow
SEED = Path(__file__).parents[1] / "config" / "seed" / "anthropic.yml"
OLDER = "claude-3-5-haiku-latest"  # has no structured output of its own


class Weather(pydantic.BaseModel):
    """What is asked for as JSON."""

    place: str
    degrees: int


SUN: Any = {"place": "Pau", "degrees": 30}


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_chat_is_answered_whole_and_streamed(way: str) -> None:
    usage = Usage(input_tokens=3, output_tokens=5, cache_read_input_tokens=4)
    async with (
        AnthropicUpstream(default=Reply(usage=usage)) as upstream,
        routing(claude_provider("one", upstream), way=way) as router,
        router.sdk() as sdk,
    ):
        raw = await sdk.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "system", "content": "Be brief."}, *HELLO], stop="X", seed=7
        )
        answer = raw.parse()
        assert answer.choices[0].message.content == SAID
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 5)
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == 4
        assert raw.headers["x-infermux-dropped"] == "seed"
        assert raw.headers["x-infermux-prompt-tokens"] == "7"
        sent = upstream.messages[0].json
        assert (sent["model"], sent["max_tokens"], sent["stop_sequences"]) == (CLAUDE, 64_000, ["X"])
        assert sent["system"] in ("Be brief.", [{"type": "text", "text": "Be brief."}])
        stream = await sdk.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 12


async def test_the_documented_example_is_routable() -> None:
    (declared,) = yaml.safe_load(SEED.read_text())["providers"]
    async with AnthropicUpstream(any_model=True) as upstream:
        declared["base_url"] = upstream.base_url
        async with routing(declared, environ={"ANTHROPIC_API_KEY": KEY}) as router:
            for name, model in declared["model_aliases"].items():
                answer = await router.chat(name)
                assert answer.json()["choices"][0]["message"]["content"] == SAID
                assert upstream.messages[-1].json["model"] == model
            await router.wait_for("anthropic", routable=True, health="healthy")


async def test_usage_is_not_streamed_to_callers_who_did_not_ask() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        router.sdk() as sdk,
    ):
        stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        assert all(chunk.usage is None and chunk.choices for chunk in [chunk async for chunk in stream])


def kinds(upstream: AnthropicUpstream, chats: OpenAIUpstream) -> dict[str, dict[str, Any]]:
    return {"anthropic": claude_provider("one", upstream), "openai": provider("one", chats)}


async def streamed(router: Router, **asked: Any) -> Any:
    """The final completion of the SDK's stream helper."""
    async with router.sdk() as sdk:
        completions: Any = sdk.chat.completions
        async with completions.stream(model="gpt-4o", **asked) as stream:
            return await stream.get_final_completion()


async def called(router: Router, *, stream: bool, **asked: Any) -> Any:
    if stream:
        return await streamed(router, **asked)
    async with router.sdk() as sdk:
        completions: Any = sdk.chat.completions
        return await completions.create(model="gpt-4o", **asked)


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_the_stream_helper_folds_a_stream(kind: str) -> None:
    async with (
        AnthropicUpstream() as upstream,
        OpenAIUpstream() as chats,
        routing(kinds(upstream, chats)[kind]) as router,
    ):
        final = await streamed(router, messages=HELLO)
        assert final.choices[0].message.content == SAID
        assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called_and_answered(kind: str, stream: bool) -> None:
    tools = (Tool(id="call_1", input={"place": "Pau"}), Tool(id="call_2"))
    calls = (("call_1", "weather", '{"place": "Pau"}'), ("call_2", "weather", "{}"))
    async with (
        AnthropicUpstream() as upstream,
        OpenAIUpstream() as chats,
        routing(kinds(upstream, chats)[kind]) as router,
    ):
        upstream.script += (Reply(tokens=(), tools=tools), Reply())
        chats.script += (chat_calls(*calls, stream=stream), ChatReply())
        first = await called(router, stream=stream, messages=HELLO, tools=[FUNCTION])
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        found = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
        assert found == [("call_1", "weather", {"place": "Pau"}), ("call_2", "weather", {})]
        results = [{"role": "tool", "tool_call_id": call.id, "content": call.id} for call in message.tool_calls]
        said = message.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True)
        for call in said["tool_calls"]:
            call["function"].pop("parsed_arguments", None)
            call.pop("index", None)
        second = await called(router, stream=False, messages=[*HELLO, said, *results], tools=[FUNCTION])
        assert second.choices[0].message.content == SAID
        if kind == "anthropic":
            turns = upstream.messages[1].json["messages"]
            assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
            assert [block["tool_use_id"] for block in turns[2]["content"]] == ["call_1", "call_2"]


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_is_kept_for_a_caller_that_cannot_carry_it_and_put_back_at_another_provider(
    stream: bool,
) -> None:
    script = Reply(thinking=("Where", "?"), redacted="opaque", tokens=(), tools=(Tool(id="call_1"),))
    async with (
        AnthropicUpstream() as upstream,
        routing(
            claude_provider("one", upstream), claude_provider("two", upstream), routing={"strategy": "round_robin"}
        ) as router,
    ):
        upstream.script += (script, Reply())
        asked: Any = {"tools": [FUNCTION], "reasoning_effort": "high"}
        first = await called(router, stream=stream, messages=HELLO, **asked)
        call = first.choices[0].message.tool_calls[0]
        assert first.choices[0].message.reasoning_content == "Where?"
        calls = [{"id": call.id, "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
        result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
        turns = [*HELLO, {"role": "assistant", "tool_calls": calls}, result]
        second = await called(router, stream=stream, messages=turns, **asked)
        assert second.choices[0].message.content == SAID
        sent = upstream.messages[1].json
        assert sent["messages"][1]["content"][:2] == [
            {"type": "thinking", "thinking": "Where?", "signature": SIGNATURE},
            {"type": "redacted_thinking", "data": "opaque"},
        ]
        assert sent["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("model", [CLAUDE, OLDER])
@pytest.mark.parametrize("stream", [False, True])
async def test_parse_gives_what_the_schema_says(model: str, stream: bool) -> None:
    native = model == CLAUDE
    reply = Reply(tokens=(json.dumps(SUN),)) if native else Reply(tokens=("Let me see.",), tools=(Tool(input=SUN),))
    async with (
        AnthropicUpstream(default=reply) as upstream,
        routing(claude_provider("one", upstream, model_aliases={"gpt-4o": model})) as router,
        router.sdk() as sdk,
    ):
        if stream:
            answer = await streamed(router, messages=HELLO, response_format=Weather)
        else:
            answer = await sdk.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Weather)
        assert answer.choices[0].message.parsed == Weather(place="Pau", degrees=30)
        assert answer.choices[0].finish_reason == "stop"
        sent = upstream.messages[0].json
        assert ("output_config" in sent, "tools" in sent) == (native, not native)


async def test_parse_of_openais_own_is_as_it_was() -> None:
    async with (
        OpenAIUpstream(default=ChatReply(tokens=(json.dumps(SUN),))) as upstream,
        routing(provider("one", upstream)) as router,
        router.sdk() as sdk,
    ):
        answer = await sdk.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Weather)
        assert answer.choices[0].message.parsed == Weather(place="Pau", degrees=30)


@pytest.mark.parametrize(
    ("reply", "error", "code"),
    [
        (Reply(status=400, message="messages: no"), openai.BadRequestError, "invalid_request_error"),
        (Reply(status=400, message="prompt is too long: 9 > 8"), openai.BadRequestError, "context_length_exceeded"),
        (Reply(status=413), openai.APIStatusError, "request_too_large"),
        (Reply(status=429), openai.RateLimitError, "rate_limited"),
        (Reply(status=529), openai.InternalServerError, "upstream_error"),
        (Reply(status=403), openai.InternalServerError, "upstream_error"),
        (Reply(body=b"{}"), openai.InternalServerError, "upstream_error"),
    ],
)
async def test_errors_are_those_of_the_sdk(reply: Reply, error: type[openai.APIStatusError], code: str) -> None:
    async with (
        AnthropicUpstream(default=reply) as upstream,
        routing(claude_provider("one", upstream)) as router,
        router.sdk() as sdk,
    ):
        with pytest.raises(error) as caught:
            await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert caught.value.code == code
        assert isinstance(caught.value.body, dict)


@pytest.mark.parametrize("first", [Reply(error_after=2), Reply(cut_after=2)])
async def test_a_translated_stream_that_breaks_has_no_clean_ending(first: Reply) -> None:
    async with AnthropicUpstream(default=first) as upstream, routing(claude_provider("one", upstream)) as router:
        answer = await router.chat(stream=True)
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        assert "[DONE]" not in events
        assert not any(choice["finish_reason"] for event in events[:-1] for choice in json.loads(event)["choices"])
        assert json.loads(events[-1])["error"]["code"] == "upstream_error"


async def test_a_translated_stream_that_lacks_only_its_last_event_is_whole() -> None:
    reply = Reply(stop=False)
    async with AnthropicUpstream(default=reply) as upstream, routing(claude_provider("one", upstream)) as router:
        answer = await router.chat(stream=True)
        assert '"finish_reason":"stop"' in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("first", [Reply(status=529), Reply(error_after=0), Reply(cut_after=0), Reply(reset=True)])
async def test_a_provider_of_another_type_takes_over(first: Reply) -> None:
    async with (
        AnthropicUpstream(default=first) as bad,
        OpenAIUpstream() as good,
        routing(claude_provider("bad", bad), provider("good", good), routing=in_order(aliases="equal")) as router,
    ):
        answer = await router.chat(stream=True)
        assert answer.headers["x-infermux-provider"] == "good"
        assert "Hello" in answer.text


async def test_what_cannot_be_carried_is_refused_when_the_caller_is_strict() -> None:
    async with AnthropicUpstream() as upstream, routing(claude_provider("one", upstream)) as router:
        answer = await router.chat(seed=7, headers={"X-Infermux-Strict": "true"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_request"
        assert "seed" in answer.json()["error"]["message"]
        assert not upstream.requests


async def test_the_bound_of_extra_body_takes_the_place_of_the_models_own() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream, extra_body={"max_tokens": 500, "top_k": 2})) as router,
    ):
        await router.chat()
        await router.chat(max_tokens=9)
        assert [(sent.json["max_tokens"], sent.json["top_k"]) for sent in upstream.messages] == [(500, 2), (9, 2)]


async def test_responses_are_answered_whole_and_streamed() -> None:
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream)) as router,
        router.sdk() as sdk,
    ):
        answer = await sdk.responses.create(model="gpt-4o", input="Hello")
        assert answer.output_text == SAID
        assert answer.usage is not None
        assert answer.usage.total_tokens == 12
        async with sdk.responses.stream(model="gpt-4o", input="Hello") as stream:
            final = await stream.get_final_response()
        assert final.output_text == SAID
        assert final.status == "completed"
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            await sdk.responses.create(model="gpt-4o", input="Hello", previous_response_id="resp_1")
