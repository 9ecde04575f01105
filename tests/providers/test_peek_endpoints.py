"""What is read of a request at each endpoint, and how what is wrong in it is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infermux.errors import InvalidRequest
from infermux.providers.interface import Endpoint
from infermux.providers.peek import TOKENS_PER_FILE
from infermux.providers.peek_endpoints import PEEKS, Peek, beginning, estimated_prompt

HELLO = [{"role": "user", "content": "hi"}]
LEAST: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"messages": HELLO},
    Endpoint.COMPLETIONS: {"prompt": "hi"},
    Endpoint.EMBEDDINGS: {"input": "hi"},
    Endpoint.RESPONSES: {"input": "hi"},
    Endpoint.MESSAGES: {"messages": HELLO},
    Endpoint.COUNT_TOKENS: {"messages": HELLO},
}
EVERY = pytest.mark.parametrize("endpoint", PEEKS, ids=lambda endpoint: endpoint.name)


def peek(endpoint: Endpoint, **fields: Any) -> Peek:
    return PEEKS[endpoint](json.dumps({**LEAST[endpoint], **fields}).encode())


def refused(endpoint: Endpoint, **fields: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        peek(endpoint, **fields)
    return caught.value.param


@EVERY
def test_model_preferences_and_what_is_unknown(endpoint: Endpoint) -> None:
    found = peek(endpoint, model="m", provider={"only": ["a"]}, unheard_of={"x": 1})
    assert (found.model, bool(found.stream)) == ("m", False)
    assert found.provider is not None
    assert found.provider.only == ("a",)
    assert peek(endpoint).model is None


@EVERY
def test_what_is_wrong_is_named(endpoint: Endpoint) -> None:
    assert refused(endpoint, model=7) == "model"
    assert refused(endpoint, model="m" * 1025) == "model"
    assert refused(endpoint, provider={"onyl": []}) == "provider.onyl"
    for body in (b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000):
        with pytest.raises(InvalidRequest):
            PEEKS[endpoint](body)


@pytest.mark.parametrize(
    ("endpoint", "fields", "bound"),
    [
        (Endpoint.CHAT, {"max_tokens": 10**300}, 2**53),
        (Endpoint.CHAT, {"max_tokens": 1e300, "n": 1e300}, 2**53),
        (Endpoint.MESSAGES, {"max_tokens": 2**53}, 2**53),
        (Endpoint.COMPLETIONS, {}, None),
        (Endpoint.COMPLETIONS, {"max_tokens": 10, "n": 2, "best_of": 3}, 30),
        (Endpoint.EMBEDDINGS, {}, 0),
        (Endpoint.RESPONSES, {"max_output_tokens": 5}, 5),
        (Endpoint.RESPONSES, {}, None),
        (Endpoint.MESSAGES, {"max_tokens": 7}, 7),
        (Endpoint.MESSAGES, {"max_tokens": 1e2}, 100),
        (Endpoint.RESPONSES, {"max_output_tokens": 2.0}, 2),
        (Endpoint.COMPLETIONS, {"max_tokens": 3.0, "n": 2.0}, 6),
        (Endpoint.CHAT, {"max_tokens": 5.0, "n": 3.0}, 15),
        (Endpoint.MESSAGES, {"max_tokens": 1.5}, 2),
        (Endpoint.MESSAGES, {"max_tokens": -1.5}, 0),
        (Endpoint.MESSAGES, {}, None),
        (Endpoint.COUNT_TOKENS, {}, 0),
    ],
)
def test_the_bound_on_the_answer(endpoint: Endpoint, fields: dict[str, Any], bound: int | None) -> None:
    assert peek(endpoint, **fields).completion_bound == bound


def test_who_asked_for_usage() -> None:
    assert not peek(Endpoint.COMPLETIONS, stream=True).asked_usage
    assert peek(Endpoint.COMPLETIONS, stream=True, stream_options={"include_usage": True}).asked_usage
    assert peek(Endpoint.MESSAGES, stream=True).asked_usage


WRONG: list[tuple[Endpoint, dict[str, Any], str]] = [
    (Endpoint.COMPLETIONS, {"prompt": 7}, "prompt"),
    (Endpoint.EMBEDDINGS, {"input": None}, "input"),
    (Endpoint.EMBEDDINGS, {"input": {}}, "input"),
    (Endpoint.EMBEDDINGS, {"input": ""}, "input"),
    (Endpoint.EMBEDDINGS, {"input": []}, "input"),
    (Endpoint.EMBEDDINGS, {"dimensions": 0}, "dimensions"),
    (Endpoint.EMBEDDINGS, {"dimensions": "many"}, "dimensions"),
    (Endpoint.EMBEDDINGS, {"stream": True}, "stream"),
    (Endpoint.RESPONSES, {"input": {}}, "input"),
    (Endpoint.RESPONSES, {"previous_response_id": 7}, "previous_response_id"),
    (Endpoint.RESPONSES, {"max_output_tokens": "x"}, "max_output_tokens"),
    (Endpoint.MESSAGES, {"messages": []}, "messages"),
    (Endpoint.MESSAGES, {"messages": [{}]}, "messages[0].role"),
    (Endpoint.MESSAGES, {"stream": "yes"}, "stream"),
    (Endpoint.COUNT_TOKENS, {"messages": "hi"}, "messages"),
]


@pytest.mark.parametrize(("endpoint", "fields", "param"), WRONG)
def test_each_endpoints_own_fields(endpoint: Endpoint, fields: dict[str, Any], param: str) -> None:
    assert refused(endpoint, **fields) == param


def test_what_must_be_there_is_named() -> None:
    for endpoint, param in ((Endpoint.EMBEDDINGS, "input"), (Endpoint.MESSAGES, "messages")):
        with pytest.raises(InvalidRequest, match="required") as caught:
            PEEKS[endpoint](b'{"model": "m"}')
        assert caught.value.param == param
    assert PEEKS[Endpoint.RESPONSES](b'{"prompt": {"id": "p"}}').model is None


def test_a_prompt_that_comes_as_tokens_is_counted() -> None:
    def tokens(endpoint: Endpoint, **fields: Any) -> int:
        body = json.dumps({**LEAST[endpoint], **fields}).encode()
        return estimated_prompt(PEEKS[endpoint](body), body)

    assert tokens(Endpoint.EMBEDDINGS, input=[1, 2, 3]) == 3
    assert tokens(Endpoint.COMPLETIONS, prompt=[[1, 2], [3]]) == 3
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD" * 100_000}}
    said = [{"role": "user", "content": [picture]}]
    assert tokens(Endpoint.MESSAGES, messages=said) < 3 * TOKENS_PER_FILE
    assert tokens(Endpoint.EMBEDDINGS, input="x" * 400) == pytest.approx(100, abs=8)


@pytest.mark.parametrize(
    ("endpoint", "now", "then"),
    [
        (Endpoint.MESSAGES, {"system": "s", "messages": HELLO}, {"system": "s", "messages": HELLO * 3}),
        (
            Endpoint.RESPONSES,
            {"instructions": "s", "input": HELLO},
            {"instructions": "s", "input": [*HELLO, {"type": "function_call"}]},
        ),
        (Endpoint.COMPLETIONS, {"prompt": "a" * 3000}, {"prompt": "a" * 4000}),
    ],
)
def test_the_beginning_of_a_conversation_stays(endpoint: Endpoint, now: dict[str, Any], then: dict[str, Any]) -> None:
    first, later, other = (json.dumps(each).encode() for each in (now, then, LEAST[endpoint]))
    assert beginning(endpoint, first) == beginning(endpoint, later) != beginning(endpoint, other)
