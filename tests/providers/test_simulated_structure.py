"""A simulated provider calls the tool, and says the JSON, that a request insists on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from trio.testing import MockClock

from infermux.config.settings import ProviderSettings, Simulate
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint
from infermux.providers.simulated import make
from infermux.providers.simulated_instance import instance
from tests.providers._calls import drained

PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}, "why": {"type": "string"}},
    "required": ["city", "days"],
}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look", "parameters": PLACE}}
OTHER: dict[str, Any] = {"type": "function", "function": {"name": "other"}}
TEXT: dict[str, Any] = {"type": "custom", "custom": {"name": "run"}}
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "look"}}


def call(*, stream: bool = False, **fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
    return Call(endpoint=Endpoint.CHAT, body=json.dumps(body).encode(), model="m", requested_model="m", stream=stream)


async def ask(request: Call) -> bytes:
    simulate = Simulate(first_token=0.0, tokens_per_second=0.0)
    answer = await make(ProviderSettings(name="sim", type="simulated", simulate=simulate), environ={}).send(request)
    return answer.body if isinstance(answer, Answer) else await drained(answer)


async def whole(**fields: Any) -> Any:
    return ChatCompletion.model_validate_json(await ask(call(**fields))).choices[0]


@pytest.mark.parametrize(
    ("tools", "choice", "name"),
    [
        ([TOOL, OTHER], "required", "look"),
        ([OTHER, TOOL], NAMED, "look"),
        (
            [OTHER, TOOL],
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
            "look",
        ),
    ],
)
async def test_a_tool_that_must_be_called_is(autojump_clock: MockClock, tools: Any, choice: Any, name: str) -> None:
    answer = await whole(tools=tools, tool_choice=choice)
    (made,) = answer.message.tool_calls
    assert (answer.finish_reason, answer.message.content, made.function.name) == ("tool_calls", None, name)
    assert json.loads(made.function.arguments) == {"city": "text", "days": 2}
    assert made.id.startswith("call_")


@pytest.mark.parametrize("choice", [None, "auto", "none"])
async def test_a_tool_that_need_not_be_called_is_not(autojump_clock: MockClock, choice: Any) -> None:
    answer = await whole(tools=[TOOL], tool_choice=choice)
    assert (answer.finish_reason, answer.message.tool_calls) == ("stop", None)


async def test_a_tool_that_takes_text_is_given_text(autojump_clock: MockClock) -> None:
    (made,) = (await whole(tools=[TEXT], tool_choice={"type": "custom", "custom": {"name": "run"}})).message.tool_calls
    assert (made.type, made.custom.name, made.custom.input) == ("custom", "run", "text")


async def test_a_streamed_call_is_the_same_in_pieces(autojump_clock: MockClock) -> None:
    data = await ask(call(stream=True, tools=[TOOL], tool_choice="required"))
    events = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    deltas = [ChatCompletionChunk.model_validate_json(event).choices[0] for event in events[:-1]]
    calls = [each for delta in deltas for each in delta.delta.tool_calls or ()]
    assert calls[0].function is not None
    assert (calls[0].function.name, calls[0].index, len(calls) > 2) == ("look", 0, True)
    told = "".join(each.function.arguments or "" for each in calls if each.function)
    assert json.loads(told) == {"city": "text", "days": 2}
    assert (deltas[-1].finish_reason, events[-1]) == ("tool_calls", "[DONE]")


async def test_json_is_answered_where_it_is_asked_for(autojump_clock: MockClock) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}
    assert json.loads((await whole(response_format=wanted)).message.content) == {"city": "text", "days": 2}
    assert isinstance(json.loads((await whole(response_format={"type": "json_object"})).message.content), dict)
    assert "simulated provider" in (await whole(response_format={"type": "text"})).message.content
    assert (await whole(response_format=wanted, max_tokens=1)).finish_reason == "length"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes", "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": NAMED, "tools": [OTHER]}, "tool_choice"),
        ({"tool_choice": {}, "tools": [OTHER]}, "tool_choice"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "array", "minItems": 10**9}},
                }
            },
            "response_format",
        ),
    ],
)
async def test_what_cannot_be_followed_is_refused(
    autojump_clock: MockClock, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await ask(call(**fields))
    assert caught.value.kind is FailureKind.CALLER
    assert json.loads(caught.value.body or b"")["error"]["param"] == param


NODE: dict[str, Any] = {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}}


@pytest.mark.parametrize(
    "schema",
    [
        PLACE,
        {},
        {"enum": ["b", "a"]},
        {"const": None},
        {"type": ["integer", "null"], "exclusiveMinimum": 3, "multipleOf": 5},
        {"type": "number", "exclusiveMinimum": 0.5},
        {"type": "number", "maximum": -2},
        {"type": "string", "minLength": 9},
        {"type": "string", "maxLength": 2},
        {"type": "boolean"},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 1},
        {"allOf": [PLACE, {"title": "x"}]},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": PLACE}},
        {**NODE, "required": ["next"]},
    ],
)
def test_an_instance_is_allowed_by_its_schema(schema: Any) -> None:
    Draft202012Validator(schema).validate(instance(schema))  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "minLength": "x"},
        {"enum": 3},
        {"$ref": 7},
        {"type": "number", "multipleOf": 1e-320, "minimum": 1e300},
    ],
)
def test_a_schema_without_end_or_sense_is_refused(schema: Any) -> None:
    with pytest.raises(ValueError, match="schema"):
        instance(schema)
