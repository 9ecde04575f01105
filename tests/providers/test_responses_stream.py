"""What a stream of a response is known by, however its provider writes it: its errors, its end, its usage."""

from __future__ import annotations

import json

import pytest

from infermux.providers.interface import Usage
from infermux.providers.responses_stream import ResponsesStream
from tests.providers._calls import told
from tests.providers.test_chat_stream import MemoryResponse


def event(kind: str, *, in_data: bool = True, named: bool = True, **fields: object) -> bytes:
    data = {"type": kind, **fields} if in_data else fields
    return (b"event: %b\n" % kind.encode() if named else b"") + b"data: %b\n\n" % json.dumps(data).encode()


TEXT = event("response.output_text.delta", delta="a")
RESPONSE = {"id": "r", "output": [{"text": "@"}], "usage": {"input_tokens": 7, "output_tokens": 5}}
END = event("response.completed", response=RESPONSE)
ENDS = {
    "usual": END,
    "without its name": event("response.completed", named=False, response=RESPONSE),
    "by its name alone": event("response.completed", in_data=False, response=RESPONSE),
    "without blanks": END.replace(b": ", b":"),
    "in escapes": END.replace(b"event: response.completed\n", b"").replace(b"completed", rb"c\u006fmpleted"),
    "with bytes that are no text": END.replace(b"@", b"caf\xe9"),
    "with half an emoji": END.replace(b"@", b"\xf0\x9f"),
    "with a number beyond all bounds": END.replace(b'"@"', b"1e999"),
}
ERRORS = {
    "usual": event("error", message="no"),
    "by its name alone": event("error", in_data=False, message="no"),
    "by its type alone": event("error", named=False, message="no"),
    "with bytes that are no text": event("error", message="no @").replace(b"@", b"\xe9"),
    "without blanks, with bytes that are no text": b'event:error\ndata:{"type":"error","message":"no \xe9"}\n\n',
    "in escapes": rb'data: {"type":"err\u006fr","message":"no"}' + b"\n\n",
    "of no JSON": b"event: error\ndata: no, out of memory\n\n",
    "with odd members": event("error", message="no", response="none", item=5),
}


async def outcome(*reads: bytes) -> tuple[bytes, str, Usage | None, int]:
    stream = ResponsesStream(MemoryResponse(list(reads)))
    got, failure = await told(stream)
    return got, failure, stream.usage, stream.malformed_events


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_an_end_is_one_however_it_is_written_and_cut(end: bytes) -> None:
    sent = TEXT + end.decode("utf-8", "replace").encode()
    assert await outcome(TEXT, end) == (sent, "", Usage(7, 5), 0)
    assert await outcome(TEXT + end) == (sent, "", Usage(7, 5), 0)
    assert await outcome(*[bytes([byte]) for byte in TEXT + end]) == (sent, "", Usage(7, 5), 0)
    assert await outcome(TEXT, end[:-2]) == (sent, "", Usage(7, 5), 0)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
async def test_an_error_is_never_content_and_its_answer_never_whole(error: bytes) -> None:
    for reads in ([TEXT, error, END], [TEXT, error[:9], error[9:], END], [TEXT, error[:-2]]):
        got, failure, usage, left_out = await outcome(*reads)
        assert (got, usage, left_out) == (TEXT, None, 0)
        assert failure.startswith("FailureKind.BROKEN answered 200 with an error: no")


async def test_an_event_that_is_cut_json_is_left_out_and_counted() -> None:
    cut = b'event:response.output_text.delta\ndata:{"type":"resp\n\n'
    assert await outcome(TEXT, cut, END) == (TEXT + END, "", Usage(7, 5), 1)
