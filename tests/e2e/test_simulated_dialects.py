"""The demo's providers, by every API and with the official SDKs: tools and JSON included, keys not needed."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from tests.e2e._claude import claude_sdk
from tests.e2e._router import HELLO, routing

pytestmark = pytest.mark.slow

DEMO: dict[str, Any] = {
    "name": "demo",
    "type": "simulated",
    "models": ["small"],
    "simulate": {"first_token": "0s", "tokens_per_second": 100_000},
    "health_check": {"disabled": True},
}
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Place(pydantic.BaseModel):
    city: str
    days: int


async def test_the_demo_speaks_responses_with_tools_and_json() -> None:
    tool: Any = {"type": "function", "name": "look", "parameters": CITY, "strict": False}
    async with routing(DEMO) as router, router.sdk() as sdk:
        said = await sdk.responses.create(model="small", input="hi")
        assert "simulated provider" in said.output_text
        called = await sdk.responses.create(model="small", input="hi", tools=[tool], tool_choice="required")
        (call,) = called.output
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments)) == ("look", {"city": "text"})
        async with sdk.responses.stream(model="small", input="hi", text_format=Place) as stream:
            events = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert events[-1] == "response.completed"
        assert final.output_parsed == Place(city="text", days=0)


async def test_the_demo_speaks_messages_with_tools() -> None:
    tool: Any = {"name": "look", "input_schema": CITY}
    async with routing(DEMO) as router, claude_sdk(router) as sdk:
        async with sdk.messages.stream(
            model="small", max_tokens=100, messages=HELLO, tools=[tool], tool_choice={"type": "any"}
        ) as stream:
            final = await stream.get_final_message()
        (use,) = final.content
        assert use.type == "tool_use"
        assert (use.name, use.input, final.stop_reason) == ("look", {"city": "text"}, "tool_use")
        result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "42"}
        then: Any = [*HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        answer = await sdk.messages.create(model="small", max_tokens=100, messages=then, tools=[tool])
        assert answer.stop_reason == "end_turn"
