"""What a caller of responses with the official SDK sees, whatever kind of provider answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import openai
import pytest
from openai.types.responses import ParsedResponse
from pydantic import BaseModel

from infermux.providers.dialects.neutral import Text
from tests.e2e._claude import chat_calls, claude_provider
from tests.e2e._router import EITHER_WAY, SAID, Router, provider, routing
from tests.mocks.anthropic_answers import SIGNATURE
from tests.mocks.anthropic_upstream import AnthropicUpstream, Reply, Tool
from tests.mocks.bedrock_upstream import BEARER, HAIKU, REGION, BedrockUpstream
from tests.mocks.bedrock_upstream import Reply as BedrockReply
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.mocks.openai_upstream import Reply as ChatReply
from tests.providers.dialects._openai_responses import answer, completion, unfold, written

pytestmark = pytest.mark.slow

FUNCTION: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a place",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
    "strict": False,
}
CHATS = ("compatible", "azure_openai", "ollama")
KINDS = (*CHATS, "anthropic", "bedrock")
"""The kinds of providers that are no OpenAI: what is `compatible` has no endpoint for responses."""


class Weather(BaseModel):
    """What is asked for as JSON."""

    place: str


@attrs.frozen(kw_only=True)
class Reached:
    """A router in front of one upstream, and the SDK in front of the router."""

    router: Router
    sdk: openai.AsyncOpenAI
    upstream: Any
    kind: str

    def says(self, text: str) -> None:
        """The next answer is `text`."""
        match self.kind:
            case "anthropic":
                self.upstream.script.append(Reply(tokens=(text[:3], text[3:])))
            case "bedrock":
                self.upstream.script.append(BedrockReply(content=({"text": text},)))
            case _:
                self.upstream.script.append(ChatReply(tokens=(text[:3], text[3:])))

    def calls(self, *, stream: bool) -> None:
        """The next answer calls the weather tool for Pau, then for Oslo."""
        places = ("Pau", "Oslo")
        match self.kind:
            case "anthropic":
                tools = tuple(Tool(name="weather", id=f"toolu_{place}", input={"place": place}) for place in places)
                self.upstream.script.append(Reply(tokens=(), tools=tools))
            case "bedrock":
                content: Any = [
                    {"toolUse": {"toolUseId": f"tooluse_{place}", "name": "weather", "input": {"place": place}}}
                    for place in places
                ]
                self.upstream.script.append(BedrockReply(content=tuple(content), stop="tool_use"))
            case _:
                made = [(f"call_{place}", "weather", json.dumps({"place": place})) for place in places]
                self.upstream.script.append(chat_calls(*made, stream=stream))

    async def create(self, **asked: Any) -> Any:
        """The response to whatever is asked."""
        responses: Any = self.sdk.responses
        return await responses.create(model="gpt-4o", **asked)

    @property
    def sent(self) -> Any:
        """The last request that the upstream got."""
        return self.upstream.requests[-1].json


@asynccontextmanager
async def reaching(kind: str, way: str = "serve", **more: Any) -> AsyncGenerator[Reached]:
    upstream: Any
    match kind:
        case "anthropic":
            upstream = AnthropicUpstream()
        case "bedrock":
            upstream = BedrockUpstream()
        case "openai":
            upstream = OpenAIUpstream(responses=True)
        case "azure_openai":
            upstream = OpenAIUpstream("azure")
        case "ollama":
            upstream = OpenAIUpstream("ollama")
        case _:
            upstream = OpenAIUpstream()
    async with upstream, routing(_declared(kind, upstream, **more), way=way) as router, router.sdk() as sdk:
        yield Reached(router=router, sdk=sdk, upstream=upstream, kind=kind)


def _declared(kind: str, upstream: Any, **more: Any) -> dict[str, Any]:
    match kind:
        case "anthropic":
            return claude_provider("one", upstream, **more)
        case "bedrock":
            return {
                "name": "one",
                "type": "bedrock",
                "api_key": BEARER,
                "region": REGION,
                "base_url": upstream.base_url,
                "models": [HAIKU],
                "model_aliases": {"gpt-4o": HAIKU},
                "health_check": {"disabled": True},
                **more,
            }
        case "azure_openai":
            return provider("one", upstream, type=kind, azure_api_version=upstream.api_version, **more)
        case "ollama":
            return provider("one", upstream, type=kind, **more)
        case _:
            return provider("one", upstream, **more)


async def streamed(reached: Reached, **asked: Any) -> tuple[list[Any], ParsedResponse[Any]]:
    """The events and the final response of the SDK's stream helper."""
    async with reached.sdk.responses.stream(model="gpt-4o", **asked) as stream:
        events = [event async for event in stream]
        return events, await stream.get_final_response()


