"""Going on with an answer that broke off: what the caller has of it, and how another provider is asked for the rest.

Pure. How the rest is joined on is in `joint`.

Everything here works on what the caller speaks. What it was sent is read back with its dialect's own reader; a writer
that is led through the same events stands where the caller stands, and writes the rest as if nothing had happened: no
second beginning, the ids and indexes of the first provider, whole texts and the tokens of all attempts at the end.

The rest is asked for in one of two ways. Where the model takes it, the text so far is the beginning of its own answer
(an assistant message at the end: https://platform.claude.com/docs/en/build-with-claude/prompt-engineering, "prefill").
Elsewhere it is asked to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import msgspec

from infermux.errors import InvalidRequest, UpstreamFailure

from .dialects.dialect import Dialect
from .dialects.neutral import (
    Conversation,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolMode,
)
from .dialects.neutral_events import (
    Ended,
    PartEnded,
    PartStarted,
    StreamEvent,
    TextDelta,
)
from .interface import Endpoint
from .sse import Event
from .translate import DIALECTS

Json = dict[str, Any]

REASK: Final = (
    "Your answer was cut off. Go on from exactly where it stopped: write only what follows, beginning with the very "
    "next character. Repeat nothing, introduce nothing, and do not mention the interruption."
)
SMALLEST_BOUND: Final = {Endpoint.RESPONSES: 16}
"""The least that `max_output_tokens` may be; elsewhere it is 1."""
_BOUNDS: Final = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.MESSAGES: ("max_tokens",),
    Endpoint.RESPONSES: ("max_output_tokens",),
}
_FORCED: Final = frozenset({ToolMode.REQUIRED, ToolMode.NAMED})
_MEMBERS: Final = {
    Endpoint.CHAT: ("logprobs", "audio", "prediction"),
    Endpoint.MESSAGES: ("mcp_servers", "container"),
    Endpoint.RESPONSES: ("previous_response_id", "conversation", "prompt", "background", "top_logprobs"),
}
"""What makes an answer more than its text, or keeps its beginnings at one provider."""


class CannotContinue(Exception):
    """Nobody can go on with this answer. The text says why, for the log."""


@attrs.frozen(kw_only=True)
class Place:
    """Where a caller's stream stands.

    `events` are what it was sent, `part` the index of the text that is open (None: none is), `parts` how many have
    begun. `ids`, `response` and `sequence` are a response's: kind and id of each item, the response as it began, the
    number of the last event.
    """

    endpoint: Endpoint
    conversation: Conversation
    events: tuple[StreamEvent, ...] = ()
    text: str = ""
    part: int | None = None
    parts: int = 0
    ids: tuple[tuple[str, str], ...] = ()
    response: Json = attrs.field(factory=dict[str, Any])
    sequence: int = -1


def place_of(endpoint: Endpoint, body: bytes, sent: bytes) -> Place:
    """Where the stream `sent`, an answer to the request `body`, stands. Raises CannotContinue."""
    dialect = DIALECTS.get(endpoint)
    if dialect is None:
        raise CannotContinue(f"streams of {endpoint.value} cannot be joined")
    conversation = _conversation(dialect, endpoint, body)
    reader = _Reader(endpoint, dialect)
    try:
        reader.read(sent)
    except (UpstreamFailure, msgspec.MsgspecError, UnicodeError) as failure:
        raise CannotContinue(f"what was sent cannot be read: {failure}") from None
    return reader.place(conversation)


def _conversation(dialect: Dialect, endpoint: Endpoint, body: bytes) -> Conversation:
    """The request, of which nothing but text may be expected."""
    try:
        conversation = dialect.read_request(body)
    except InvalidRequest as refused:
        raise CannotContinue(f"the request cannot be read: {refused.message}") from None
    if conversation.format is not None:
        raise CannotContinue("structured output was asked for")
    if conversation.tool_choice is not None and conversation.tool_choice.mode in _FORCED:
        raise CannotContinue("a tool call was asked for")
    members = _members(body)
    found = [name for name in _MEMBERS[endpoint] if members.get(name)]
    n = members.get("n")
    if isinstance(n, int) and n > 1:
        found.append("n")
    if found:
        raise CannotContinue(f"the request has {', '.join(found)}")
    return conversation


def _members(body: bytes) -> Json:
    return msgspec.json.decode(body, type=dict[str, Any])


@attrs.define(eq=False)
class _Reader:
    """Reads what a caller was sent, and checks that a writer would number it as it is numbered."""

    endpoint: Endpoint
    dialect: Dialect
    events: list[StreamEvent] = attrs.field(factory=list[StreamEvent])
    ids: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    response: Json = attrs.field(factory=dict[str, Any])
    sequence: int = -1
    closed_items: bool = False

    def read(self, sent: bytes) -> None:
        decoder, reader = self.dialect.decoder(), self.dialect.stream_reader()
        for event in decoder.feed(sent):
            found = reader.feed(event)
            self._check(event, found)
            self.events += found
        if self.endpoint is not Endpoint.RESPONSES:
            self.events += reader.end()

    def _check(self, event: Event, found: Sequence[StreamEvent]) -> None:
        if self.endpoint is Endpoint.CHAT:
            return
        shape = msgspec.json.decode(event.data, type=dict[str, Any])
        if self.endpoint is Endpoint.MESSAGES:
            if shape.get("type") == "content_block_start":
                begun = [each.index for each in found if isinstance(each, PartStarted)]
                if begun != [shape.get("index", 0)]:
                    raise CannotContinue("the answer has blocks that only its provider knows")
            return
        self._check_response(shape)

    def _check_response(self, shape: Json) -> None:
        number = shape.get("sequence_number")
        if isinstance(number, int):
            self.sequence = number
        if shape.get("response") and not self.response:
            self.response = shape["response"]
        if shape.get("type") == "response.output_item.added":
            item: Json = shape.get("item") or {}
            self.ids.append((str(item.get("type")), str(item.get("id"))))
            self.closed_items = False
        elif shape.get("type") == "response.output_item.done":
            self.closed_items = True

    def place(self, conversation: Conversation) -> Place:
        text: list[str] = []
        begun: dict[int, object] = {}
        ended: set[int] = set()
        for event in self.events:
            match event:
                case PartStarted(index=index, part=part):
                    begun[index] = part
                    text += [part.text] if isinstance(part, Text) else []
                case TextDelta(index, words) if isinstance(begun.get(index), Text):
                    text.append(words)
                case PartEnded(index=index):
                    ended.add(index)
                case Ended():
                    raise CannotContinue("the answer is whole")
                case _:
                    pass
        self._check_parts(begun, ended)
        still = [index for index, part in begun.items() if isinstance(part, Text) and index not in ended]
        return Place(
            endpoint=self.endpoint,
            conversation=conversation,
            events=tuple(self.events),
            text="".join(text),
            part=still[-1] if still else None,
            parts=len(begun),
            ids=tuple(self.ids),
            response=self.response,
            sequence=self.sequence,
        )

    def _check_parts(self, begun: dict[int, object], ended: set[int]) -> None:
        if any(isinstance(part, ToolCall | Refusal) for part in begun.values()):
            raise CannotContinue("the answer has tool calls, or refuses")
        if self.endpoint is not Endpoint.CHAT:
            thinking = Thinking | RedactedThinking
            if any(isinstance(part, thinking) and index not in ended for index, part in begun.items()):
                raise CannotContinue("the answer broke off in its thinking, which nobody else can sign")
        if self.closed_items and self.ids and self.ids[-1][0] == "message":
            raise CannotContinue("its text had ended")


def continued_body(body: bytes, place: Place, *, prefill: bool, used: int) -> bytes:
    """The request for the rest, in the caller's dialect. `used` tokens of the caller's bound are used up.

    Without any text so far it is the caller's own request. Thinking is not asked for again (a model that thinks takes
    no beginning, and its budget would have to fit into what is left). Trailing white space is left out of the text:
    Anthropic refuses it at the end, and the join knows that it was there.
    """
    endpoint = place.endpoint
    members = _members(body)
    for name in _BOUNDS[endpoint]:
        bound = members.get(name)
        if isinstance(bound, int):
            members[name] = max(bound - used, SMALLEST_BOUND.get(endpoint, 1))
    text = place.text.rstrip()
    if not text:
        return msgspec.json.encode(members)
    for name in ("thinking", *(("reasoning_effort", "reasoning") if prefill else ())):
        members.pop(name, None)
    turns: list[Any] = [{"role": "assistant", "content": text}]
    if not prefill:
        turns.append({"role": "user", "content": REASK})
    if endpoint is Endpoint.RESPONSES:
        given = members.get("input")
        before = [{"role": "user", "content": given}] if isinstance(given, str) else list(given or ())
        members["input"] = [*before, *turns]
    else:
        members["messages"] = _messages(list(members["messages"]), turns)
    return msgspec.json.encode(members)


def _messages(before: list[Any], turns: list[Any]) -> list[Any]:
    """The text so far goes on with the beginning that the caller itself gave, where it gave one."""
    fields: Json = dict(before[-1])
    if fields.get("role") != "assistant" or fields.get("tool_calls"):
        return [*before, *turns]
    text = turns[0]["content"]
    if isinstance(fields.get("content"), list):
        blocks: list[Any] = fields["content"]
        fields["content"] = [*blocks, {"type": "text", "text": text}]
    else:
        fields["content"] = f"{fields.get('content') or ''}{text}"
    return [*before[:-1], fields, *turns[1:]]
