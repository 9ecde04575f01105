"""Events read by comparing bytes say what the reader would have said of them."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infermux.errors import UpstreamFailure
from infermux.providers.dialects.anthropic_messages import AnthropicMessages
from infermux.providers.dialects.neutral_events import PartEnded, StreamEvent, TextDelta
from infermux.providers.dialects.openai_chat import OpenAIChat
from infermux.providers.dialects.text_events import TextEvents
from infermux.providers.translate import TranslatedStream, Translation
from tests._properties import examples
from tests.providers.dialects._cases import chat, chat_to_claude, claude_to_chat, messages
from tests.providers.dialects._strategies import ANY_TEXT
from tests.providers.dialects.test_translate import Upstream


def pattern(data: bytes, text: str, key: bytes = b"content") -> TextEvents:
    found = TextEvents(key)
    found.note(data, [TextDelta(0, text)])
    return found


PLAIN = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
PADDED = b'data: {"choices":[{"delta":{"content":"%b"}}],"obfuscation":"%b"}\n\n'


@pytest.mark.parametrize("text", [" token", "é", "😀", "."])
def test_an_event_with_another_text_is_read(text: str) -> None:
    assert pattern(PLAIN % b"a", "a").read(PLAIN % text.encode()) == TextDelta(0, text)


def test_random_letters_that_hide_the_length_are_passed_over() -> None:
    assert pattern(PADDED % (b"a", b"x7"), "a").read(PADDED % (b" b", b"Qq9z")) == TextDelta(0, " b")


def test_spaces_that_hide_the_length_are_passed_over() -> None:
    event = b'event: content_block_delta\ndata: {"delta":{"text":"%b"}%b}\n\n'
    assert pattern(event % (b"a", b"  "), "a", b"text").read(event % (b" b", b"     ")) == TextDelta(0, " b")


@pytest.mark.parametrize(
    "data",
    [
        PLAIN % b"",
        PLAIN % rb"\n",
        PLAIN % b"\n",
        PLAIN % b"\xff",
        PLAIN % b"\x00",
        PLAIN % b"a" + PLAIN % b"b",
        (PLAIN % b"a")[:-1],
        (PLAIN % b"a").replace(b"null", b'"stop"'),
        b"data: [DONE]\n\n",
    ],
)
def test_what_is_not_plainly_the_same_is_left_to_the_reader(data: bytes) -> None:
    assert pattern(PLAIN % b"a", "a").read(data) is None


@pytest.mark.parametrize("data", [PADDED % (b"a", b""), PADDED % (b"a", rb"\u0041"), PADDED % (b"a", b'x","y":"z')])
def test_only_letters_and_digits_are_padding(data: bytes) -> None:
    assert pattern(PADDED % (b"a", b"x"), "a").read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"content":"a","choices":[{"delta":{"content":"a"}}]}\n\n',
        rb'data: {"choices":[{"delta":{"\u0063ontent":"a"}}],"x":{"content":"a"}}' + b"\n\n",
        b'data: {"content":["a"]}\n\n',
        b'data: {"content":"b","refusal":"a"}\n\n',
        b'data: {"content":"a"}\r\n\n',
    ],
)
def test_an_event_that_may_have_its_text_elsewhere_is_no_pattern(data: bytes) -> None:
    assert pattern(data, "a").read(data) is None


def test_an_event_that_says_something_else_ends_the_pattern() -> None:
    found = pattern(PLAIN % b"a", "a")
    said: list[StreamEvent] = [PartEnded(index=0)]
    found.note(b"data: {}\n\n", said)
    assert found.read(PLAIN % b"a") is None


def test_an_escape_does_not_end_the_pattern_of_its_text() -> None:
    found = pattern(PLAIN % b"a", "a")
    found.note(PLAIN % rb"\n", [TextDelta(0, "\n")])
    assert found.read(PLAIN % b"b") == TextDelta(0, "b")
    found.note(PLAIN % rb"\n", [TextDelta(1, "\n")])
    assert found.read(PLAIN % b"b") is None


# Whole streams, with and without it.


class ThoroughChat(OpenAIChat):
    text_key: bytes | None = None


class ThoroughMessages(AnthropicMessages):
    text_key: bytes | None = None


CHAT_EVENTS = [
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b},"finish_reason":null}]}\n\n',
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":"aB1"}\n\n',
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":"x"}\n\n',
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":"\\n"}\n\n',
    b'data: {"choices":[{"delta":{"content":%b, "content":"a"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"a"}}], "content":%b}\n\n',
    b'data: {"choices":[{"delta":{"\\u0063ontent":"\\u0061"}}],"x":{"content":%b}}\n\n',
    b'data: {"choices":[{"delta":{"refusal":%b}}]}\n\n',
    b'data: {"choices":[{"delta":{"reasoning_content":%b}}]}\n\n',
    b'data: {"choices":[{"delta":{"content": %b } } ] } \n\n',
    b'data: {"choices":[{"delta":{"content": %b}  }]}\n \n\n',
    b'data: {"choices":[{"delta":{"content":%b},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":%b}}]}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2},"content":%b}\n\n',
]
_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
MESSAGE_EVENTS = [
    _DELTA % 0 + b'{"type":"text_delta","text":%b}}\n\n',
    _DELTA % 0 + b'{"type":"text_delta","text":%b}   }\n\n',
    _DELTA % 0 + b'{"type":"text_delta","text":%b}}\n \n\n',
    _DELTA % 0 + b'{"type":"text_delta","text":%b}}\n \n',
    _DELTA % 0 + b'{"text":%b,"type":"text_delta"}}\n\n',
    _DELTA % 1 + b'{"type":"text_delta","text":%b}}\n\n',
    _DELTA % 1 + b'{"type":"thinking_delta","thinking":%b,"text":"a"}}\n\n',
    _START % (1, b'{"type":"text","text":""}') + b": %b\n\n",
    _START % (1, b'{"type":"thinking","thinking":""}') + b": %b\n\n",
    b'data: {"type":"content_block_stop","index":0,"text":%b}\n\n',
    b'data: {"type":"ping","text":%b}\n\n',
]
CHAT_BEGINNING = b'data: {"id":"c","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
BEGINNING = (
    b'data: {"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
    + _START % (0, b'{"type":"text","text":""}')
)
CHAT_END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
END = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n'
STRINGS = st.one_of(
    ANY_TEXT.map(lambda text: json.dumps(text).encode()),
    ANY_TEXT.map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
    st.sampled_from([b'"a"', b'"a"', b'" b"', b'"content"', b'"text"', b'"\\\\"', b'""', b"null", b'["a"]']),
    st.binary(max_size=3).map(lambda raw: b'"%b"' % raw),
)


@attrs.frozen(kw_only=True)
class Said:
    """What came of a stream."""

    data: bytes
    failure: str | None


def said(translation: Translation, reads: list[bytes]) -> Said:
    stream = TranslatedStream(translation, Upstream([*reads]))
    data = b""
    try:
        while (piece := received(stream)) is not None:
            data += piece
    except UpstreamFailure as failure:
        return Said(data=data, failure=failure.message)
    return Said(data=data, failure=None)


def received(stream: TranslatedStream) -> bytes | None:
    """`stream.receive()`, which has nothing to wait for here; a run of trio would take most of a test's time."""
    receiving = stream.receive()
    try:
        receiving.send(None)
    except StopIteration as done:
        value: bytes | None = done.value
        return value
    raise AssertionError("the stream waited")


