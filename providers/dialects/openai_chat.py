"""The dialect `openai.chat`: OpenAI's chat completions API, as its own and the many compatible providers speak it.

Reference: https://platform.openai.com/docs/api-reference/chat and `openai.types.chat` of the openai SDK.
"""

from __future__ import annotations

from typing import Final

from .dialect import Asked, Dialect, EventDecoder, StreamReader, StreamWriter, Target, Written
from .neutral import Completion, Conversation, ErrorReport
from .openai_chat_answers import read_answer, write_answer, write_stream_error
from .openai_chat_read import read_request
from .openai_chat_stream import ChatReader, ChatWriter
from .openai_chat_write import write_request
from .openai_errors import read_error, write_error
from .report import Loss
from .sse_events import EventReader


class OpenAIChat:
    """See `Dialect`."""

    name = "openai.chat"
    carries_signatures = False
    takes_freeform_tools = False  # OpenAI's own API does, its imitations do not
    text_key: bytes | None = b"content"
    longest_tool_name = 64  # `openai.types.shared_params.FunctionDefinition`

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
        return ChatReader()

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return ChatWriter(asked)

    def read_error(self, status: int, body: bytes) -> ErrorReport:
        return read_error(status, body)

    def write_error(self, error: ErrorReport) -> bytes:
        return write_error(error)

    def write_stream_error(self, error: ErrorReport) -> bytes:
        return write_stream_error(error)


DIALECT: Final[Dialect] = OpenAIChat()
