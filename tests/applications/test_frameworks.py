"""Frameworks for applications: what they make of a model's answers, whatever kind of provider it is at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.applications._applications import Done, Reached, reaching
from tests.applications._page import program
from tests.applications._upstreams import EMBEDDER, KINDS, Call, Give, Kind, Say, claude, gpt
from tests.mocks.openai_further import vector

WEATHER = (Call("weather", {"place": "Pau"}, "call_pau"), Call("weather", {"place": "Oslo"}, "call_oslo"))
MET = Say("Nice to meet you.")
PLACE = {"name": "Pau", "country": "France"}
CASES: list[tuple[str, Kind]] = [
    ("chat", "compatible"),
    ("chat", "anthropic"),
    ("chat", "bedrock"),
    ("chat", "ollama"),
    ("responses", "openai"),
    ("responses", "compatible"),
    ("responses", "anthropic"),
    ("responses", "bedrock"),
    ("messages", "anthropic"),
    ("messages", "compatible"),
    ("messages", "bedrock"),
]
"""Which API a framework speaks, and the kind of provider that its model is at."""


def named(api: str, kind: Kind) -> str:
    """As the programs take it."""
    return f"{api}:{claude(kind) if api == 'messages' else gpt(kind)}"


def by_case(done: Done) -> dict[tuple[str, Kind], Any]:
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()[: len(CASES)]), strict=True))


async def test_langchain_asks_streams_calls_tools_gets_objects_and_embeds(tmp_path: Path) -> None:
    async with reaching(tmp_path, *KINDS) as reached:
        for _, kind in CASES:
            reached.says(kind, Say("Hello, you."), Say("Hello again."), WEATHER, Say("Sunny in both."), Give(PLACE))
        arguments = [named(*case) for case in CASES]
        for _ in range(2):
            reached.says("bedrock", MET)
        shown = program("LangChain", reached, "bedrock")
        done = await reached.program("langchain_models.py", *arguments, f"embeddings:{EMBEDDER}", shown)
        expected = {
            "invoke": "Hello, you.",
            "usage": [7, 5],
            "stream": "Hello again.",
            "streamed usage": [7, 5],
            "in pieces": True,
            "tools": {
                "calls": [["weather", {"place": "Pau"}], ["weather", {"place": "Oslo"}]],
                "answer": "Sunny in both.",
            },
            "structured": PLACE,
        }
        assert by_case(done) == dict.fromkeys(CASES, expected)
        first, second = vector("a", 4), vector("b", 4)
        *_, embedded, first_met, second_met = done.stdout.splitlines()
        assert json.loads(embedded) == {"documents": [first, second], "query": first}
        assert first_met == second_met == MET.text
        assert_results_in_order(reached)
        assert reached.fence.tried == []


async def test_pydantic_ai_calls_tools_and_gets_objects(tmp_path: Path) -> None:
    async with reaching(tmp_path, *KINDS) as reached:
        for _, kind in CASES:
            reached.says(kind, *(WEATHER, Say("Sunny in both.")) * 2, Give(PLACE), Give(PLACE))
        for _ in range(3):
            reached.says("bedrock", MET)
        shown = program("pydantic-ai", reached, "bedrock")
        done = await reached.program("pydantic_ai_agents.py", *(named(*case) for case in CASES), shown)
        expected = {
            "run": "Sunny in both.",
            "usage": [14, 10],
            "stream": "Sunny in both.",
            "in pieces": True,
            "structured": PLACE,
            "streamed structured": PLACE,
        }
        assert by_case(done) == dict.fromkeys(CASES, expected)
        assert done.stdout.splitlines()[len(CASES) :] == [MET.text] * 3
        assert_results_in_order(reached)
        assert reached.fence.tried == []


def assert_results_in_order(reached: Reached) -> None:
    """Every request with results of tools has both, in the order of the calls."""
    for kind, script in reached.scripts.items():
        bodies = [request.body.decode() for request in script.asked]
        answered = [body for body in bodies if "sunny in" in body]
        assert answered, kind
        assert all(body.find("sunny in Pau") < body.find("sunny in Oslo") for body in answered), kind
