"""Agents of pydantic-ai: tools, objects, streams; one JSON object per line, then what an example prints.

Usage: pydantic_ai_agents.py API:MODEL... EXAMPLE.py   API is one of chat, responses, messages.
"""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

MODELS = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel, "messages": AnthropicModel}


class Place(BaseModel):
    """A place."""

    name: str
    country: str


def weather(place: str) -> str:
    """The weather of a place."""
    return f"sunny in {place}"


async def found(api: str, name: str) -> dict[str, Any]:
    model = MODELS[api](name)
    talker = Agent(model, instructions="Be brief.", tools=[weather])
    said = await talker.run("Weather in Pau and Oslo?")
    async with talker.run_stream("Weather in Pau and Oslo?") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    finder = Agent(model, output_type=Place)
    place = await finder.run("Where?")
    async with finder.run_stream("Where?") as stream:
        streamed = await stream.get_output()
    return {
        "run": said.output,
        "usage": [said.usage.input_tokens, said.usage.output_tokens],
        "stream": "".join(pieces),
        "in pieces": len(pieces) > 1,
        "structured": place.output.model_dump(),
        "streamed structured": streamed.model_dump(),
    }


async def main(arguments: list[str]) -> None:
    for argument in arguments:
        print(json.dumps(await found(*argument.split(":"))))


# One loop for both: connections of the client do not outlive theirs, and run_sync takes this one.
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main(sys.argv[1:-1]))
runpy.run_path(sys.argv[-1])
