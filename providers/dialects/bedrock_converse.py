"""The dialect `bedrock.converse`: Amazon Bedrock's Converse and ConverseStream.

Reference: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and botocore's model of the
service (`botocore/data/bedrock-runtime/2023-09-30/service-2.json.gz`).
"""

from __future__ import annotations

from typing import Final

from .bedrock_converse_answers import read_answer, read_error, write_answer, write_error
from .bedrock_converse_read import read_request
from .bedrock_converse_stream import ConverseDecoder, ConverseReader, ConverseWriter, write_stream_error
from .bedrock_converse_write import write_request
from .dialect import Asked, Dialect, EventDecoder, StreamReader, StreamWriter, Target, Written
from .neutral import Completion, Conversation, ErrorReport
from .report import Loss

NAME: Final = "bedrock.converse"


class BedrockConverse:
    """See `Dialect`. Answers do not say which model they are from: `model` is what is read in them."""

    name = NAME
    carries_signatures = True
    takes_freeform_tools = False
    text_key: bytes | None = None  # each event has a checksum
    longest_tool_name = 64  # the shape ToolName

    def __init__(self, model: str = "") -> None:
        self._model = model

    def read_request(self, body: bytes) -> Conversation:
        return read_request(body)

    def write_request(self, conversation: Conversation, target: Target) -> Written:
        return write_request(conversation, target)

    def read_answer(self, body: bytes) -> Completion:
        return read_answer(body, self._model)

    def write_answer(self, completion: Completion, asked: Asked, loss: Loss | None = None) -> bytes:
        return write_answer(completion, asked, Loss() if loss is None else loss)

    def decoder(self) -> EventDecoder:
        return ConverseDecoder()

    def stream_reader(self) -> StreamReader:
        return ConverseReader(self._model)

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return ConverseWriter()

    def read_error(self, status: int, body: bytes) -> ErrorReport:
        return read_error(status, body)

    def write_error(self, error: ErrorReport) -> bytes:
        return write_error(error)

    def write_stream_error(self, error: ErrorReport) -> bytes:
        return write_stream_error(error)


DIALECT: Final[Dialect] = BedrockConverse()
