"""Scripted upstreams of every kind, told once what a model says, whatever API it says it in.

An application asks for more than its script knows of: titles of sessions, summaries. So a turn of the script is used up
only by a request that brings tools, where `side` says what the others are answered.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs

from infermux.providers.dialects.neutral import Part, StopReason, Text, ToolCall
from infermux.providers.interface import Usage
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

KINDS: Sequence[Kind] = ("openai", "compatible", "ollama", "anthropic", "bedrock")
EMBEDDER = "text-embedding-3-small"
_GPT = "gpt-4o"
_CLAUDE = "claude-haiku-4-5"


def gpt(kind: Kind) -> str:
    """What callers of OpenAI's API call the model at the provider of that kind."""
    return f"{_GPT}-{kind}"


def claude(kind: Kind) -> str:
    """What callers of Anthropic's API call it."""
    return f"{_CLAUDE}-{kind}"


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


@attrs.frozen
class Give:
    """The model gives an object in the way the request asks for: a forced tool, the tool `by`, else words."""

    value: Json
    by: str = "final_result"

    def in_answer_to(self, request: Json) -> Say | tuple[Call, ...]:
        offered = _names(request.get("tools") or request.get("toolConfig", {}).get("tools", ()))
        choice: Any = request.get("tool_choice") or request.get("toolConfig", {}).get("toolChoice") or {}
        forced = _names([choice])
        if not forced and choice in ("required", {"type": "any"}, {"any": {}}):
            forced = offered
        chosen = forced or [name for name in offered if name == self.by]
        return (Call(chosen[0], self.value),) if chosen else Say(json.dumps(self.value))


def _names(tools: Any) -> list[str]:
    """The names of tools as any of the APIs writes them."""
    found: list[str] = []
    for tool in tools:
        inner: Any = tool
        for wrapping in ("function", "toolSpec", "tool"):
            if isinstance(inner, dict):
                inner = inner.get(wrapping, inner)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(inner, dict) and "name" in inner:
            found.append(inner["name"])  # pyright: ignore[reportUnknownArgumentType]
    return found


Turn = Say | tuple[Call, ...] | Give


@attrs.define(eq=False)
class Script:
    """What the model says, turn by turn; `asked` are the requests that used turns up, in order."""

    turns: deque[Turn] = attrs.field(factory=deque["Turn"])
    side: Say | None = None
    asked: list[Recorded] = attrs.field(factory=list[Recorded])

    def next(self, request: Recorded) -> Say | tuple[Call, ...]:
        if self.side is not None and not (request.json.get("tools") or request.json.get("toolConfig")):
            return self.side
        self.asked.append(request)
        turn = self.turns.popleft() if self.turns else Say("The script is over.")
        return turn.in_answer_to(request.json) if isinstance(turn, Give) else turn


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


def _response(turn: Say | tuple[Call, ...], *, stream: bool) -> ChatReply:
    parts: Sequence[Part]
    if isinstance(turn, Say):
        parts = [Text(text=turn.text)]
    else:
        parts = [ToolCall(id=call.id, name=call.name, arguments=json.dumps(call.arguments)) for call in turn]
    stop = StopReason.END if isinstance(turn, Say) else StopReason.TOOL_USE
    whole = completion(*parts, stop=stop, usage=Usage(prompt_tokens=7, completion_tokens=5))
    if not stream:
        return ChatReply(body=json.dumps(answer(whole)).encode())
    return ChatReply(events=tuple(event + b"\n\n" for event in written(unfold(whole)).split(b"\n\n")[:-1]))


class ScriptedClaude(AnthropicUpstream):
    """Anthropic's API."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._words = script

    def next_reply(self) -> ClaudeReply:
        request = self.requests[-1]
        turn = self._words.next(request)
        # A model that was told to think does, and wants its thoughts back with the results of tools.
        told: Json = request.json.get("thinking") or {}
        thinking = ("Let me ", "see.") if told.get("type") in ("enabled", "adaptive") else ()
        if isinstance(turn, Say):
            return ClaudeReply(tokens=_halves(turn.text), thinking=thinking)
        tools = tuple(Tool(name=call.name, id=call.id, input=call.arguments) for call in turn)
        return ClaudeReply(tokens=(), tools=tools, thinking=thinking)

    def events(self, reply: ClaudeReply, request: Json) -> Iterator[bytes]:
        """With the whole usage at the end too, where LangChain looks for it (`MessageDeltaUsage.input_tokens`)."""
        for event in super().events(reply, request):
            yield event.replace(b'"usage": {"output_tokens"', b'"usage": {"input_tokens": 7, "output_tokens"')


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
    """The provider of the configuration, by the two names of its model."""
    base: Json = {"name": kind, "type": kind, "base_url": upstream.base_url, "health_check": {"disabled": True}}
    match kind:
        case "anthropic":
            model, more = _CLAUDE, {"api_key": CLAUDE_KEY}
        case "bedrock":
            model, more = HAIKU, {"api_key": BEARER, "region": REGION}
        case "ollama":
            model, more = _GPT, {}
        case _:
            model, more = _GPT, {"type": "openai", "api_key": KEY}
    embedder = [EMBEDDER] if kind == "openai" else []
    aliases = {gpt(kind): model, claude(kind): model}
    return {**base, **more, "models": [model, *embedder], "model_aliases": aliases}
