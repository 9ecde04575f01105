"""The JSON an OpenAI-shaped API is sent and answers with: what is changed in the one, what is read in the other.

Pure. Shapes: https://platform.openai.com/docs/api-reference/chat and `openai.types` of the openai SDK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from .chat_stream import UsageObject, usage_of
from .classify import classify_in_band
from .interface import Call, Usage
from .splice import merge_defaults, splice, splice_nested

_STREAM_OPTIONS: Final = ("stream_options", "include_usage")


def prepare_body(call: Call, extra: Mapping[str, bytes], *, ask_usage: bool) -> bytes:
    """The body to send: `call.body` itself where nothing is to be changed.

    `extra` are JSON values by name. Raises `UpstreamFailure(CALLER)` for a body that is no JSON object.
    """
    if not (extra or ask_usage or call.remove) and call.model == call.requested_model:
        return call.body
    try:
        body = call.body
        if call.model != call.requested_model or call.remove:
            changes = {} if call.model == call.requested_model else {"model": msgspec.json.encode(call.model)}
            body = splice(body, changes, call.remove)
        if extra:
            body = merge_defaults(body, extra)
        if ask_usage:
            body = splice_nested(body, _STREAM_OPTIONS, b"true")
    except ValueError as error:
        message = f"The body cannot be forwarded: {error}."
        answer = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
        raise UpstreamFailure(
            FailureKind.CALLER,
            message,
            status=400,
            body=msgspec.json.encode(answer),
            content_type=b"application/json",
        ) from error
    return body


class _Completion(msgspec.Struct):
    choices: list[msgspec.Raw]
    usage: UsageObject | None = None
    error: msgspec.Raw | None = None
    service_tier: Any = None


class _Anything(msgspec.Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


_completions: Final = msgspec.json.Decoder(_Completion)
_anything: Final = msgspec.json.Decoder(_Anything)


def read_completion(body: bytes, *, status: int, secrets: Sequence[str] = ()) -> Usage | None:
    """Check that `body` is a chat completion; return its usage.

    Raises `UpstreamFailure`: MALFORMED for anything else, and what an `error` object in its place means.
    """
    try:
        completion = _completions.decode(body)
        if completion.error is None:
            if completion.usage is None:
                return None
            usage, tier = completion.usage.usage(), completion.service_tier
            return usage if tier is None else usage.served_in(tier)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _read_odd_completion(body, status, secrets)


def _read_odd_completion(body: bytes, status: int, secrets: Sequence[str]) -> Usage | None:
    try:
        answer = _anything.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("answered with something that is no JSON object", status) from None
    if answer.error:
        raise classify_in_band(msgspec.json.decode(body), body, secrets=secrets)
    if not isinstance(answer.choices, list):
        raise malformed("answered with JSON that is no chat completion: it has no `choices`", status)
    return usage_of(cast("object", answer.usage))


def model_names(body: bytes) -> Sequence[str]:
    """The names in a list of models: OpenAI's `{"data": [{"id"}]}`, Ollama's `{"models": [{"name"}]}`, a bare list."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("answered the request for its models with something that is no JSON", 200) from None
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        value = fields.get("data", fields.get("models"))
    if not isinstance(value, list):
        raise malformed("answered the request for its models with something that is no list", 200)
    names: list[str] = []
    for item in cast("list[object]", value):
        fields = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        name = fields.get("id", fields.get("name"))
        if isinstance(name, str):
            names.append(name)
    return names


class _Embeddings(msgspec.Struct):
    data: list[msgspec.Raw]
    usage: UsageObject | None = None


_embeddings: Final = msgspec.json.Decoder(_Embeddings)


def embeddings_usage(body: bytes, *, secrets: Sequence[str] = ()) -> Usage | None:
    """The usage of an embeddings answer (`openai.types.CreateEmbeddingResponse`).

    Raises `UpstreamFailure`: MALFORMED for what is none, and what an `error` object in its place means.
    """
    try:
        answer = _embeddings.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return answer.usage.usage() if answer.usage else None
    try:
        other = _anything.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("answered an embeddings request with something that is no JSON object", 200) from None
    if other.error:
        raise classify_in_band(msgspec.json.decode(body), body, secrets=secrets)
    raise malformed("answered an embeddings request with JSON that has no `data`", 200)


_NO_SUCH_ENDPOINT: Final = frozenset({404, 405, 501})
_ABOUT_AN_ENDPOINT: Final = re.compile(r"unexpected endpoint|unknown (?:request )?url|invalid url", re.IGNORECASE)
_PARAM: Final = re.compile(rb'"param"\s*:\s*"')
_ABOUT_AN_ITEM: Final = re.compile(r"\bwith id\b|\bprevious.?response|'[a-z]{2,5}_[0-9A-Za-z]{6,}", re.IGNORECASE)


def is_unknown_endpoint(failure: UpstreamFailure) -> bool:
    """Whether a refusal says that the endpoint itself is not there, not something that the request named.

    OpenAI and Groq say which URL is unknown, LM Studio does so with status 200; FastAPI (vLLM), llama.cpp and Go
    (Ollama) only `Not Found`. A response or an item that is not there is named by its id, or by the field it was in.
    """
    if _ABOUT_AN_ENDPOINT.search(failure.message):
        return True
    if failure.kind not in (FailureKind.CALLER, FailureKind.SERVER_ERROR) or failure.status not in _NO_SUCH_ENDPOINT:
        return False
    return not (_ABOUT_AN_ITEM.search(failure.message) or _PARAM.search(failure.body or b""))


def malformed(message: str, status: int) -> UpstreamFailure:
    """The failure of a 2xx that is not what the endpoint answers."""
    return UpstreamFailure(FailureKind.MALFORMED, message, status=status)
