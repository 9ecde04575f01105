"""The small shapes of Bedrock's Converse API: formats, stop reasons, usage, citations, cache points, errors.

Source: botocore's model of the service (`botocore/data/bedrock-runtime/2023-09-30/service-2.json.gz`); on the wire
blobs are base64. That `inputTokens` leaves out the cached and newly cached tokens is in the user guide, under prompt
caching.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..interface import Usage
from .fields import Fields
from .neutral import CacheControl, Citation, ErrorKind, StopReason

Json = dict[str, Any]

IMAGE_TYPES: Final[Mapping[str, str]] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
IMAGE_FORMATS: Final[Mapping[str, str]] = {**{kind: name for name, kind in IMAGE_TYPES.items()}, "image/jpg": "jpeg"}
DOCUMENT_TYPES: Final[Mapping[str, str]] = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
DOCUMENT_FORMATS: Final[Mapping[str, str]] = {kind: name for name, kind in DOCUMENT_TYPES.items()}
MOST_METADATA: Final = 16
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.]+")
_LONGEST_NAME: Final = 80

STOP_REASONS: Final[Mapping[str, StopReason]] = {
    "end_turn": StopReason.END,
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "guardrail_intervened": StopReason.REFUSAL,
    "content_filtered": StopReason.REFUSAL,
    "refusal": StopReason.REFUSAL,  # not in the model of the service; the Claude models' own word
    "model_context_window_exceeded": StopReason.CONTEXT_WINDOW,
}
"""Any other word but those of `BROKEN_STOPS` is an end too."""

BROKEN_STOPS: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
"""The model wrote what Bedrock could not read: what came of the answer is no answer."""

STOP_WORDS: Final[Mapping[StopReason, str]] = {
    StopReason.END: "end_turn",
    StopReason.TOOL_USE: "tool_use",
    StopReason.LENGTH: "max_tokens",
    StopReason.STOP_SEQUENCE: "stop_sequence",
    StopReason.REFUSAL: "content_filtered",
    StopReason.PAUSE: "end_turn",
    StopReason.CONTEXT_WINDOW: "model_context_window_exceeded",
}

ERRORS: Final[Mapping[str, tuple[ErrorKind, int]]] = {
    "ValidationException": (ErrorKind.INVALID_REQUEST, 400),
    "AccessDeniedException": (ErrorKind.PERMISSION, 403),
    "ResourceNotFoundException": (ErrorKind.NOT_FOUND, 404),
    "ConflictException": (ErrorKind.INVALID_REQUEST, 409),
    "ThrottlingException": (ErrorKind.RATE_LIMIT, 429),
    "ServiceQuotaExceededException": (ErrorKind.RATE_LIMIT, 429),
    "ModelNotReadyException": (ErrorKind.OVERLOADED, 503),
    "ModelTimeoutException": (ErrorKind.TIMEOUT, 504),
    "ModelErrorException": (ErrorKind.SERVER, 500),
    "ModelStreamErrorException": (ErrorKind.SERVER, 500),
    "InternalServerException": (ErrorKind.SERVER, 500),
    "InternalFailure": (ErrorKind.SERVER, 500),
    "ServiceUnavailableException": (ErrorKind.OVERLOADED, 503),
    "ServiceUnavailable": (ErrorKind.OVERLOADED, 503),
    "UnrecognizedClientException": (ErrorKind.AUTHENTICATION, 401),
    "InvalidSignatureException": (ErrorKind.AUTHENTICATION, 401),
    "InvalidClientTokenId": (ErrorKind.AUTHENTICATION, 401),
    "IncompleteSignature": (ErrorKind.AUTHENTICATION, 401),
    "MissingAuthenticationTokenException": (ErrorKind.AUTHENTICATION, 401),
    "ExpiredTokenException": (ErrorKind.AUTHENTICATION, 401),
    "ExpiredToken": (ErrorKind.AUTHENTICATION, 401),
    "OptInRequired": (ErrorKind.PERMISSION, 403),
    "NotAuthorized": (ErrorKind.PERMISSION, 403),
}
"""The service's own exceptions and those every AWS service has; the status is the one that fits the kind."""

ERROR_NAMES: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.INVALID_REQUEST: "ValidationException",
    ErrorKind.AUTHENTICATION: "UnrecognizedClientException",
    ErrorKind.BILLING: "AccessDeniedException",
    ErrorKind.PERMISSION: "AccessDeniedException",
    ErrorKind.NOT_FOUND: "ResourceNotFoundException",
    ErrorKind.TOO_LARGE: "ValidationException",
    ErrorKind.RATE_LIMIT: "ThrottlingException",
    ErrorKind.TIMEOUT: "ModelTimeoutException",
    ErrorKind.OVERLOADED: "ServiceUnavailableException",
    ErrorKind.SERVER: "InternalServerException",
}


def error_name(name: str) -> str:
    """`ThrottlingException` for what a stream calls `throttlingException`, and a header or body
    `com.amazon.coral#ThrottlingException:http://...`."""
    name = _NOT_IN_NAMES.sub("", name.rpartition("#")[2].partition(":")[0])[:_LONGEST_NAME]
    return name[:1].upper() + name[1:]


class UsageShape(msgspec.Struct, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None


def read_usage(shape: UsageShape | None) -> Usage | None:
    if shape is None:
        return None
    read, written = shape.cache_read_input_tokens or 0, shape.cache_write_input_tokens or 0
    return Usage(
        prompt_tokens=(shape.input_tokens or 0) + read + written,
        completion_tokens=shape.output_tokens or 0,
        cached_tokens=read,
        cache_write_tokens=written,
    )


def write_usage(usage: Usage) -> Json:
    return {
        "inputTokens": max(0, usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "outputTokens": usage.completion_tokens,
        "totalTokens": usage.total,
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }


def read_cache_point(fields: Fields) -> CacheControl:
    fields.ignore("type")
    return CacheControl(ttl=fields.text("ttl"))


_UNITS: Final = {"documentChar": "char", "documentPage": "page", "documentChunk": "block"}
_LOCATIONS: Final = {unit: name for name, unit in _UNITS.items()}


def read_citation(fields: Fields) -> Citation:
    """A `Citation`, or the delta of one."""
    quoted = "".join(item.text("text") or "" for item in fields.objects("sourceContent"))
    title, location = fields.text("title"), fields.child("location")
    web = location.child("web") if location else None
    if web is not None:
        return Citation(cited_text=quoted, title=title, url=web.text("url"))
    for name, unit in _UNITS.items():
        at = location.child(name) if location else None
        if at is not None:
            return Citation(
                cited_text=quoted,
                title=title,
                document_index=at.integer("documentIndex"),
                unit=unit,
                start=at.integer("start"),
                end=at.integer("end"),
            )
    return Citation(cited_text=quoted, title=title)


def write_citation(citation: Citation) -> Json:
    found: Json = {}
    if citation.title is not None:
        found["title"] = citation.title
    if citation.cited_text:
        found["sourceContent"] = [{"text": citation.cited_text}]
    if citation.url is not None:
        found["location"] = {"web": {"url": citation.url}}
    elif citation.document_index is not None and citation.unit in _LOCATIONS:
        place = {"documentIndex": citation.document_index, "start": citation.start, "end": citation.end}
        at = {name: value for name, value in place.items() if value is not None}
        found["location"] = {_LOCATIONS[citation.unit]: at}
    return found
