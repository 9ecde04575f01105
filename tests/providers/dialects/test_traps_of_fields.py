"""What translations between chat completions and Anthropic's messages get wrong in single fields."""

from __future__ import annotations

import json

import pytest

from infermux.errors import InvalidRequest
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import Text
from infermux.providers.dialects.neutral_events import Ended, Started
from infermux.providers.interface import Usage
from infermux.providers.translate import translate
from tests.providers.dialects._cases import (
    CHAT,
    CLAUDE,
    MESSAGES,
    SCHEMA,
    Json,
    asked,
    block_stream,
    chat,
    chat_stream,
    chat_to_claude,
    chunk,
    claude_to_chat,
    message_events,
    messages,
    read_answer,
    read_stream,
    to_chat,
    to_messages,
)
from tests.providers.dialects._tools import FUNCTION, THOUGHTFUL, TOOL_USE, asking, call, result, whole

# usage


def test_usage_stands_at_the_start_and_at_the_end_of_anthropic_s_streams() -> None:
    start = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}
    text = [{"type": "text", "text": ""}, {"type": "text_delta", "text": "ok"}]
    events = read_stream(MESSAGES, message_events(text, usage=start))
    first, last = events[0], events[-1]
    assert isinstance(first, Started)
    assert isinstance(last, Ended)
    assert first.usage == Usage(prompt_tokens=17, completion_tokens=1, cached_tokens=5, cache_write_tokens=2)
    assert last.usage == Usage(prompt_tokens=17, completion_tokens=9, cached_tokens=5, cache_write_tokens=2)
    final = chat_stream(CHAT.stream_writer(asked(include_usage=True)).write(events))[-1]
    assert final["choices"] == []
    assert final["usage"]["prompt_tokens_details"] == {"cached_tokens": 5, "cache_write_tokens": 2}
    written = block_stream(MESSAGES.stream_writer(asked()).write(events))
    assert written[0]["message"]["usage"]["input_tokens"] == 10
    assert written[-2]["usage"] == {**start, "output_tokens": 9}


def test_the_usage_chunk_comes_only_when_asked_for() -> None:
    events = read_stream(MESSAGES, message_events([{"type": "text", "text": ""}]))
    assert all("usage" not in item for item in chat_stream(CHAT.stream_writer(asked()).write(events)))