@pytest.mark.parametrize("way", EITHER_WAY)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_response_is_answered_whole_and_streamed(kind: str, way: str) -> None:
    async with reaching(kind, way) as reached:
        for _ in range(2):
            reached.says(SAID)
        found = await reached.sdk.responses.create(model="gpt-4o", input="Hello", instructions="Be brief.")
        assert found.output_text == SAID
        assert found.status == "completed"
        assert found.usage is not None
        assert (found.usage.input_tokens, found.usage.output_tokens) == (7, 5)
        events, final = await streamed(reached, input="Hello")
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert final.output_text == SAID
        assert final.usage is not None
        assert final.usage.total_tokens == 12


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_tools_are_called_in_parallel_and_answered(kind: str, stream: bool) -> None:
    async with reaching(kind) as reached:
        reached.calls(stream=stream)
        reached.says(SAID)
        asked: Any = {"input": [{"role": "user", "content": "Weather?"}], "tools": [FUNCTION]}
        first: Any
        if stream:
            events, first = await streamed(reached, **asked)
            done = [event.item for event in events if event.type == "response.output_item.done"]
            assert [(item.id, item.call_id, item.arguments) for item in done] == [
                (item.id, item.call_id, item.arguments) for item in first.output
            ]
        else:
            first = await reached.sdk.responses.parse(model="gpt-4o", **asked)
        calls = [item for item in first.output if item.type == "function_call"]
        assert [json.loads(call.arguments) for call in calls] == [{"place": "Pau"}, {"place": "Oslo"}]
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
        given: Any = [*asked["input"], *(item.to_dict() for item in first.output), *results]
        found = await reached.sdk.responses.create(model="gpt-4o", input=given, tools=[FUNCTION])
        assert found.output_text == SAID
        said = json.dumps(reached.sent)
        for call in calls:
            assert said.count(call.call_id) == 2, "a call and its result"


@pytest.mark.parametrize("kind", KINDS)
async def test_parse_gives_the_object_whole_and_streamed(kind: str) -> None:
    async with reaching(kind) as reached:
        for _ in range(2):
            reached.says('{"place":"Pau"}')
        asked: Any = {"input": "Where?", "text_format": Weather}
        found = await reached.sdk.responses.parse(model="gpt-4o", **asked)
        assert found.output_parsed == Weather(place="Pau")
        _, final = await streamed(reached, **asked)
        assert final.output_parsed == Weather(place="Pau")


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_goes_back_with_its_signature(stream: bool) -> None:
    async with reaching("anthropic") as reached:
        tool = Tool(name="weather", id="toolu_1", input={"place": "Pau"})
        reached.upstream.script.append(Reply(thinking=("Let me ", "see."), redacted="opaque", tools=(tool,)))
        asked: Any = {
            "input": [{"role": "user", "content": "Weather?"}],
            "tools": [FUNCTION],
            "reasoning": {"effort": "high", "summary": "auto"},
        }
        first: Any
        if stream:
            _, first = await streamed(reached, **asked)
        else:
            first = await reached.sdk.responses.parse(model="gpt-4o", **asked)
        shown = next(item for item in first.output if item.type == "reasoning")
        assert [part.text for part in shown.summary] == ["Let me see."]
        result = {"type": "function_call_output", "call_id": "toolu_1", "output": "sunny"}
        asked["input"] += [*(item.to_dict() for item in first.output), result]
        await reached.create(**asked)
        blocks = reached.sent["messages"][1]["content"]
        assert blocks[0] == {"type": "thinking", "thinking": "Let me see.", "signature": SIGNATURE}
        assert blocks[1] == {"type": "redacted_thinking", "data": "opaque"}


