"""The dialect `anthropic.messages`: Anthropic's messages API.

Reference: https://platform.claude.com/docs/en/api/messages and `anthropic.types` of the anthropic SDK.
"""

from __future__ import annotations

from typing import Final

from .anthropic_messages_answers import read_answer, read_error, write_answer, write_error, write_stream_error
from .anthropic_messages_read import NAME, read_request
from .anthropic_messages_stream import MessagesReader, MessagesWriter
from .anthropic_messages_write import write_request
from .dialect import Asked, Dialect, EventDecoder, StreamReader, StreamWriter, Target, Written
from .neutral import Completion, Conversation, ErrorReport
from .report import Loss
from .sse_events import EventReader


class AnthropicMessages:
    """See `Dialect`."""

    name = NAME
    carries_signatures = True
    takes_freeform_tools = False
    text_key: bytes | None = b"text"
    longest_tool_name = 128  # its refusal: "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"

    def read_request(self, body: bytes) -> Conversation:
        return read_request(body)

    def write_request(self, conversation: Conversation, target: Target) -> Written:
        return write_request(conversation, target)

    def read_answer(self, body: bytes) -> Completion:
        return read_answer(body)

    def write_answer(self, completion: Completion, asked: Asked, loss: Loss | None = None) -> bytes:
        return write_answer(completion, asked, Loss() if loss is None else loss)

    def decoder(self) -> EventDecoder:
        return EventReader()

    def stream_reader(self) -> StreamReader:
        return MessagesReader()

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return MessagesWriter(asked)

    def read_error(self, status: int, body: bytes) -> ErrorReport:
        return read_error(status, body)

    def write_error(self, error: ErrorReport) -> bytes:
        return write_error(error)

    def write_stream_error(self, error: ErrorReport) -> bytes:
        return write_stream_error(error)


DIALECT: Final[Dialect] = AnthropicMessages()
