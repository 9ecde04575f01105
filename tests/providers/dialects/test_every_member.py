"""Every member of what stands inside a request is carried or named, as `test_every_field` says of its own fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

import attrs
import pytest
from anthropic import types as anthropic_types
from openai.types import chat as openai_chat
from openai.types import responses as openai_responses_types
from openai.types import shared_params

from infermux.providers.dialects.dialect import Dialect
from tests.providers.dialects._cases import CHAT, MESSAGES, SCHEMA, Json
from tests.providers.dialects.test_every_field import BASES, MARK, MODELS, RESPONSES, USER, silently


@attrs.frozen(kw_only=True)
class Place:
    """Where objects of `shape` stand. `given` is the least of one, `more` a value for each other field."""

    dialect: Dialect
    shape: Any
    put: Callable[[Json], Json]
    given: Json
    more: Json


def _said(dialect: Dialect) -> Callable[[Json], Json]:
    return lambda part: {**BASES[dialect], "messages": [{"role": "user", "content": [TEXT, part]}]}


def _message(dialect: Dialect) -> Callable[[Json], Json]:
    return lambda message: {**BASES[dialect], "messages": [USER, message, USER]}


def _input(item: Json) -> Json:
    return {**BASES[RESPONSES], "input": [USER, item, USER]}


def _with_result(result: Json) -> Json:
    """Both the call and the result, as one without the other is refused."""
    use: Json = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    turns = [USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return {**BASES[MESSAGES], "messages": turns}


def _with_use(use: Json) -> Json:
    result = {"type": "tool_result", "tool_use_id": "t"}
    turns = [USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return {**BASES[MESSAGES], "messages": turns}


TEXT: Json = {"type": "text", "text": "t"}
BREAK: Json = {"mode": "explicit"}
PNG: Json = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
PLAIN: Json = {"type": "text", "media_type": "text/plain", "data": "d"}
CITED: Json = {"enabled": True}
PLACES = [
    Place(dialect=CHAT, shape=openai_chat.ChatCompletionUserMessageParam, put=_message(CHAT), given=USER,
          more={"name": "n"}),
    Place(
        dialect=CHAT, shape=openai_chat.ChatCompletionAssistantMessageParam, put=_message(CHAT),
        given={"role": "assistant", "content": "a"},
        more={"audio": {"id": "a"}, "name": "n", "refusal": "no", "function_call": None, "tool_calls": None},
    ),
    Place(dialect=CHAT, shape=openai_chat.ChatCompletionContentPartTextParam, put=_said(CHAT), given=TEXT,
          more={"prompt_cache_breakpoint": BREAK}),
    Place(dialect=CHAT, shape=openai_chat.ChatCompletionContentPartImageParam, put=_said(CHAT),
          given={"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
          more={"prompt_cache_breakpoint": BREAK}),
    Place(dialect=CHAT, shape=openai_chat.chat_completion_content_part_image_param.ImageURL,
          put=lambda image: _said(CHAT)({"type": "image_url", "image_url": image}),
          given={"url": "data:image/png;base64,QUJD"}, more={"detail": "high"}),
    Place(dialect=CHAT, shape=openai_chat.chat_completion_content_part_param.FileFile,
          put=lambda file: _said(CHAT)({"type": "file", "file": file}),
          given={"file_data": "data:application/pdf;base64,QUJD"}, more={"filename": "a.pdf", "file_id": "f"}),
    Place(dialect=CHAT, shape=shared_params.FunctionDefinition,
          put=lambda function: {**BASES[CHAT], "tools": [{"type": "function", "function": function}]},
          given={"name": "f"}, more={"description": "d", "parameters": SCHEMA, "strict": True}),
    Place(dialect=MESSAGES, shape=anthropic_types.TextBlockParam, put=_said(MESSAGES), given=TEXT,
          more={"cache_control": MARK, "citations": [
              {"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": None,
               "start_char_index": 0, "end_char_index": 1}]}),
    Place(dialect=MESSAGES, shape=anthropic_types.ImageBlockParam, put=_said(MESSAGES),
          given={"type": "image", "source": PNG}, more={"cache_control": MARK, "transformations": [{}]}),
    Place(dialect=MESSAGES, shape=anthropic_types.DocumentBlockParam, put=_said(MESSAGES),
          given={"type": "document", "source": PLAIN},
          more={"cache_control": MARK, "citations": CITED, "context": "c", "title": "t"}),
    Place(dialect=MESSAGES, shape=anthropic_types.SearchResultBlockParam, put=_said(MESSAGES),
          given={"type": "search_result", "source": "s", "title": "t", "content": [TEXT]},
          more={"cache_control": MARK, "citations": CITED}),
    Place(dialect=MESSAGES, shape=anthropic_types.ToolUseBlockParam, put=_with_use,
          given={"type": "tool_use", "id": "t", "name": "f", "input": {}},
          more={"cache_control": MARK, "caller": None, "toolset_name": "s"}),
    Place(dialect=MESSAGES, shape=anthropic_types.ToolResultBlockParam, put=_with_result,
          given={"type": "tool_result", "tool_use_id": "t"},
          more={"cache_control": MARK, "content": "c", "is_error": True, "toolset_name": "s"}),
    Place(dialect=MESSAGES, shape=anthropic_types.ToolParam, put=lambda tool: {**BASES[MESSAGES], "tools": [tool]},
          given={"name": "f", "input_schema": SCHEMA},
          more={"allowed_callers": ["direct"], "cache_control": MARK, "defer_loading": True, "description": "d",
                "eager_input_streaming": True, "input_examples": [{"city": "x"}], "strict": True, "type": None}),
    Place(dialect=RESPONSES, shape=openai_responses_types.EasyInputMessageParam, put=_input, given=USER,
          more={"phase": "commentary", "type": None}),
    Place(dialect=RESPONSES, shape=openai_responses_types.ResponseInputImageParam,
          put=lambda image: _input({"role": "user", "content": [image]}),
          given={"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,QUJD"},
          more={"file_id": "f", "prompt_cache_breakpoint": BREAK}),
    Place(dialect=RESPONSES, shape=openai_responses_types.FunctionToolParam,
          put=lambda tool: {**BASES[RESPONSES], "tools": [tool]},
          given={"type": "function", "name": "f", "parameters": SCHEMA, "strict": False},
          more={"defer_loading": True, "description": "d", "allowed_callers": ["direct"],
                "output_schema": SCHEMA, "async": True}),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.shape.__name__)
def test_every_member_of_what_stands_inside_is_carried_or_named(place: Place) -> None:
    assert set(get_type_hints(place.shape)) == {*place.given, *place.more}
    base = place.put(place.given)
    for provider in MODELS:
        for field, value in place.more.items():
            if provider is not place.dialect and value is not None:
                changed = place.put({**place.given, field: value})
                assert not silently(place.dialect, provider, base, changed, None), f"{field} to {provider.name}"
