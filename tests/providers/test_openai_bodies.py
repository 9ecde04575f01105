"""What is changed in a request's body, and what is read in an answer's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Call, Endpoint, Usage
from infermux.providers.openai_bodies import embeddings_usage, model_names, prepare_body, read_completion
from tests._properties import examples


def test_a_body_that_needs_no_change_is_the_same_object() -> None:
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    request = Call(endpoint=Endpoint.CHAT, body=body, model="m", requested_model="m", stream=True, asked_usage=True)
    assert prepare_body(request, {}, ask_usage=False) is request.body


def test_a_body_that_is_no_object_is_the_callers_error() -> None:
    request = Call(endpoint=Endpoint.CHAT, body=b"[1]", model="x", requested_model=None)
    with pytest.raises(UpstreamFailure) as caught:
        prepare_body(request, {}, ask_usage=False)
    assert (caught.value.kind, caught.value.status) == (FailureKind.CALLER, 400)


def test_lists_of_models_are_read_in_every_known_shape() -> None:
    assert model_names(b'{"object":"list","data":[{"id":"a"},{"id":"b"},{"x":1},3]}') == ["a", "b"]
    assert model_names(b'{"models":[{"name":"llama3.2:latest"}]}') == ["llama3.2:latest"]
    assert model_names(b'[{"id":"a"}]') == ["a"]
    for body in (b"<html>", b"{}", b'"x"'):
        with pytest.raises(UpstreamFailure):
            model_names(body)


def test_a_completion_with_odd_members_is_one() -> None:
    assert read_completion(b'{"choices":[],"usage":null,"error":null}', status=200) is None
    assert read_completion(b'{"choices":[],"usage":{"prompt_tokens":"x"}}', status=200) is None
    assert read_completion(b'{"choices":[{"a":1}],"usage":{"prompt_tokens":3}}', status=200) == Usage(prompt_tokens=3)


def test_embeddings_answers_have_usage_too() -> None:
    assert embeddings_usage(b'{"data":[],"usage":{"prompt_tokens":1,"total_tokens":1}}') == Usage(prompt_tokens=1)
    with pytest.raises(UpstreamFailure):
        embeddings_usage(b"hello")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(50), deadline=None)
@given(
    st.dictionaries(st.text(max_size=6) | st.sampled_from(["provider", "stream_options"]), json_values, max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_preparing_a_body_changes_what_it_says_and_nothing_else(
    fields: dict[str, Any], aliased: bool, ask_usage: bool
) -> None:
    written = {**fields, "model": "asked"}
    request = Call(
        endpoint=Endpoint.CHAT,
        body=json.dumps(written).encode(),
        model="known" if aliased else "asked",
        requested_model="asked",
        remove=("provider",),
    )
    expected = {key: value for key, value in written.items() if key != "provider"}
    expected["model"] = request.model
    expected.setdefault("seed", 1)
    options = expected.get("stream_options")
    if ask_usage and (options is None or isinstance(options, dict)):
        expected["stream_options"] = {**(options or {}), "include_usage": True}
    assert json.loads(prepare_body(request, {"seed": b"1"}, ask_usage=ask_usage)) == expected
