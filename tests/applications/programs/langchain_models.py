"""LangChain's models: what they make of each answer, one JSON object per line, then what an example prints.

Usage: langchain_models.py API:MODEL... EXAMPLE.py   API is one of chat, responses, messages, embeddings.
"""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Place(BaseModel):
    """A place."""

    name: str
    country: str


@tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"sunny in {place}"


def with_tools(model: Any) -> dict[str, Any]:
    """Ask with a tool, do what the model calls for, give it the results."""
    bound = model.bind_tools([weather])
    said: list[Any] = [HumanMessage("Weather in Pau and Oslo?")]
    calls = None
    for chunk in bound.stream(said):
        calls = chunk if calls is None else calls + chunk
    said.append(calls)
    said += [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in calls.tool_calls]
    return {"calls": [[call["name"], call["args"]] for call in calls.tool_calls], "answer": bound.invoke(said).text}


def talk(model: Any) -> dict[str, Any]:
    whole = model.invoke([("system", "Be brief."), ("human", "Hello")])
    pieces = list(model.stream("Hello"))
    added = pieces[0]
    for piece in pieces[1:]:
        added += piece
    return {
        "invoke": whole.text,
        "usage": [whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]],
        "stream": added.text,
        "streamed usage": [added.usage_metadata["input_tokens"], added.usage_metadata["output_tokens"]],
        "in pieces": sum(bool(piece.text) for piece in pieces) > 1,
        "tools": with_tools(model),
        "structured": model.with_structured_output(Place).invoke("Where?").model_dump(),
    }


def embed(name: str) -> dict[str, Any]:
    # Unless told otherwise it counts tokens first, with a table it downloads.
    model = OpenAIEmbeddings(model=name, dimensions=4, check_embedding_ctx_length=False)
    return {"documents": model.embed_documents(["a", "b"]), "query": model.embed_query("a")}


def found(api: str, name: str) -> dict[str, Any]:
    match api:
        case "chat":
            return talk(ChatOpenAI(model=name, max_retries=0, stream_usage=True))
        case "responses":
            return talk(ChatOpenAI(model=name, max_retries=0, use_responses_api=True))
        case "messages":
            return talk(ChatAnthropic(model=name, max_retries=0))
        case _:
            return embed(name)


for argument in sys.argv[1:-1]:
    print(json.dumps(found(*argument.split(":"))))
runpy.run_path(sys.argv[-1])
