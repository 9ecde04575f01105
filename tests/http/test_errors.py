"""The same error in the words of each API."""

from __future__ import annotations

import json

import pytest

from infermux.errors import (
    BudgetExceeded,
    InfermuxError,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    NoHealthyProviders,
    PayloadTooLarge,
    ProviderRefusal,
    RateLimited,
    RequestKilled,
    ThreadUnsupported,
    Unauthorized,
    UpstreamError,
    UpstreamTimeout,
)
from infermux.http.errors import LONGEST_MESSAGE, Shape, error_answer, error_event, shape_of


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (b"/v1/chat/completions", Shape.OPENAI),
        (b"/v1/embeddings", Shape.OPENAI),
        (b"/v1/images/edits", Shape.OPENAI),
        (b"/v1/responses", Shape.RESPONSES),
        (b"/v1/messages", Shape.ANTHROPIC),
        (b"/v1/messages/count_tokens", Shape.ANTHROPIC),
        (b"/nowhere", Shape.OPENAI),
    ],
)
def test_the_path_says_whose_words(path: bytes, shape: Shape) -> None:
    assert shape_of(path) is shape


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestKilled("x"), b"false"),
        (BudgetExceeded("until its period ends", retry_after=3600.0), b"false"),
        (BudgetExceeded("unpriced: for ever"), b"false"),
        (BudgetExceeded("until others have ended", retry_after=1.0), None),
        (RateLimited("x", retry_after=5.0), None),
    ],
)
def test_what_need_not_be_sent_again_by_itself_says_so(error: InfermuxError, said: bytes | None) -> None:
    assert dict(error_answer(error)[0]).get(b"x-should-retry") == said


TYPES = [
    (InvalidRequest("x"), "invalid_request_error", "invalid_request_error"),
    (Unauthorized("x"), "authentication_error", "authentication_error"),
    (ModelNotFound("x"), "invalid_request_error", "not_found_error"),
    (PayloadTooLarge("x"), "invalid_request_error", "request_too_large"),
    (RateLimited("x"), "rate_limit_error", "rate_limit_error"),
    (NoHealthyProviders("x"), "server_error", "overloaded_error"),
    (UpstreamError("x"), "server_error", "api_error"),
    (UpstreamTimeout("x"), "timeout_error", "timeout_error"),
    (InternalError("x"), "server_error", "api_error"),
]


@pytest.mark.parametrize(("error", "openai", "anthropic"), TYPES, ids=lambda each: str(getattr(each, "code", each)))
def test_each_api_has_its_own_types(error: InfermuxError, openai: str, anthropic: str) -> None:
    _, body = error_answer(error)
    assert json.loads(body) == {"error": {"message": "x", "type": openai, "param": None, "code": error.code}}
    _, body = error_answer(error, Shape.ANTHROPIC)
    assert json.loads(body) == {"type": "error", "error": {"type": anthropic, "message": "x"}}
    assert error_answer(error, Shape.RESPONSES) == error_answer(error)


def test_the_request_id_is_where_anthropics_sdk_looks_for_it() -> None:
    headers, body = error_answer(InvalidRequest("x"), Shape.ANTHROPIC, request_id=b"mine")
    assert (b"request-id", b"mine") in headers
    assert json.loads(body)["request_id"] == "mine"
    headers, body = error_answer(InvalidRequest("x"), request_id=b"mine")
    assert b"mine" not in body + b"".join(value for _, value in headers)


def test_a_translated_refusal_and_an_event_have_the_request_id_too() -> None:
    told = b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}'
    error = ProviderRefusal("x", status=400, body=told, content_type=b"application/json", provider="p", rewritten=True)
    _, body = error_answer(error, Shape.ANTHROPIC, request_id=b"mine")
    assert json.loads(body) == {**json.loads(told), "request_id": "mine"}
    assert error_answer(error, Shape.OPENAI, request_id=b"mine")[1] == told
    event = error_event(InvalidRequest("x"), Shape.ANTHROPIC, request_id=b"mine")
    assert json.loads(event.partition(b"data: ")[2])["request_id"] == "mine"
    assert b"mine" not in error_event(InvalidRequest("x"), request_id=b"mine")


def test_anthropics_sdk_is_told_that_a_thread_is_not_to_be_had() -> None:
    error = json.loads(error_answer(ThreadUnsupported("x", param="thread"), Shape.ANTHROPIC)[1])["error"]
    assert error["type"] == "invalid_request_error"
    assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert "details" not in json.loads(error_answer(InvalidRequest("x"), Shape.ANTHROPIC)[1])["error"]


def test_what_a_provider_wrote_goes_back_as_it_is_in_every_shape() -> None:
    error = ProviderRefusal("x", status=400, body=b"<as it is>", content_type=b"text/html", provider="p")
    for shape in Shape:
        headers, body = error_answer(error, shape, request_id=b"r")
        assert (body, dict(headers)[b"content-type"]) == (b"<as it is>", b"text/html")
    empty = ProviderRefusal("x", status=400, body=b"", content_type=b"text/html", provider="p")
    assert json.loads(error_answer(empty, Shape.ANTHROPIC)[1])["error"]["message"] == "x"


def test_events_are_those_each_sdk_knows() -> None:
    error = UpstreamError("x", provider="p")
    assert json.loads(error_event(error).removeprefix(b"data: "))["error"]["code"] == "upstream_error"
    name, _, data = error_event(error, Shape.ANTHROPIC).partition(b"\n")
    assert (name, json.loads(data.removeprefix(b"data: "))["error"]["type"]) == (b"event: error", "api_error")
    name, _, data = error_event(error, Shape.RESPONSES, sequence=7).partition(b"\n")
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "code": "upstream_error",
        "message": "x",
        "param": None,
        "sequence_number": 7,
        "error": {"message": "x", "type": "server_error", "param": None, "code": "upstream_error"},
    }


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (529, "server_error", "overloaded_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (400, "invalid_request_error", "invalid_request_error"),
    ],
)
def test_an_event_keeps_the_type_of_the_providers_error(status: int, openai: str, anthropic: str) -> None:
    error = UpstreamError("x", provider="p", status=status)
    assert json.loads(error_event(error).removeprefix(b"data: "))["error"]["type"] == openai
    assert json.loads(error_event(error, Shape.ANTHROPIC).partition(b"data: ")[2])["error"]["type"] == anthropic


@pytest.mark.parametrize("shape", Shape)
def test_long_messages_are_cut(shape: Shape) -> None:
    error = InvalidRequest("x" * 50_000, param="p" * 50_000)
    assert len(error_answer(error, shape)[1]) < 3 * LONGEST_MESSAGE
    assert len(error_event(error, shape)) < 5 * LONGEST_MESSAGE
