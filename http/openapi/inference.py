"""The operations below `/v1`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from infermux.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    KeysUnavailable,
    LengthRequired,
    ModelNotAllowed,
    ModelNotFound,
    NoHealthyProviders,
    NotFound,
    Overloaded,
    PreviousResponseNotFound,
    RateLimited,
    RequestKilled,
    ThreadUnsupported,
    UnsupportedMediaType,
    UpstreamError,
    UpstreamTimeout,
)
from infermux.providers.interface import Endpoint

from ..errors import Shape, shape_of
from ..inference import ROUTES
from ..passthrough import RULES
from .bodies import body_of, form, passed_body
from .errors import ErrorKind
from .operation import JSON, Operation, Response, json_answer, json_body
from .parts import ANSWER_HEADERS, ANTHROPIC_VERSION, CACHE_CONTROL, INFERENCE, STRICT, WHO, in_path
from .shapes import ANY, OBJECT, TEXT, Schema, event, ref

GUARD: Final = "caller"
_REST: Final = in_path(
    "rest",
    "What is asked of the provider there; it may have several segments.",
    {**TEXT, "pattern": "^[0-9A-Za-z_-]+$"},
)
_SUMMARIES: Final = {
    Endpoint.CHAT: "A chat completion, whole or streamed",
    Endpoint.COMPLETIONS: "A legacy completion, whole or streamed",
    Endpoint.EMBEDDINGS: "Vectors of texts or tokens",
    Endpoint.RESPONSES: "A response, whole or streamed",
    Endpoint.MESSAGES: "A message (Anthropic's API), whole or streamed",
    Endpoint.COUNT_TOKENS: "The tokens of a prompt (Anthropic's API)",
}
_STREAMED: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES})
_ERRORS: Final[tuple[ErrorKind, ...]] = (
    PreviousResponseNotFound,
    ThreadUnsupported,
    ModelNotAllowed,
    ModelNotFound,
    LengthRequired,
    UnsupportedMediaType,
    RateLimited,
    BudgetExceeded,
    UpstreamError,
    NoHealthyProviders,
    Overloaded,
    KeysUnavailable,
    RequestKilled,
    UpstreamTimeout,
    DeadlineExceeded,
)


def inference() -> Iterator[tuple[str, str, Operation]]:
    """Path, method in lower case, and what it is."""
    for path, endpoint in ROUTES.items():
        yield path.decode(), "post", _endpoint(endpoint, shape_of(path))
    for rule in RULES:
        yield rule.replace("<path:rest>", "{rest}"), "post", _passed(rule)
    yield from _models()


def _endpoint(endpoint: Endpoint, shape: Shape) -> Operation:
    content: dict[str, Any] = {JSON: {"schema": OBJECT}}
    if endpoint in _STREAMED:
        content["text/event-stream"] = {"schema": event()}
    return Operation(
        id=endpoint.name.lower(),
        tag="Inference",
        summary=_SUMMARIES[endpoint],
        parameters=(*INFERENCE, STRICT, CACHE_CONTROL),
        body=json_body(body_of(endpoint)),
        answers=_answers(content),
        errors=_ERRORS,
        shapes=(shape,),
        guard=GUARD,
        inference=True,
    )


def _passed(rule: str) -> Operation:
    name = rule.split("/")[2]
    content = {"*/*": {"schema": ANY}}
    taken = {JSON: {"schema": passed_body(default=name == "moderations")}, "multipart/form-data": {"schema": form()}}
    return Operation(
        id=name,
        tag="Passed through",
        summary=f"What the provider of the model has at {rule.partition('<')[0]}",
        parameters=(*((_REST,) if "<" in rule else ()), *INFERENCE),
        body={"required": True, "content": taken},
        answers=_answers(content),
        errors=(NotFound, *_ERRORS),
        guard=GUARD,
        inference=True,
    )


def _answers(content: dict[str, Any]) -> dict[str, Response]:
    """The provider's own words; 4XX is what it refuses because of the request itself."""
    why = {"explain": {"operationId": "explain", "parameters": {"request_id": "$response.header.X-Request-Id"}}}
    headers = dict(ANSWER_HEADERS)
    return {
        "200": {"description": "The provider's answer", "headers": headers, "content": content, "links": why},
        "4XX": {
            "description": "The provider refuses the request itself: its status, body and content type",
            "content": {"*/*": {"schema": ANY}},
        },
    }


# The models.


def _models() -> Iterator[tuple[str, str, Operation]]:
    first = {"model": {"operationId": "model", "parameters": {"name": "$response.body#/data/0/id"}}}
    found = json_answer("Every model and alias", _either("Models", "AnthropicModels"), links=first)
    yield "/v1/models", "get", _listing("models", "The models that may be asked for", {"200": found})
    one = json_answer("The model", _either("Model", "AnthropicModel"))
    named = in_path("name", "A model's name, which may have slashes.")
    yield "/v1/models/{name}", "get", _listing("model", "One of the models", {"200": one}, named)


def _listing(id: str, summary: str, answers: dict[str, Response], *parameters: dict[str, Any]) -> Operation:
    return Operation(
        id=id,
        tag="Models",
        summary=summary,
        parameters=(*parameters, *WHO, ANTHROPIC_VERSION),
        answers=answers,
        errors=(KeysUnavailable, *((ModelNotFound,) if parameters else ())),
        guard=GUARD,
    )


def _either(openai: str, anthropic: str) -> Schema:
    return {"anyOf": [ref(openai), ref(anthropic)]}
