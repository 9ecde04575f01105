"""Requests that are odd but can be read: what is in them arrives, is named, or is refused in words that help."""

from __future__ import annotations

import json
import re

import pytest

from infermux.errors import InvalidRequest
from infermux.providers.dialects import openai_responses
from infermux.providers.dialects.dialect import Target
from infermux.providers.translate import translate
from tests.providers.dialects._cases import MESSAGES, Json, chat, messages, to_chat, to_messages

USER: Json = {"role": "user", "content": "u"}
REFUSAL: Json = {"type": "refusal", "refusal": "no"}


def asking(*ids: str) -> Json:
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": call_id, "type": "function", "function": function} for call_id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def told(call_id: str, content: object = "r") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_two_calls_of_a_turn_with_one_id_are_refused_by_it() -> None:
    with pytest.raises(InvalidRequest, match="same id: 'twice'"):
        to_messages(chat(USER, asking("twice", "twice"), told("twice"), told("twice")))


def test_an_id_may_be_used_again_in_a_later_turn() -> None:
    body, dropped = to_messages(chat(USER, asking("a"), told("a"), asking("a"), told("a")))
    assert (len(body["messages"]), dropped) == (5, ("tools(named from the messages)",))


@pytest.mark.parametrize("ids", [("a.b", "a:b", "a_b"), ("", "_"), ("é", "è")])
def test_ids_that_are_rewritten_for_anthropic_stay_apart(ids: tuple[str, ...]) -> None:
    body, dropped = to_messages(chat(USER, asking(*ids), *map(told, ids)))
    written = [block["id"] for block in body["messages"][1]["content"]]
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == written
    assert len(set(written)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", found) for found in written)
    assert dropped[0] == "tool_calls.id(rewritten)"


def test_what_has_no_place_in_a_tool_s_result_or_a_system_message_is_named() -> None:
    for request in (
        chat(USER, asking("a"), told("a", [REFUSAL])),
        chat({"role": "system", "content": [REFUSAL]}, USER),
    ):
        assert "messages.content.refusal" in to_messages(request)[1]
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/"}}
    thought: Json = {"type": "thinking", "thinking": "t", "signature": "s"}
    assert to_chat(messages(system=[image]))[1] == ("system.image",)
    use: Json = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    result: Json = {"type": "tool_result", "tool_use_id": "a", "content": [thought]}
    turns = (USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]})
    assert to_chat(messages(*turns))[1] == ("tool_result.content.thinking",)


def test_members_of_calls_and_tools_that_only_one_api_has_are_named() -> None:
    """Gemini's imitation of the API signs calls that way."""
    call = {**asking("a")["tool_calls"][0], "extra_content": {"google": {"thought_signature": "s"}}, "index": 0}
    tool = {"type": "function", "function": {"name": "f", "lazy": True}, "defer": True}
    request = chat(USER, {"role": "assistant", "tool_calls": [call]}, told("a"), tools=[tool])
    names = ("messages.tool_calls.extra_content", "tools.function.lazy", "tools.defer")
    assert to_messages(request)[1] == names


def test_a_cache_mark_on_a_tool_that_takes_text_survives() -> None:
    tool = {"type": "custom", "custom": {"name": "f"}, "cache_control": {"type": "ephemeral"}}
    body, _ = to_messages(chat(tools=[tool]))
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}


def test_a_file_named_by_data_and_by_id_is_the_data_and_the_id_is_named() -> None:
    file = {"type": "input_file", "file_data": "data:application/pdf;base64,QUJD", "file_id": "f"}
    body = json.dumps({"model": "m", "input": [{"role": "user", "content": [file]}]}).encode()
    target = Target(model="claude-sonnet-4-5")
    found = translate(body, caller=openai_responses.DIALECT, provider=MESSAGES, target=target)
    assert json.loads(found.body)["messages"][0]["content"][0]["source"]["data"] == "QUJD"
    assert found.dropped == ("input.content.file_id",)


def test_chat_providers_get_ids_as_they_are() -> None:
    use: Json = {"type": "tool_use", "id": "a.b:c", "name": "f", "input": {}}
    result: Json = {"type": "tool_result", "tool_use_id": "a.b:c"}
    turns = (USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]})
    body, dropped = to_chat(messages(*turns))
    assert (body["messages"][1]["tool_calls"][0]["id"], dropped) == ("a.b:c", ())
