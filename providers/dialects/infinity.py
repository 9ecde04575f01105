"""The dialect `infinity`: what provider processes of Infinity's line protocol are asked and answer.

Only providers speak it, so there is nothing to read of callers and nothing to write for them.
"""

from __future__ import annotations

from typing import Final

from .dialect import EventDecoder, StreamReader, Target, Written, malformed
from .fold import fold
from .infinity_stream import InfinityReader, LineDecoder
from .infinity_write import write_request
from .neutral import Completion, Conversation, ErrorReport
from .neutral_events import StreamError, StreamEvent
from .openai_errors import read_error

NAME: Final = "infinity"


class Infinity:
    """See `ProviderDialect`. Answers do not say which model they are from: `model` is what is read in them."""

    name = NAME
    carries_signatures = True
    takes_freeform_tools = False
    text_key: bytes | None = None
    longest_tool_name = 64

    def __init__(self, model: str = "") -> None:
        self._model = model

    def write_request(self, conversation: Conversation, target: Target) -> Written:
        return write_request(conversation, target)

    def read_answer(self, body: bytes) -> Completion:
        """`body` is all lines of the answer: the protocol only streams."""
        decoder, reader = LineDecoder(), InfinityReader(self._model)
        events: list[StreamEvent] = []
        for event in (*decoder.feed(body), *decoder.flush()):
            events += reader.feed(event)
        if events and isinstance(events[-1], StreamError):
            raise malformed(f"broke off with an error: {events[-1].error.message}")
        return fold(events)

    def decoder(self) -> EventDecoder:
        return LineDecoder()

    def stream_reader(self) -> StreamReader:
        return InfinityReader(self._model)

    def read_error(self, status: int, body: bytes) -> ErrorReport:
        return read_error(status, body)
