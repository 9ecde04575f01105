"""The dialect `openai.responses`: OpenAI's Responses API, without what needs a server that keeps state.

Reference: https://platform.openai.com/docs/api-reference/responses and `openai.types.responses` of the openai SDK.
"""

from __future__ import annotations

from typing import Final

from ..sse import SseParser
from .dialect import Asked, Dialect, EventDecoder, StreamReader, StreamWriter, Target, Written
from .neutral import Completion, Conversation, ErrorReport
from .openai_errors import read_error, write_error
from .openai_responses_answers import read_answer, write_answer, write_stream_error
from .openai_responses_read import read_request
from .openai_responses_shapes import NAME
from .openai_responses_stream import ResponsesWriter
from .openai_responses_stream_read import ResponsesReader
from .openai_responses_write import write_request
from .report import Loss


class OpenAIResponses:
    """See `Dialect`."""

    name = NAME
    # Answers carry them, as the encrypted content of reasoning items, and callers that send these back have them; but
    # many callers do not, and requests of this dialect take no signatures but OpenAI's own.
    carries_signatures = False
    takes_freeform_tools = True
    text_key: bytes | None = None  # events are numbered
    longest_tool_name = 64  # as in chat; nothing says it takes longer ones

    def read_request(self, body: bytes) -> Conversation:
        return read_request(body)

    def write_request(self, conversation: Conversation, target: Target) -> Written:
        return write_request(conversation, target)

    def read_answer(self, body: bytes) -> Completion:
        return read_answer(body)

    def write_answer(self, completion: Completion, asked: Asked, loss: Loss | None = None) -> bytes:
        return write_answer(completion, asked, Loss() if loss is None else loss)

    def decoder(self) -> EventDecoder:
        return SseParser()

    def stream_reader(self) -> StreamReader:
        return ResponsesReader()

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return ResponsesWriter(asked)

    def read_error(self, status: int, body: bytes) -> ErrorReport:
        return read_error(status, body)

    def write_error(self, error: ErrorReport) -> bytes:
        return write_error(error)

    def write_stream_error(self, error: ErrorReport) -> bytes:
        return write_stream_error(error)


DIALECT: Final[Dialect] = OpenAIResponses()
