"""What is no text inside an event costs the event nothing but that, translated and passed through."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.chat_stream import ChatStream
from infermux.providers.messages_stream import MessagesStream
from infermux.providers.odd_text import mended
from infermux.providers.sieve import Sieve
from tests._properties import examples
from tests.providers.dialects._cases import (
    Json,
    block_stream,
    chat,
    chat_stream,
    chat_to_claude,
    chunk,
    claude_to_chat,
    message_events,
    messages,
    sse,
)
from tests.providers.dialects.test_translate import all_of
from tests.providers.test_chat_stream import MemoryResponse

ODD = [
    (rb"a\ud83d", "a\ufffd"),
    (rb"\ude00b", "\ufffdb"),
    (rb"\uD83D\u0041", "\ufffdA"),
    (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    (b"a\xf0\x9f", "a\ufffd"),
    (b"\xffb", "\ufffdb"),
    (b"\xff" + rb"\ude00", "\ufffd\ufffd"),
]
PLACE = b"HERE"


@pytest.mark.parametrize(("odd", "text"), ODD)
def test_what_is_no_text_becomes_a_replacement(odd: bytes, text: str) -> None:
    assert msgspec.json.decode(mended(b'{"t":"%b"}' % odd)) == {"t": text}


@pytest.mark.parametrize(
    "sound", [rb'{"t":"\ud83d\ude00"}', rb'{"t":"\\ud83d"}', '{"t":"é😀\\n"}'.encode(), b'{"t', b""]
)
def test_what_is_text_stays_as_it_is(sound: bytes) -> None:
    assert mended(sound) == sound


@settings(max_examples=examples(150), deadline=None)
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=8), st.booleans())
def test_any_string_can_be_read_once_it_is_mended(text: str, ascii_only: bool) -> None:
    written = json.dumps({"t": text}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    read: Json = msgspec.json.decode(mended(written))
    seen = json.loads(json.dumps(text))  # halves beside each other are a pair by then
    if ascii_only:
        assert read["t"] == "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in seen)
    else:
        assert not any("\ud800" <= each <= "\udfff" for each in read["t"])


@pytest.mark.parametrize(("odd", "text"), ODD)
async def test_an_answer_goes_on_for_callers_of_messages(odd: bytes, text: str) -> None:
    events = [chunk({"content": "one "}), chunk({"content": PLACE.decode()}), chunk({"content": " two"})]
    pieces = [sse(event).replace(PLACE, odd) for event in (*events, chunk(finish="stop"))] + [sse(b"[DONE]")]
    stream = claude_to_chat(messages(stream=True)).stream(ChatStream(MemoryResponse([*pieces]), asked_usage=False))
    told = block_stream(await all_of(stream))
    said = "".join(event["delta"].get("text", "") for event in told if event["type"] == "content_block_delta")
    assert said == f"one {text} two"
    assert (told[-1]["type"], stream.malformed_events) == ("message_stop", 0)


@pytest.mark.parametrize(("odd", "text"), ODD)
async def test_an_answer_goes_on_for_callers_of_chat(odd: bytes, text: str) -> None:
    deltas = [{"type": "text_delta", "text": said} for said in ("one ", PLACE.decode(), " two")]
    whole = message_events([{"type": "text", "text": ""}, *deltas]).replace(PLACE, odd)
    pieces = [event + b"\n\n" for event in whole.split(b"\n\n")[:-1]]
    stream = chat_to_claude(chat(stream=True)).stream(MessagesStream(MemoryResponse([*pieces])))
    told = chat_stream(await all_of(stream))
    assert (
        "".join(choice["delta"].get("content") or "" for each in told for choice in each["choices"])
        == f"one {text} two"
    )
    assert stream.malformed_events == 0


def test_half_a_pair_alone_does_not_cost_an_event_that_passes_through() -> None:
    sieve, good = Sieve(), b'data: {"a": 1}\n\n'
    assert sieve.sound(good + rb'data: {"t":"\ud83d"}' + b"\n\n" + good) == (
        good + rb'data: {"t":"\ufffd"}' + b"\n\n" + good
    )
    assert sieve.sound(rb'data: {"t":"\ud83d"' + b"\n\n") == b""
    assert sieve.left_out == 1
