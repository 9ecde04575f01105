"""An event that is alone in its read is told by one look at it: the same comes of it as of one that came in parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infermux.providers.chat_stream import DONE, ChatStream
from infermux.providers.interface import Usage
from tests.providers._calls import told
from tests.providers.test_chat_stream import MemoryResponse


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def said(**more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], **more}


FIRST = event(said())
USAGE = {"prompt_tokens": 7, "completion_tokens": 5}
LAST = event({"choices": [{"index": 0, "finish_reason": "stop"}]}) + DONE
STOPS: dict[str, Any] = {"index": 1, "delta": {"content": "a"}, "finish_reason": "stop"}
LONE = {
    "usual": FIRST,
    "without choices": event({"object": "ping"}),
    "members of other types": event({"choices": [None, 5], "object": 7}),
    "choices that are none": event({"choices": {"a": 1}}),
    "null": event(said(usage=None, error=None, object="chat.completion.chunk")),
    "usage of its own": event({"choices": [], "usage": USAGE}),
    "usage beside choices": event(said(usage=USAGE)),
    "the last choice goes on, the first one stops": event({"choices": [STOPS, said()["choices"][0]]}),
    "an error": event({"error": {"message": "no", "code": 500}}),
    "a flat error": event({"object": "error", "message": "no", "code": 500}),
    "what is cut": FIRST[:-4] + b"\n\n",
    "what is broken in the depth": event(said()).replace(b'"delta": {', b'"delta": {,'),
    "two objects": b'data: {"choices": []}{}\n\n',
    "an empty line within": b'data: {"choices": [],\n\n"object": "x"}\n\n',
    "two lines": b'data: {"choices": [],\ndata: "object": "x"}\n\n',
    "a name": b"event: message\n" + FIRST,
    "other line ends": FIRST.replace(b"\n", b"\r\n"),
    "a comment": b": still here\n\n",
    "no JSON": b"data: hello\n\n",
    "the end": DONE,
    "an error in bytes that are no text": event({"error": {"message": "caf@", "code": 500}}).replace(b"@", b"\xe9"),
    "an error beside bytes that are no text": event({"error": {"message": "no"}, "x": "@"}).replace(b"@", b"\xff"),
    "a stop beside half an emoji": event({"choices": [STOPS], "x": "@"}).replace(b"@", b"\xf0\x9f"),
    "usage beside bytes that are no text": event({"choices": [], "usage": {**USAGE, "x": "@"}}).replace(b"@", b"\xff"),
    "half an emoji": event({"choices": [{"delta": {"content": "@"}}]}).replace(b"@", b"\xf0\x9f"),
    "a whole emoji": event({"choices": [{"delta": {"content": "@"}}]}).replace(b"@", b"\xf0\x9f\x98\x80"),
    "an error by its name": b"event: error\n" + event({"code": 500, "message": "no"}),
    "an error by its name, closely written": b'event:error\ndata:{"code":500,"message":"no"}\n\n',
    "an error by its name, of no JSON": b"event: error\ndata: out of memory\n\n",
    "a flat error with choices": event({"object": "error", "message": "no", "choices": []}),
    "cut without a blank": b'data:{"choices":[{"del\n\n',
    "a number beyond all bounds": event({"error": {"message": "no"}, "x": 0}).replace(b"0}", b"1e999}"),
    "an error in escapes": rb'data: {"err\u006fr":{"message":"no"}}' + b"\n\n",
    "usage in escapes": rb'data: {"choices":[],"us\u0061ge":{"prompt_tokens":3,"completion_tokens":1}}' + b"\n\n",
    "a stop that is no text": event({"choices": [{"delta": {"content": "a"}, "finish_reason": 1}]}),
}
ERRORS = [name for name in LONE if "error" in name or "number" in name]


async def outcome(*reads: bytes) -> tuple[bytes, str, Usage | None, int, bool]:
    stream = ChatStream(MemoryResponse(list(reads)), asked_usage=False)
    got, failure = await told(stream)
    return got, failure, stream.usage, stream.malformed_events, stream.last_words() is None


@pytest.mark.parametrize("lone", LONE.values(), ids=LONE.keys())
async def test_an_event_is_seen_alike_however_it_came(lone: bytes) -> None:
    alone = await outcome(FIRST, lone, LAST)
    assert alone == await outcome(FIRST, lone[:9], lone[9:], LAST)
    assert alone == await outcome(FIRST, lone + LAST)


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_is_never_content_and_its_answer_never_whole(name: str) -> None:
    got, failure, *_ = await outcome(FIRST, LONE[name], DONE)
    assert (got, failure.partition(" ")[0]) == (FIRST, "FailureKind.BROKEN")
    assert (await outcome(FIRST, LONE[name].rstrip(b"\n")))[0] == FIRST


@pytest.mark.parametrize("end", [b"\n\n", b""])
async def test_bytes_that_are_no_text_hide_neither_a_stop_nor_usage(end: bytes) -> None:
    stop = LONE["a stop beside half an emoji"].rstrip(b"\n") + end
    got, failure, usage, left_out, _ = await outcome(FIRST, LONE["usage beside bytes that are no text"], stop)
    assert (failure, usage, left_out) == ("", Usage(7, 5), 0)
    assert got == FIRST + LONE["a stop beside half an emoji"].decode("utf-8", "replace").encode() + DONE


async def test_a_character_may_come_in_two_reads() -> None:
    emoji = LONE["a whole emoji"]
    at = emoji.index(b"\x9f")
    assert (await outcome(FIRST, emoji[:at], emoji[at:], LAST))[0] == FIRST + emoji + LAST


async def test_a_reason_to_stop_in_any_choice_is_one() -> None:
    _, failure, _, _, _ = await outcome(FIRST, LONE["the last choice goes on, the first one stops"])
    assert not failure
