"""Requests as programs write them: valid in their own API, of the size that was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from infermux.bench.callers import CALLERS

SHAPES: dict[str, Any] = {
    "chat": CompletionCreateParamsStreaming,
    "messages": MessageCreateParamsStreaming,
    "responses": ResponseCreateParamsStreaming,
    "embeddings": EmbeddingCreateParams,
}


@pytest.mark.parametrize("api", CALLERS)
def test_a_request_is_what_its_sdk_would_send(api: str) -> None:
    stream, shape = api != "embeddings", TypeAdapter(SHAPES[api])
    for tools in (0, 3):
        body = json.loads(CALLERS[api].body(stream=stream, prompt_bytes=3000, tools=tools))
        assert shape.validate_python(body)
        assert len(body.get("tools", [])) == (tools if stream else 0)


@pytest.mark.parametrize("api", CALLERS)
@pytest.mark.parametrize("size", [1500, 10_000, 1_000_000])
def test_a_body_is_as_large_as_it_should_be(api: str, size: int) -> None:
    assert len(CALLERS[api].body(stream=True, prompt_bytes=size)) == size


def test_the_length_of_the_answer_is_asked_for_and_bounded() -> None:
    body = json.loads(CALLERS["chat"].body(stream=True, prompt_bytes=0, tokens=70))
    assert body["max_tokens"] == 70
    assert "in 70 words" in body["messages"][-1]["content"]


def test_keys_of_the_body_can_be_put_in_and_taken_out() -> None:
    more = {"max_tokens": None, "max_completion_tokens": 9, "temperature": None}
    body = json.loads(CALLERS["chat"].body(stream=False, prompt_bytes=0, more=more))
    assert body["max_completion_tokens"] == 9
    assert not {"max_tokens", "temperature", "stream"} & body.keys()


def test_each_api_has_its_own_way_to_name_a_caller() -> None:
    assert CALLERS["chat"].headers("sk") == {"Authorization": "Bearer sk"}
    assert CALLERS["messages"].headers("sk") == {"x-api-key": "sk", "anthropic-version": "2023-06-01"}
