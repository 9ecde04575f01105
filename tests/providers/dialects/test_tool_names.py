"""Tools keep the caller's names, whatever names the provider takes."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.dialects import bedrock_converse, openai_responses
from infermux.providers.dialects.dialect import Dialect, Target
from infermux.providers.dialects.kept_thinking import ThinkingStore
from infermux.providers.dialects.neutral import Conversation, Role, Text, Tool, ToolCall, ToolChoice, ToolMode, Turn
from infermux.providers.dialects.tool_names import rename
from infermux.providers.interface import Answer
from infermux.providers.translate import translate
from tests._properties import examples
from tests.providers.dialects._cases import (
    CHAT,
    MESSAGES,
    SCHEMA,
    Json,
    block_stream,
    chat,
    chat_stream,
    chunk,
    message_events,
    messages,
    sse,
    tool_chunk,
)
from tests.providers.dialects.test_translate import Upstream, all_of

BEDROCK = bedrock_converse.DIALECT
LONG = "mcp__plugin_everything__" + "x" * 90
LONGER = "mcp__plugin_everything__" + "x" * 90 + "y" * 40
DOTTED = "calendar.create event"
SPANISH = "año"
TAKEN = re.compile(r"[a-zA-Z0-9_-]+")


def function(name: str) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}


def renamed(*names: str, longest: int = 64) -> dict[str, str]:
    """What each name becomes."""
    turns = (Turn(role=Role.USER, parts=(Text(text="u"),)),)
    found = Conversation(model="m", turns=turns, tools=tuple(Tool(name=name) for name in names))
    return dict(zip(names, (tool.name for tool in rename(found, longest)[0].tools), strict=True))


@pytest.mark.parametrize(
    ("dialect", "longest"),
    [(CHAT, 64), (openai_responses.DIALECT, 64), (MESSAGES, 128), (BEDROCK, 64)],
    ids=lambda value: value.name if hasattr(value, "name") else value,
)
def test_each_api_takes_names_of_its_own_length(dialect: Dialect, longest: int) -> None:
    assert dialect.longest_tool_name == longest


def test_a_name_that_is_taken_stays() -> None:
    conversation = Conversation(model="m", turns=(), tools=(Tool(name="x" * 64), Tool(name="a-b_C9")))
    assert rename(conversation, 64) == (conversation, {})


@pytest.mark.parametrize("name", ["", ".", "a" * 65, DOTTED, SPANISH, "\ud800", "日本", "a/b", "a b"])
def test_any_other_name_becomes_one_that_is_taken_and_the_same_each_time(name: str) -> None:
    (found,) = renamed(name).values()
    assert TAKEN.fullmatch(found)
    assert len(found) <= 64
    assert renamed("first", name)[name] == found


def test_names_that_differ_where_they_are_cut_or_respelled_stay_apart() -> None:
    found = renamed(LONG, LONGER, "a.b", "a b", "a_b", "año", "aÑo")
    assert len(set(found.values())) == len(found)
    assert found["a_b"] == "a_b"


def test_a_name_that_a_tool_already_has_is_not_given_to_another() -> None:
    first = renamed("a.b")["a.b"]
    found = renamed("a.b", first)
    assert found[first] == first
    assert found["a.b"] != first


NAMES = st.lists(st.text(alphabet="ab._é", max_size=4) | st.sampled_from([LONG, LONGER]), max_size=6, unique=True)


@settings(max_examples=examples(50), deadline=None)
@given(NAMES, st.sampled_from([64, 128]))
def test_names_are_put_back_one_to_one(names: list[str], longest: int) -> None:
    conversation = Conversation(model="m", turns=(), tools=tuple(Tool(name=name) for name in names))
    sent, back = rename(conversation, longest)
    assert all(TAKEN.fullmatch(tool.name) and len(tool.name) <= longest for tool in sent.tools)
    assert [back.get(tool.name, tool.name) for tool in sent.tools] == names


def test_the_choice_and_the_history_have_the_same_name_as_the_tool() -> None:
    call = ToolCall(id="a", name=LONG, arguments="{}")
    conversation = Conversation(
        model="m",
        turns=(Turn(role=Role.ASSISTANT, parts=(call, Text(text="t"))),),
        tools=(Tool(name=LONG),),
        tool_choice=ToolChoice(mode=ToolMode.NAMED, name=LONG),
    )
    sent, back = rename(conversation, 64)
    assert sent.tool_choice is not None
    assert (sent.tool_choice.name, back[sent.tools[0].name]) == (sent.tools[0].name, LONG)
    assert sent.turns[0].parts == (ToolCall(id="a", name=sent.tools[0].name, arguments="{}"), Text(text="t"))
    assert sent.lost == ("tools.name(rewritten)",)


def asked_with_history(name: str) -> Json:
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return chat(
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
        tools=[function(name)],
        tool_choice={"type": "function", "function": {"name": name}},
    )


def test_bedrock_gets_a_name_of_64_letters_and_the_caller_its_own() -> None:
    body = json.dumps(asked_with_history(LONG)).encode()
    done = translate(body, caller=CHAT, provider=BEDROCK, target=Target(model="anthropic.claude-sonnet-4-5"))
    sent = json.loads(done.body)
    name = sent["toolConfig"]["tools"][0]["toolSpec"]["name"]
    assert len(name) == 64
    assert sent["toolConfig"]["toolChoice"] == {"tool": {"name": name}}
    assert sent["messages"][1]["content"][0]["toolUse"]["name"] == name
    use: Json = {"toolUse": {"toolUseId": "t", "name": name, "input": {}}}
    answer: Json = {"output": {"message": {"role": "assistant", "content": [use]}}, "stopReason": "tool_use"}
    told = json.loads(done.answer(Answer(200, b"", json.dumps(answer).encode())).body)
    assert told["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == LONG
    assert done.dropped == ("tools.name(rewritten)",)


async def test_a_name_is_put_back_in_a_stream_for_an_anthropic_caller() -> None:
    request = messages(tools=[{"name": LONG, "input_schema": SCHEMA}], stream=True)
    body = json.dumps(request).encode()
    done = translate(body, caller=MESSAGES, provider=CHAT, target=Target(model="gpt-4o"))
    name = json.loads(done.body)["tools"][0]["function"]["name"]
    begun = tool_chunk({"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}})
    data = sse(begun, chunk(finish="tool_calls"), b"[DONE]")
    told = block_stream(await all_of(done.stream(Upstream([data]))))
    assert [event["content_block"]["name"] for event in told if event["type"] == "content_block_start"] == [LONG]


async def test_thinking_is_kept_under_the_caller_s_name() -> None:
    kept = ThinkingStore()
    request = json.dumps(chat(tools=[function(DOTTED)], stream=True)).encode()
    target = Target(model="claude-sonnet-4-5")
    done = translate(request, caller=CHAT, provider=MESSAGES, target=target, kept=kept)
    name = json.loads(done.body)["tools"][0]["name"]
    data = message_events(
        [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "signature_delta", "signature": "s"}],
        [{"type": "tool_use", "id": "c1", "name": name, "input": {}}],
        end={"stop_reason": "tool_use"},
    )
    calls = [
        item["choices"][0]["delta"].get("tool_calls")
        for item in chat_stream(await all_of(done.stream(Upstream([data]))))
    ]
    assert next(found[0]["function"].get("name") for found in calls if found) == DOTTED
    again = asked_with_history(DOTTED)
    del again["tool_choice"]
    next_turn = translate(json.dumps(again).encode(), caller=CHAT, provider=MESSAGES, target=target, kept=kept)
    blocks = json.loads(next_turn.body)["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]


def test_a_tool_that_takes_text_may_have_any_name() -> None:
    custom = {"type": "custom", "custom": {"name": DOTTED}}
    body = json.dumps(chat(tools=[custom])).encode()
    done = translate(body, caller=CHAT, provider=MESSAGES, target=Target(model="claude-sonnet-4-5"))
    name = json.loads(done.body)["tools"][0]["name"]
    use = {"type": "tool_use", "id": "t", "name": name, "input": {"input": "p"}}
    answer = {"id": "m", "model": "c", "content": [use], "stop_reason": "tool_use"}
    told = json.loads(done.answer(Answer(200, b"", json.dumps(answer).encode())).body)
    (call,) = told["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "t", "type": "custom", "custom": {"name": DOTTED, "input": "p"}}
