"""Scripted upstreams of every kind, told once what a model says, whatever API it says it in.

An application asks for more than its script knows of: titles of sessions, summaries. So a turn of the script is used up
only by a request that brings tools, where `side` says what the others are answered.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import attrs

from infermux.providers.dialects.neutral import Part, StopReason, Text, ToolCall
from tests.e2e._claude import chat_calls
from tests.mocks.anthropic_upstream import KEY as CLAUDE_KEY
from tests.mocks.anthropic_upstream import AnthropicUpstream, Tool
from tests.mocks.anthropic_upstream import Reply as ClaudeReply
from tests.mocks.bedrock_upstream import BEARER, HAIKU, REGION, BedrockUpstream
from tests.mocks.bedrock_upstream import Reply as BedrockReply
from tests.mocks.openai_rules import Json, Recorded
from tests.mocks.openai_upstream import KEY, OpenAIUpstream
from tests.mocks.openai_upstream import Reply as ChatReply
from tests.providers.dialects._openai_responses import answer, completion, unfold, written

Kind = Literal["openai", "compatible", "ollama", "anthropic", "bedrock"]
"""`compatible`: OpenAI's API without its endpoint for responses, as most have it."""

GPT = "gpt-4o"
CLAUDE = "claude-haiku-4-5"
EMBEDDER = "text-embedding-3-small"


@attrs.frozen
class Say:
    """The model answers in words."""

    text: str


@attrs.frozen
class Call:
    """The model calls a tool."""

    name: str
    arguments: Json = attrs.field(factory=dict[str, Any])
    id: str = "call_1"


Turn = Say | tuple[Call, ...]


@attrs.define(eq=False)
class Script:
    """What the model says, turn by turn; `asked` are the requests that used turns up, in order."""

    turns: deque[Turn] = attrs.field(factory=deque["Turn"])
    side: Say | None = None
    asked: list[Recorded] = attrs.field(factory=list[Recorded])

    def next(self, request: Recorded) -> Turn:
        if self.side is not None and not (request.json.get("tools") or request.json.get("toolConfig")):
            return self.side
        self.asked.append(request)
        return self.turns.popleft() if self.turns else Say("The script is over.")


class ScriptedOpenAI(OpenAIUpstream):
    """OpenAI's API, or one like it."""

    def __init__(self, script: Script, kind: Kind) -> None:
        super().__init__("ollama" if kind == "ollama" else "openai", responses=kind == "openai")
        self._words = script

    def next_reply(self) -> ChatReply:
        request = self.requests[-1]
        turn, stream = self._words.next(request), bool(request.json.get("stream"))
        if request.path.endswith("/responses"):
            return _response(turn, stream=stream)
        if isinstance(turn, Say):
            return ChatReply(tokens=_halves(turn.text))
        return chat_calls(*((call.id, call.name, json.dumps(call.arguments)) for call in turn), stream=stream)


def _response(turn: Turn, *, stream: bool) -> ChatReply:
    parts: Sequence[Part]
    if isinstance(turn, Say):
        parts = [Text(text=turn.text)]
    else:
        parts = [ToolCall(id=call.id, name=call.name, arguments=json.dumps(call.arguments)) for call in turn]
    whole = completion(*parts, stop=StopReason.END if isinstance(turn, Say) else StopReason.TOOL_USE)
    if not stream:
        return ChatReply(body=json.dumps(answer(whole)).encode())
    return ChatReply(events=tuple(event + b"\n\n" for event in written(unfold(whole)).split(b"\n\n")[:-1]))


class ScriptedClaude(AnthropicUpstream):
    """Anthropic's API."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._words = script

    def next_reply(self) -> ClaudeReply:
        turn = self._words.next(self.requests[-1])
        if isinstance(turn, Say):
            return ClaudeReply(tokens=_halves(turn.text))
        tools = tuple(Tool(name=call.name, id=call.id, input=call.arguments) for call in turn)
        return ClaudeReply(tokens=(), tools=tools)


class ScriptedBedrock(BedrockUpstream):
    """Bedrock's Converse."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._words = script

    def next_reply(self) -> BedrockReply:
        turn = self._words.next(self.requests[-1])
        if isinstance(turn, Say):
            return BedrockReply(content=({"text": turn.text},))
        calls: list[Json] = [
            {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}} for call in turn
        ]
        return BedrockReply(content=tuple(calls), stop="tool_use")


def _halves(text: str) -> tuple[str, ...]:
    middle = len(text) // 2
    return (text[:middle], text[middle:])


Upstream = ScriptedOpenAI | ScriptedClaude | ScriptedBedrock


def upstream_of(kind: Kind, script: Script) -> Upstream:
    match kind:
        case "anthropic":
            return ScriptedClaude(script)
        case "bedrock":
            return ScriptedBedrock(script)
        case _:
            return ScriptedOpenAI(script, kind)


def declared(kind: Kind, upstream: Upstream) -> Json:
    """The provider of the configuration; it serves `GPT` and `CLAUDE`, whichever of them it calls its own."""
    base: Json = {"name": kind, "base_url": upstream.base_url, "health_check": {"disabled": True}}
    match kind:
        case "anthropic":
            more: Json = {"type": kind, "api_key": CLAUDE_KEY, "models": [CLAUDE], "model_aliases": {GPT: CLAUDE}}
        case "bedrock":
            aliases = {GPT: HAIKU, CLAUDE: HAIKU}
            more = {"type": kind, "api_key": BEARER, "region": REGION, "models": [HAIKU], "model_aliases": aliases}
        case _:
            kept = {"type": "ollama"} if kind == "ollama" else {"type": "openai", "api_key": KEY}
            more = {**kept, "models": [GPT, EMBEDDER], "model_aliases": {CLAUDE: GPT}}
    return {**base, **more}