def test_reasoning_tokens_are_carried_both_ways() -> None:
    usage = {"input_tokens": 1, "output_tokens": 8, "output_tokens_details": {"thinking_tokens": 6}}
    there = json.loads(chat_to_claude(chat()).answer(whole({**THOUGHTFUL, "usage": usage})).body)
    assert there["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6
    answer = {**chunk(), "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}
    back = json.loads(claude_to_chat(messages()).answer(whole({**answer, "usage": there["usage"]})).body)
    assert back["usage"]["output_tokens_details"] == {"thinking_tokens": 6}


# bounds


@pytest.mark.parametrize(
    ("model", "target", "expected"),
    [
        ("claude-sonnet-4-5", Target(model="claude-sonnet-4-5"), 64_000),
        ("claude-opus-4-1", Target(model="claude-opus-4-1-20250805"), 32_000),
        ("a bigger one by its settings", Target(model="claude-sonnet-4-5", max_tokens=90_000), 90_000),
        ("unknown", Target(model="kimi-k2", default_max_tokens=1234), 1234),
    ],
)
def test_the_bound_anthropic_requires_is_the_model_s_own_maximum(model: str, target: Target, expected: int) -> None:
    done = translate(json.dumps(chat()).encode(), caller=CHAT, provider=MESSAGES, target=target)
    assert json.loads(done.body)["max_tokens"] == expected, model
    assert done.dropped == ()


def test_a_bound_over_the_model_s_maximum_is_clamped_and_named() -> None:
    body, dropped = to_messages(chat(max_completion_tokens=1_000_000))
    assert body["max_tokens"] == 64_000
    assert dropped == ("max_tokens(clamped)",)


def test_temperature_is_clamped_and_named() -> None:
    body, dropped = to_messages(chat(temperature=1.7))
    assert body["temperature"] == 1.0
    assert dropped == ("temperature(clamped)",)


@pytest.mark.parametrize(
    ("model", "sent", "dropped"),
    [
        ("claude-3-opus-20240229", {"temperature": 0.5, "top_p": 0.5}, ()),
        ("claude-opus-4-1", {"temperature": 0.5}, ("top_p",)),
        ("claude-opus-4-7", {}, ("temperature", "top_p")),
    ],
)
def test_sampling_goes_as_far_as_the_model_takes_it(model: str, sent: Json, dropped: tuple[str, ...]) -> None:
    body, names = to_messages(chat(temperature=0.5, top_p=0.5), model=model)
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == sent
    assert names == dropped


def test_stop_sequences_and_which_one_hit() -> None:
    body, dropped = to_messages(chat(stop=["END", "\n"]))
    assert body["stop_sequences"] == ["END"]
    assert dropped == ("stop(blank ones left out)",)
    hit = {
        **THOUGHTFUL,
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "content": [{"type": "text", "text": "a"}],
    }
    choice = json.loads(chat_to_claude(chat(stop="END")).answer(whole(hit)).body)["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")
    answer = {
        **chunk(),
        "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}],
    }
    back = json.loads(claude_to_chat(messages(stop_sequences=["END"])).answer(whole(answer)).body)
    assert (back["stop_reason"], back["stop_sequence"]) == ("stop_sequence", "END")


def test_more_stops_than_openai_takes_are_clamped() -> None:
    body, dropped = to_chat(messages(stop_sequences=list("abcde")))
    assert body["stop"] == list("abcd")
    assert dropped == ("stop(clamped)",)


# structured output


FORMAT: Json = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": SCHEMA}}


def test_a_json_schema_is_native_where_the_model_has_it() -> None:
    done = chat_to_claude(chat(response_format=FORMAT))
    body = json.loads(done.body)
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "tools" not in body
    assert done.dropped == ()


OLD = "claude-3-7-sonnet-latest"


def test_a_json_schema_is_a_forced_tool_elsewhere_and_unwrapped_again() -> None:
    done = chat_to_claude(chat(response_format=FORMAT), model=OLD)
    body = json.loads(done.body)
    assert body["tools"][0]["input_schema"] == SCHEMA
    assert body["tool_choice"] == {"type": "tool", "name": "json_answer"}
    used = {**TOOL_USE, "name": "json_answer"}
    answer = json.loads(done.answer(whole({**THOUGHTFUL, "content": [used]})).body)["choices"][0]
    assert json.loads(answer["message"]["content"]) == {"city": "Oslo"}
    assert "tool_calls" not in answer["message"]
    assert answer["finish_reason"] == "stop"


def test_a_forced_tool_stands_beside_the_caller_s_own() -> None:
    done = chat_to_claude(chat(response_format=FORMAT, tools=[FUNCTION]), model=OLD)
    assert json.loads(done.body)["tool_choice"] == {"type": "any"}
    answer = json.loads(done.answer(whole({**THOUGHTFUL, "content": [TOOL_USE]})).body)["choices"][0]
    assert answer["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert answer["finish_reason"] == "tool_calls"


def test_json_mode_is_asked_for_in_words_on_anthropic() -> None:
    body, dropped = to_messages(chat(response_format={"type": "json_object"}))
    assert "JSON" in body["system"]
    assert dropped == ("response_format(as instruction)",)


# images, refusals, system messages


def test_images_by_address_and_by_bytes_go_both_ways() -> None:
    urls = ["https://example.org/a.png", "data:image/png;base64,QUJD"]
    content = [{"type": "image_url", "image_url": {"url": url, "detail": "auto"}} for url in urls]
    body, dropped = to_messages(chat({"role": "user", "content": content}))
    assert dropped == ()
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": urls[0]}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
    ]
    back, _ = to_chat(messages(body["messages"][0]))
    assert [part["image_url"]["url"] for part in back["messages"][0]["content"]] == urls


def test_refusals_are_carried_both_ways() -> None:
    refused = {**THOUGHTFUL, "content": [{"type": "text", "text": "I"}], "stop_reason": "refusal"}
    choice = json.loads(chat_to_claude(chat()).answer(whole(refused)).body)["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    said = {**refused, "content": [], "stop_details": {"type": "refusal", "category": "bio", "explanation": "No."}}
    choice = json.loads(chat_to_claude(chat()).answer(whole(said)).body)["choices"][0]
    assert (choice["message"]["refusal"], choice["message"]["content"]) == ("No.", None)
    answer = {
        **chunk(),
        "choices": [{"index": 0, "message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}],
    }
    back = json.loads(claude_to_chat(messages()).answer(whole(answer)).body)
    assert (back["stop_reason"], back["content"]) == ("refusal", [{"type": "text", "text": "No."}])


def test_system_messages_after_the_first_turn_stay_in_place_as_user_text() -> None:
    request = chat(
        {"role": "system", "content": "first"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "go on"},
    )
    body, dropped = to_messages(request)
    assert body["system"] == "first"
    assert body["messages"][2] == {
        "role": "user",
        "content": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "go on"}],
    }
    assert dropped == ("messages.system(as user)",)


def test_tools_are_named_from_the_history_where_the_request_has_none() -> None:
    body, dropped = to_messages(chat({"role": "user", "content": "u"}, asking(call("a")), result("a")))
    assert [tool["name"] for tool in body["tools"]] == ["weather"]
    assert body["tool_choice"] == {"type": "none"}
    assert dropped == ("tools(named from the messages)",)


def test_strict_refuses_what_would_be_dropped_and_names_it() -> None:
    body = json.dumps(chat(temperature=1.7, logit_bias={"1": 2})).encode()
    with pytest.raises(InvalidRequest, match=r"temperature\(clamped\), logit_bias"):
        translate(body, caller=CHAT, provider=MESSAGES, target=Target(model=CLAUDE), strict=True)


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
    ],
)
def test_stop_reasons_map_both_ways(finish: str, stop: str) -> None:
    answer = {**chunk(), "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": finish}]}
    assert json.loads(claude_to_chat(messages()).answer(whole(answer)).body)["stop_reason"] == stop
    message = {**THOUGHTFUL, "content": [{"type": "text", "text": "x"}], "stop_reason": stop}
    back = json.loads(chat_to_claude(chat()).answer(whole(message)).body)
    assert back["choices"][0]["finish_reason"] == finish


def test_text_of_several_blocks_is_one_text() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_answer(MESSAGES, {**THOUGHTFUL, "content": content}).parts == (Text(text="a"), Text(text="b"))
    done = json.loads(chat_to_claude(chat()).answer(whole({**THOUGHTFUL, "content": content})).body)
    assert done["choices"][0]["message"]["content"] == "ab"
