"""An event that is alone in its read is told by one look at it: the same comes of it as of one that came in parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from infermux.errors import UpstreamFailure
from infermux.providers.chat_stream import DONE, ChatStream
from infermux.providers.interface import Usage
from infermux.providers.transport import BODY_LIMIT


class Pieces:
    """A `Response` of given reads."""

    content_type = b"text/event-stream"
    status = 200
    framed = True
    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def get(self, name: bytes) -> None:
        del name

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        return b"".join(self._pieces)[:limit]

    async def receive(self) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else None

    def close(self) -> None:
        pass


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
}


async def outcome(*reads: bytes) -> tuple[bytes, str, Usage | None, int, bool]:
    stream = ChatStream(Pieces(list(reads)), asked_usage=False)
    got, failure = b"", ""
    try:
        while (data := await stream.receive()) is not None:
            got += data
    except UpstreamFailure as error:
        failure = f"{error.kind} {error}"
    return got, failure, stream.usage, stream.malformed_events, stream.last_words() is None


@pytest.mark.parametrize("lone", LONE.values(), ids=LONE.keys())
async def test_an_event_is_seen_alike_however_it_came(lone: bytes) -> None:
    alone = await outcome(FIRST, lone, LAST)
    assert alone == await outcome(FIRST, lone[:9], lone[9:], LAST)
    assert alone == await outcome(FIRST, lone + LAST)


async def test_a_reason_to_stop_in_any_choice_is_one() -> None:
    _, failure, _, _, _ = await outcome(FIRST, LONE["the last choice goes on, the first one stops"])
    assert not failure
