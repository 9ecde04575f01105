"""Answers as providers really write them, read; citations, and images that must be fetched."""

from __future__ import annotations

import json

import pytest

from infermux.errors import UpstreamFailure
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import (
    Base64,
    Citation,
    Completion,
    Image,
    Part,
    RedactedThinking,
    Role,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    Url,
)
from infermux.providers.dialects.neutral_events import PartEnded
from infermux.providers.dialects.turns import arguments_object, image_urls, read_url, with_images, write_url
from tests.providers.dialects._cases import (
    CHAT,
    MESSAGES,
    Json,
    asked,
    block_stream,
    chat_stream,
    chunk,
    message_events,
    read_answer,
    read_stream,
    sse,
    tool_chunk,
)

TEXT: Json = {"type": "text", "text": "a"}


def completion(message: Json, finish: str = "stop", **choice: object) -> Completion:
    return read_answer(CHAT, {"choices": [{"message": message, "finish_reason": finish, **choice}]})


def test_what_a_provider_leaves_out_is_made_up_or_empty() -> None:
    found = completion({"content": "x"})
    assert found.id.startswith("chatcmpl-")
    assert (found.model, found.usage, found.created) == ("", None, None)
    call = completion({"tool_calls": [{"function": {"name": "f"}}]}).parts[0]
    assert isinstance(call, ToolCall)
    assert call.id.startswith("call_")


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, TEXT]},
         (Thinking(text="hm"), Text(text="a"))),
        ({"content": "a", "reasoning": "hm"}, (Thinking(text="hm"), Text(text="a"))),
        ({"content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}]},
         (ToolCall(id="c", name="f", arguments='{"x":1}'),)),
        ({"content": None, "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "t"}}]},
         (ToolCall(id="c", name="f", arguments="t", freeform=True),)),
    ],
)  # fmt: skip
def test_messages_of_openai_s_imitators_are_read(message: Json, parts: tuple[Part, ...]) -> None:
    assert completion(message).parts == parts
    streamed = fold(read_stream(CHAT, sse(chunk(message), chunk(finish="stop"), b"[DONE]")))
    assert streamed.parts == parts


def test_the_older_function_call_is_a_tool_call_whole_and_streamed() -> None:
    message = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    streamed = fold(read_stream(CHAT, sse(chunk(message), chunk(finish="function_call"), b"[DONE]")))
    for found in (completion(message, "function_call"), streamed):
        assert found.stop is StopReason.TOOL_USE
        assert [(part.name, part.arguments) for part in found.parts if isinstance(part, ToolCall)] == [("f", "{}")]


@pytest.mark.parametrize(("name", "value"), [("stop_reason", "END"), ("matched_stop", "END")])
def test_the_stop_sequence_that_hit_is_read_where_a_provider_says_it(name: str, value: str) -> None:
    found = completion({"content": "x"}, **{name: value})
    assert (found.stop, found.stop_sequence) == (StopReason.STOP_SEQUENCE, value)


def test_a_token_number_in_place_of_a_stop_sequence_is_none() -> None:
    assert completion({"content": "x"}, stop_reason=128009).stop is StopReason.END


def test_finish_reasons_of_their_own_are_ends() -> None:
    assert completion({"content": "x"}, "eos").stop is StopReason.END


def test_a_name_that_comes_after_the_arguments_is_waited_for() -> None:
    data = sse(
        tool_chunk({"index": 0, "id": "c", "function": {"arguments": '{"x'}}),
        tool_chunk({"index": 0, "function": {"name": "f", "arguments": '":1}'}}),
        chunk(finish="tool_calls"),
        b"[DONE]",
    )
    assert fold(read_stream(CHAT, data)).parts == (ToolCall(id="c", name="f", arguments='{"x":1}'),)


def test_calls_whose_pieces_are_mixed_keep_their_arguments_apart() -> None:
    data = sse(
        tool_chunk({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}),
        tool_chunk({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}),
        tool_chunk({"index": 0, "function": {"arguments": "}"}}, {"index": 1, "function": {"arguments": "}"}}),
        chunk(finish="tool_calls"),
        b"[DONE]",
    )
    found = fold(read_stream(CHAT, data)).parts
    assert found == (ToolCall(id="a", name="f", arguments="{}"), ToolCall(id="b", name="g", arguments="{}"))


def test_calls_without_index_go_on_until_another_begins() -> None:
    data = sse(
        tool_chunk({"id": "a", "function": {"name": "f", "arguments": "{"}}),
        tool_chunk({"function": {"arguments": "}"}}),
        tool_chunk({"function": {"name": "g", "arguments": "{}"}}),
        chunk(finish="tool_calls"),
        b"[DONE]",
    )
    found = fold(read_stream(CHAT, data)).parts
    assert [(part.name, part.arguments) for part in found if isinstance(part, ToolCall)] == [("f", "{}"), ("g", "{}")]


def test_a_call_that_never_gets_a_name_is_malformed() -> None:
    with pytest.raises(UpstreamFailure, match="without a name"):
        read_stream(CHAT, sse(tool_chunk({"index": 0, "id": "a"}), chunk(finish="tool_calls"), b"[DONE]"))


def test_a_stream_that_ends_after_its_finish_reason_has_ended_without_done() -> None:
    assert fold(read_stream(CHAT, sse(chunk({"content": "x"}), chunk(finish="length")))).stop is StopReason.LENGTH
    with pytest.raises(UpstreamFailure):
        fold(read_stream(CHAT, sse(chunk({"content": "x"}))))


