"""The mock of Anthropic's API keeps its promises: it refuses what the real one refuses, and streams as that does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import pytest

from tests.mocks.anthropic_answers import SIGNATURE
from tests.mocks.anthropic_rules import Refusal, check_messages, decode
from tests.mocks.anthropic_upstream import KEY, MODELS, AnthropicUpstream, Reply, Tool

MODEL = MODELS[0]
HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
USE: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
CALL: dict[str, Any] = {"role": "assistant", "content": [USE]}
RESULT: Any = {"type": "tool_result", "tool_use_id": "t1", "content": "seen"}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


@asynccontextmanager
async def client(upstream: AnthropicUpstream) -> AsyncGenerator[anthropic.AsyncAnthropic]:
    http_client = anthropic.DefaultAsyncHttpxClient(trust_env=False)
    async with anthropic.AsyncAnthropic(
        base_url=upstream.base_url, api_key=KEY, max_retries=0, http_client=http_client
    ) as sdk:
        yield sdk


def request(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 2048, "messages": HELLO, **more}


def said(*blocks: dict[str, Any]) -> list[Any]:
    """Messages whose answer, with `blocks`, was asked on."""
    return [*HELLO, {"role": "assistant", "content": list(blocks)}, *HELLO]


def answered(*blocks: dict[str, Any]) -> list[Any]:
    return [*HELLO, CALL, {"role": "user", "content": list(blocks)}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": HELLO, "max_tokens": 1}, "model: Field required"),
        ({"messages": HELLO, "model": MODEL}, "max_tokens: Field required"),
        (request(max_tokens=0), "max_tokens"),
        (request(max_tokens=1.5), "max_tokens"),
        (request(max_tokens=500_000), "maximum allowed"),
        (request(nonsense=1), "nonsense: Extra inputs are not permitted"),
        (request(max_completion_tokens=1), "max_completion_tokens: Extra"),
        (request(context_management={}), "context_management: Extra"),
        (request(temperature=1.5), "temperature: range"),
        (request(stop_sequences=[" "]), "stop_sequences"),
        (request(metadata={"team": "a"}), "metadata"),
        (request(stream="yes"), "stream"),
        (request(messages=[]), "at least one message"),
        (request(messages=[{"role": "assistant", "content": "x"}]), "first message must use"),
        (request(messages=[{"role": "system", "content": "x"}]), "system"),
        (request(messages=[{"role": "user", "content": ""}]), "non-empty"),
        (request(messages=[{"role": "user", "content": []}]), "non-empty"),
        (request(messages=[{"role": "user", "content": "x", "name": "y"}]), "name: Extra"),
        (request(messages=said({"type": "text", "text": " "})), "non-whitespace"),
        (request(messages=said({"type": "text"})), "text: Field required"),
        (request(messages=said({"type": "image", "source": {}})), "does not match"),
        (request(messages=said({"type": "thinking", "thinking": "x"})), "signature: Field required"),
        (request(messages=said({"type": "thinking", "thinking": "x", "signature": ""})), "Invalid `signature`"),
        (
            request(messages=said({"type": "redacted_thinking", "data": "x", "cache_control": {"type": "ephemeral"}})),
            "cache_control: Extra",
        ),
        (request(messages=said(USE)), "without `tool_result` blocks"),
        (request(messages=[*HELLO, CALL]), "without `tool_result` blocks"),
        (request(messages=[{"role": "user", "content": [RESULT]}]), "unexpected `tool_use_id`"),
        (request(messages=answered(RESULT, RESULT)), "unexpected `tool_use_id`"),
        (request(messages=answered({"type": "text", "text": "x"}, RESULT)), "must come first"),
        (request(messages=[*HELLO, {"role": "assistant", "content": "x "}]), "trailing whitespace"),
        (request(tools=[{"name": "x"}]), "input_schema: Field required"),
        (request(tools=[TOOL, TOOL]), "unique"),
        (request(tools=[{**TOOL, "parameters": {}}]), "parameters: Extra"),
        (request(tool_choice={"type": "auto"}), "while providing tools"),
        (request(tools=[TOOL], tool_choice={"type": "tool", "name": "y"}), "not found in provided tools"),
        (request(tools=[TOOL], tool_choice={"type": "required"}), "does not match"),
        (request(thinking={"type": "enabled", "budget_tokens": 1}), "1024"),
        (request(thinking=THINKING, max_tokens=1000), "must be greater than"),
        (request(thinking=THINKING, temperature=0), "temperature"),
        (request(thinking=THINKING, tools=[TOOL], tool_choice={"type": "any"}), "forces tool use"),
        (request(thinking=THINKING, messages=answered(RESULT)), "must start with a thinking block"),
        (request(system=[{"type": "image", "source": {}}]), "system.0"),
    ],
)
def test_what_the_api_refuses_is_refused(body: Any, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_messages(body)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        request(),
        request(messages=[*HELLO, *HELLO]),
        request(messages=answered(RESULT, {"type": "text", "text": "x"})),
        request(messages=[*HELLO, {"role": "assistant", "content": "The answer is"}]),
        request(system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}], tools=[TOOL]),
        request(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]),
        request(
            thinking=THINKING,
            messages=[
                *HELLO,
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "x", "signature": SIGNATURE}, USE],
                },
                {"role": "user", "content": [RESULT]},
            ],
        ),
    ],
)
def test_what_the_api_takes_is_taken(body: Any) -> None:
    check_messages(body)


def test_fields_of_betas_are_known_with_a_beta() -> None:
    check_messages(request(context_management={}), betas=("context-management-2025-06-27",))


def test_sampling_is_refused_since_the_second_version() -> None:
    body = request(temperature=1)
    check_messages(body, version="2023-06-01")
    with pytest.raises(Refusal, match=r"temperature: Extra"):
        check_messages(body, version="2026-10-21")


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(Refusal):
        decode(b'{"a": 1, "a": 2}')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"anthropic-version": "2023-06-01"}, 401),
        ({"anthropic-version": "2023-06-01", "x-api-key": "wrong"}, 401),
        ({"anthropic-version": "2023-06-01", "authorization": "Bearer wrong"}, 401),
        ({"anthropic-version": "2023-06-01", "authorization": f"Bearer {KEY}"}, 200),
        ({"x-api-key": KEY}, 400),
        ({"anthropic-version": "2020-01-01", "x-api-key": KEY}, 400),
        ({"anthropic-version": "2023-06-01", "x-api-key": KEY}, 200),
        ({"anthropic-version": "2026-10-21", "x-api-key": KEY}, 200),
    ],
)
async def test_the_head_of_a_request_is_looked_at(headers: dict[str, str], status: int) -> None:
    async with AnthropicUpstream() as upstream, httpx.AsyncClient(trust_env=False) as web:
        answer = await web.post(f"{upstream.base_url}/v1/messages", json=request(), headers=headers)
        assert answer.status_code == status
        assert answer.headers["request-id"]


@pytest.mark.slow
async def test_the_sdk_gets_the_same_whole_and_streamed() -> None:
    tools = (Tool(input={"place": "Pau"}), Tool())
    reply = Reply(thinking=("Hm", "."), redacted="r", tools=tools)
    async with AnthropicUpstream(default=reply) as upstream, client(upstream) as sdk:
        asked: Any = {"model": MODEL, "max_tokens": 2048, "messages": HELLO, "tools": [TOOL]}
        messages: Any = sdk.messages
        whole = await messages.create(**asked)
        async with messages.stream(**asked) as stream:
            folded = await stream.get_final_message()
        assert [block.type for block in whole.content] == [
            "thinking",
            "redacted_thinking",
            "text",
            "tool_use",
            "tool_use",
        ]
        left_out = {"id"}
        for one, other in zip(whole.content, folded.content, strict=True):
            assert one.model_dump(exclude=left_out, exclude_none=True) == other.model_dump(
                exclude={*left_out, "parsed_output"}, exclude_none=True
            )
        assert (folded.stop_reason, folded.usage.output_tokens) == ("tool_use", 5)


@pytest.mark.slow
async def test_models_are_listed_in_pages_and_tokens_counted() -> None:
    async with AnthropicUpstream() as upstream, client(upstream) as sdk:
        assert [model.id async for model in await sdk.models.list()] == list(MODELS)
        assert (await sdk.messages.count_tokens(model=MODEL, messages=HELLO)).input_tokens > 0