async def test_thinking_is_put_back_for_callers_that_keep_only_the_calls() -> None:
    async with reaching("anthropic") as reached:
        tool = Tool(name="weather", id="toolu_1", input={"place": "Pau"})
        reached.upstream.script.append(Reply(thinking=("Let me see.",), tools=(tool,)))
        question: Any = {"role": "user", "content": "Weather?"}
        more: Any = {"tools": [FUNCTION], "reasoning": {"effort": "high"}}
        first = await reached.create(input=[question], **more)
        call = next(item for item in first.output if item.type == "function_call").to_dict()
        result = {"type": "function_call_output", "call_id": "toolu_1", "output": "sunny"}
        given: Any = [question, call, result]
        await reached.create(input=given, **more)
        assert reached.sent["messages"][1]["content"][0]["signature"] == SIGNATURE


@pytest.mark.parametrize("kind", KINDS)
async def test_an_earlier_response_is_refused_where_nobody_kept_it(kind: str) -> None:
    async with reaching(kind) as reached:
        with pytest.raises(openai.BadRequestError) as caught:
            await reached.sdk.responses.create(model="gpt-4o", input="And?", previous_response_id="resp_1")
        assert caught.value.param == "previous_response_id"
        assert "send the whole conversation" in caught.value.message


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_provider_that_speaks_responses_is_given_them_as_they_are(way: str) -> None:
    whole = json.dumps(answer(completion(Text(text=SAID)))).encode()
    events = tuple(event + b"\n\n" for event in written(unfold(completion(Text(text=SAID)))).split(b"\n\n")[:-1])
    async with reaching("openai", way) as reached:
        reached.upstream.script += [ChatReply(body=whole), ChatReply(events=events)]
        found = await reached.sdk.responses.create(model="gpt-4o", input="And?", previous_response_id="resp_1")
        assert found.output_text == SAID
        assert reached.sent == {"model": "gpt-4o", "input": "And?", "previous_response_id": "resp_1"}
        _, final = await streamed(reached, input="And?", previous_response_id="resp_1")
        assert final.output_text == SAID
        assert {request.path for request in reached.upstream.requests} == {"/v1/responses"}


@pytest.mark.parametrize("kind", CHATS)
async def test_what_is_dropped_is_named_and_refused_on_demand(kind: str) -> None:
    async with reaching(kind) as reached:
        asked: Any = {"model": "gpt-4o", "input": "Hi", "tools": [{"type": "web_search"}], "truncation": "auto"}
        raw = await reached.router.web.post("/v1/responses", json=asked)
        assert raw.headers["x-infermux-dropped"] == "tools.web_search, truncation"
        del asked["model"]
        with pytest.raises(openai.BadRequestError) as caught:
            await reached.create(**asked, extra_headers={"X-Infermux-Strict": "true"})
        assert "tools.web_search" in caught.value.message


@pytest.mark.parametrize("kind", ["compatible", "anthropic"])
async def test_the_providers_own_errors_are_told_as_the_callers_api_tells_them(kind: str) -> None:
    async with reaching(kind) as reached:
        error = {"error": {"message": "no such thing", "type": "invalid_request_error", "param": None, "code": "c"}}
        scripted = Reply(status=400, message="no such thing") if kind == "anthropic" else None
        reached.upstream.script.append(scripted or ChatReply(status=400, body=json.dumps(error).encode()))
        with pytest.raises(openai.BadRequestError) as caught:
            await reached.sdk.responses.create(model="gpt-4o", input="Hi")
        assert caught.value.type == "invalid_request_error"
        assert "no such thing" in caught.value.message


@pytest.mark.parametrize("kind", ["compatible", "anthropic"])
async def test_a_stream_that_breaks_is_told_and_not_completed(kind: str) -> None:
    async with reaching(kind) as reached:
        made: Any = Reply if kind == "anthropic" else ChatReply
        reached.upstream.script.append(made(cut_after=2))
        seen: list[str] = []
        stream = await reached.sdk.responses.create(model="gpt-4o", input="Hi", stream=True)

        async def read() -> None:
            async for event in stream:
                seen.append(event.type)  # noqa: PERF401 - what came before the error is wanted

        with pytest.raises(openai.APIError):
            await read()
        assert seen[0] == "response.created"
        assert "response.completed" not in seen


async def test_a_missing_result_is_refused_with_its_id() -> None:
    async with reaching("anthropic") as reached:
        call: Any = {"type": "function_call", "call_id": "call_lost", "name": "weather", "arguments": "{}"}
        with pytest.raises(openai.BadRequestError, match="call_lost"):
            await reached.sdk.responses.create(model="gpt-4o", input=[{"role": "user", "content": "?"}, call])