def test_only_the_first_of_several_choices_is_read() -> None:
    other = {**chunk(), "choices": [{"index": 1, "delta": {"content": "y"}}]}
    assert fold(read_stream(CHAT, sse(chunk({"content": "x"}), other, chunk(finish="stop")))).parts == (Text(text="x"),)


def test_blocks_of_the_provider_s_own_tools_are_passed_over() -> None:
    own: Json = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    text = {"type": "text", "text": ""}
    data = message_events(
        [own, {"type": "input_json_delta", "partial_json": "{}"}], [text, {"type": "text_delta", "text": "a"}]
    )
    events = read_stream(MESSAGES, data)
    assert [event.index for event in events if isinstance(event, PartEnded)] == [0]
    assert fold(events).parts == (Text(text="a"),)


def test_redacted_thinking_and_signatures_are_left_out_of_chat_answers() -> None:
    parts = (Thinking(text="hm", signature="s"), RedactedThinking(data="d"), Text(text="a"))
    answer = Completion(id="i", model="m", parts=parts, stop=StopReason.END)
    message = json.loads(CHAT.write_answer(answer, asked()))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "a", "refusal": None, "reasoning_content": "hm"}


WEB: Json = {
    "type": "web_search_result_location",
    "cited_text": "c",
    "encrypted_index": "e",
    "title": "T",
    "url": "https://example.org",
}
PAGE: Json = {
    "type": "page_location",
    "cited_text": "c",
    "document_index": 0,
    "document_title": "T",
    "start_page_number": 1,
    "end_page_number": 2,
}


def test_citations_of_the_web_become_annotations_where_the_text_stands() -> None:
    first = {"type": "text", "text": "It is "}
    cited = {"type": "text", "text": "so.", "citations": [WEB, PAGE]}
    answer = read_answer(MESSAGES, {"id": "i", "content": [first, cited]})
    (text,) = [part for part in answer.parts if isinstance(part, Text) and part.citations]
    assert text.citations[1] == Citation(cited_text="c", title="T", document_index=0, unit="page", start=1, end=2)
    message = json.loads(CHAT.write_answer(answer, asked()))["choices"][0]["message"]
    expected = {"url": "https://example.org", "title": "T", "start_index": 6, "end_index": 9}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": expected}]
    data = message_events(
        [{"type": "text", "text": ""}, {"type": "text_delta", "text": "It is "}],
        [
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "so."},
            {"type": "citations_delta", "citation": WEB},
        ],
    )
    chunks = chat_stream(CHAT.stream_writer(asked()).write(read_stream(MESSAGES, data)))
    assert [found for item in chunks if (found := item["choices"][0]["delta"].get("annotations"))] == [
        message["annotations"]
    ]


def test_annotations_become_citations() -> None:
    inner = {"url": "https://example.org", "title": "T", "start_index": 0, "end_index": 1}
    message = {"content": "a", "annotations": [{"type": "url_citation", "url_citation": inner}, {"type": "other"}, 5]}
    (block,) = json.loads(MESSAGES.write_answer(completion(message), asked()))["content"]
    assert block["citations"] == [{**WEB, "cited_text": "", "encrypted_index": ""}]
    data = sse(chunk({"content": "a"}), chunk({"annotations": message["annotations"]}), chunk(finish="stop"))
    events = block_stream(MESSAGES.stream_writer(asked()).write(read_stream(CHAT, data)))
    assert [event["delta"]["citation"] for event in events if "citations_delta" in str(event)] == block["citations"]


@pytest.mark.parametrize(
    ("text", "value", "known"),
    [
        ("", {}, True),
        (" \n", {}, True),
        ("null", {}, True),
        ('{"a":1}', {"a": 1}, True),
        ("[1]", {"arguments": [1]}, False),
        ('{"a":', {"arguments": '{"a":'}, False),
    ],
)
def test_arguments_are_an_object_whatever_a_model_wrote(text: str, value: Json, known: bool) -> None:
    assert arguments_object(text) == (value, known)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://example.org/a.png", Url(url="https://example.org/a.png")),
        ("data:image/PNG;base64,QUJD", Base64(data="QUJD", media_type="image/png")),
        ("data:image/png;name=a;base64,QUJD", Base64(data="QUJD", media_type="image/png")),
        ("data:text/plain,hi", Url(url="data:text/plain,hi")),
    ],
)
def test_a_data_url_is_the_bytes_themselves(url: str, source: Url | Base64) -> None:
    assert read_url(url) == source
    assert read_url(write_url(source)) == source


def test_images_by_address_are_found_and_replaced_in_results_too() -> None:
    near, far = Image(source=Url(url="https://a")), Image(source=Url(url="https://b"), detail="low")
    parts = (ToolResult(call_id="c", parts=(Text(text="t"), near)), far, Text(text="t"))
    turns = (Turn(role=Role.USER, parts=parts),)
    assert list(image_urls(turns)) == ["https://a", "https://b"]
    fetched = Base64(data="QUJD", media_type="image/png")
    (turn,) = with_images(turns, {"https://a": fetched, "https://b": fetched})
    assert list(image_urls([turn])) == []
    assert turn.parts[1] == Image(source=fetched, detail="low")
