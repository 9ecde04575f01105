"""The neutral form of an answer that comes in pieces: events, of which `Started` is the first.

`index` counts the parts of the answer from 0, in the order they start. The last event is `Ended`, or `StreamError`
where the answer broke off.
"""

from __future__ import annotations

import attrs

from ..interface import Usage
from .neutral import Citation, ErrorReport, RedactedThinking, Refusal, StopReason, Text, Thinking, ToolCall


@attrs.frozen(kw_only=True)
class Started:
    """The first event. `usage` is what the provider says at the start, None where it says nothing."""

    id: str
    model: str
    usage: Usage | None = None
    created: int | None = None


@attrs.frozen(kw_only=True)
class PartStarted:
    """A part begins with `part`, whose text is usually empty; deltas add to it."""

    index: int
    part: Text | Thinking | RedactedThinking | ToolCall | Refusal


@attrs.frozen
class TextDelta:
    """More of a text or a refusal."""

    index: int
    text: str


@attrs.frozen
class ThinkingDelta:
    """More thinking."""

    index: int
    text: str


@attrs.frozen
class SignatureDelta:
    """The signature of a thinking part, whole."""

    index: int
    signature: str


@attrs.frozen
class ArgumentsDelta:
    """More of a tool call's arguments."""

    index: int
    arguments: str


@attrs.frozen
class CitationDelta:
    """One more citation of a text part."""

    index: int
    citation: Citation


@attrs.frozen(kw_only=True)
class PartEnded:
    """A part is whole."""

    index: int


@attrs.frozen(kw_only=True)
class Ended:
    """The genuine end of the answer; nothing follows."""

    stop: StopReason
    stop_sequence: str | None = None
    usage: Usage | None = None


@attrs.frozen(kw_only=True)
class StreamError:
    """The answer broke off with an error; nothing follows, and it has no genuine end."""

    error: ErrorReport


Delta = TextDelta | ThinkingDelta | SignatureDelta | ArgumentsDelta | CitationDelta
StreamEvent = Started | PartStarted | Delta | PartEnded | Ended | StreamError