def streams(events: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Reads: mostly the first event with different texts, so that there is a pattern to be mistaken about."""
    event = st.one_of(st.just(events[0]), st.sampled_from(events))
    read = st.tuples(event, STRINGS).map(lambda drawn: drawn[0] % drawn[1])
    return st.lists(st.one_of(read, read, st.lists(read, min_size=2, max_size=3).map(b"".join)), max_size=7)


@given(streams(CHAT_EVENTS))
@example([CHAT_EVENTS[0] % b'"a"', CHAT_EVENTS[0] % b'"b"', CHAT_EVENTS[0][:20], CHAT_EVENTS[0] % b'"b"'])
@settings(max_examples=examples(60), deadline=None)
def test_a_stream_of_chunks_comes_out_as_without_it(reads: list[bytes]) -> None:
    quick = claude_to_chat(messages(stream=True))
    reads = [CHAT_BEGINNING, *reads, CHAT_END]
    assert said(quick, reads) == said(attrs.evolve(quick, provider=ThoroughChat()), reads)


@given(streams(MESSAGE_EVENTS))
@settings(max_examples=examples(60), deadline=None)
def test_a_stream_of_messages_comes_out_as_without_it(reads: list[bytes]) -> None:
    quick = chat_to_claude(chat(stream=True))
    reads = [BEGINNING, *reads, END]
    assert said(quick, reads) == said(attrs.evolve(quick, provider=ThoroughMessages()), reads)
