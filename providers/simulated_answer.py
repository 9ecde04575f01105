"""A simulated answer: what it says as a completion or as the events of a stream, and when each token is due."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from typing import Final

import attrs
import msgspec
import trio

from infermux.errors import FailureKind, UpstreamFailure

from .interface import Usage
from .simulated_request import ChatRequest, compose, cut
from .simulated_script import Step
from .simulated_structure import ToolUse, json_text, tool_use

_PIECES: Final = re.compile(r"(?s).{1,4}")  # four characters to a token


@attrs.frozen
class Event:
    """One or more whole events, due at `due` seconds from the start of the answer."""

    due: float
    data: bytes
    has_content: bool = attrs.field(default=False, kw_only=True)
    tokens: int = attrs.field(default=0, kw_only=True)


@attrs.frozen
class Pace:
    """When each token is due, in seconds from the start of the answer."""

    step: Step
    _first_token: float
    _tokens_per_second: float

    @property
    def first(self) -> float:
        """When the answer begins."""
        return self._first_token if self.step.first_token is None else self.step.first_token

    def due(self, tokens: int) -> float:
        """When token number `tokens` (from 0) may be sent. Raises BROKEN where the step cuts the answer."""
        step = self.step
        if step.cut_after is not None and tokens >= step.cut_after:
            raise broken()
        return self._time(tokens)

    def until_cut(self, sent: int, tokens: int) -> int:
        """How many of the next `tokens` tokens come, `sent` having come: the others fall to the cut."""
        cut = self.step.cut_after
        return tokens if cut is None else min(tokens, cut - sent)

    def _time(self, tokens: int) -> float:
        step = self.step
        rate = self._tokens_per_second if step.tokens_per_second is None else step.tokens_per_second
        stall = step.stall_for if step.stall_after is not None and tokens >= step.stall_after else 0.0
        return self.first + (tokens / rate if rate else 0.0) + stall

    async def whole(self, tokens: int) -> None:
        """Wait as long as `tokens` tokens take. Raises BROKEN, in due time, where the step cuts the answer."""
        cut = self.step.cut_after
        sent = tokens if cut is None else min(cut, tokens)
        await trio.sleep(self._time(sent))
        self.due(tokens)


@attrs.frozen
class Called:
    """A tool call's beginning; its arguments are the choice's tokens."""

    id: str
    kind: str
    name: str

    def part(self, arguments: str) -> dict[str, object]:
        """The whole call, or its first delta."""
        return {"id": self.id, "type": self.kind, self.kind: {"name": self.name, self.argument: arguments}}

    @property
    def argument(self) -> str:
        return "input" if self.kind == "custom" else "arguments"

    def delta(self, token: str) -> bytes:
        return msgspec.json.encode({"tool_calls": [{"index": 0, self.kind: {self.argument: token}}]})


class Answered:
    """One composed answer, in words, JSON or a tool call, and its encoding as a completion or as events."""

    def __init__(self, request: ChatRequest, provider: str, model: str, serial: int) -> None:
        """Raises Refused for a tool or a schema that cannot be followed."""
        use = tool_use(request)
        self._calls = [_called(use, provider, serial, index) for index in range(request.n or 1)]
        text = use.text if use is not None else json_text(request, provider)
        if text is None:
            self.choices = [compose(request, provider, index) for index in range(request.n or 1)]
        else:
            end = "stop" if use is None else "tool_calls"
            self.choices = [cut(_PIECES.findall(text), request, end) for _ in range(request.n or 1)]
        self.completion_tokens = sum(len(tokens) for tokens, _ in self.choices)
        self.usage = Usage(prompt_tokens=request.prompt_tokens, completion_tokens=self.completion_tokens)
        self._head = {"id": f"chatcmpl-{provider}-{serial}", "created": int(time.time()), "model": model}

    def whole(self) -> bytes:
        choices = [
            {
                "index": index,
                "message": _message("".join(tokens), call),
                "logprobs": None,
                "finish_reason": reason,
            }
            for index, ((tokens, reason), call) in enumerate(zip(self.choices, self._calls, strict=True))
        ]
        return msgspec.json.encode(
            {**self._head, "object": "chat.completion", "choices": choices, "usage": _usage_object(self.usage)}
        )

    def events(self, pace: Pace, *, asked_usage: bool, at_once: int = 1) -> Iterator[Event]:
        """The stream's events in order, `at_once` tokens each, due with their first; BROKEN where the pace says so."""
        ending = b',"usage":null}\n\n' if asked_usage else b"}\n\n"
        head = b"data: " + msgspec.json.encode({**self._head, "object": "chat.completion.chunk"})[:-1]

        def chunk(index: int, delta: bytes, reason: bytes = b"null") -> bytes:
            choice = b'{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}' % (index, delta, reason)
            return head + b',"choices":[' + choice + b"]" + ending

        opening = b"".join(chunk(index, _opening(call)) for index, call in enumerate(self._calls))
        yield Event(pace.first, opening, has_content=any(self._calls))
        sent = 0
        for index, tokens in self._pieces(at_once):
            due = pace.due(sent)
            said = pace.until_cut(sent, len(tokens))
            call, text = self._calls[index], "".join(tokens[:said])
            yield Event(due, chunk(index, call.delta(text) if call else _said(text)), has_content=True, tokens=said)
            sent += said
        last = b"".join(
            chunk(index, b"{}", b'"%b"' % reason.encode()) for index, (_, reason) in enumerate(self.choices)
        )
        if asked_usage:
            last += head + b',"choices":[],"usage":' + msgspec.json.encode(_usage_object(self.usage)) + b"}\n\n"
        yield Event(pace.due(sent), last + b"data: [DONE]\n\n", has_content=True, tokens=1)

    def _pieces(self, at_once: int) -> Iterator[tuple[int, list[str]]]:
        """The choices in turns, `at_once` tokens each time: whose turn it is, and its tokens."""
        for position in range(0, max(len(tokens) for tokens, _ in self.choices), at_once):
            for index, (tokens, _) in enumerate(self.choices):
                if position < len(tokens):
                    yield index, tokens[position : position + at_once]


def _called(use: ToolUse | None, provider: str, serial: int, index: int) -> Called | None:
    if use is None:
        return None
    number = hashlib.blake2s(f"{provider} {serial} {index}".encode(), digest_size=12).hexdigest()
    return Called(f"call_{number}", use.kind, use.name)


def _message(text: str, call: Called | None) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    return message if call is None else {**message, "content": None, "tool_calls": [call.part(text)]}


def _opening(call: Called | None) -> bytes:
    if call is None:
        return b'{"role":"assistant","content":"","refusal":null}'
    calls = [{"index": 0, **call.part("")}]
    return msgspec.json.encode({"role": "assistant", "content": None, "refusal": None, "tool_calls": calls})


def _said(token: str) -> bytes:
    return b'{"content":%b}' % msgspec.json.encode(token)


def broken() -> UpstreamFailure:
    """The failure of a connection that a script cuts."""
    return UpstreamFailure(FailureKind.BROKEN, "the connection broke in the middle of the answer (simulated)")


def _usage_object(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
