"""What a refusal of Bedrock's means: from its exceptions, by name and wording, to `UpstreamFailure`.

Pure. The exceptions are those of botocore's model of the service (`data/bedrock-runtime/2023-09-30/service-2.json.gz`)
and those all AWS services share (https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from .classify import MAX_ERROR_BODY, GetHeader, retry_after, without_beginning
from .dialects.bedrock_converse_answers import read_error
from .dialects.bedrock_converse_shapes import ERRORS, error_name
from .dialects.neutral import ErrorReport
from .eventstream import Message

_MAX_MESSAGE: Final = 500
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_JSON: Final = b"application/json"

_KINDS: Final[Mapping[str, FailureKind]] = {
    "ValidationException": FailureKind.CALLER,
    "ConflictException": FailureKind.CALLER,
    "AccessDeniedException": FailureKind.CREDENTIALS,
    "UnrecognizedClientException": FailureKind.CREDENTIALS,
    "InvalidSignatureException": FailureKind.CREDENTIALS,
    "InvalidClientTokenId": FailureKind.CREDENTIALS,
    "IncompleteSignature": FailureKind.CREDENTIALS,
    "MissingAuthenticationTokenException": FailureKind.CREDENTIALS,
    "ExpiredTokenException": FailureKind.CREDENTIALS,
    "ExpiredToken": FailureKind.CREDENTIALS,
    "OptInRequired": FailureKind.CREDENTIALS,
    "NotAuthorized": FailureKind.CREDENTIALS,
    "ResourceNotFoundException": FailureKind.MODEL_NOT_FOUND,
    "ThrottlingException": FailureKind.RATE_LIMITED,
    "ServiceQuotaExceededException": FailureKind.RATE_LIMITED,
    "ModelTimeoutException": FailureKind.TOTAL_TIMEOUT,
    "ModelNotReadyException": FailureKind.SERVER_ERROR,  # 429, but one model's: nothing says the account is throttled
    "ModelErrorException": FailureKind.SERVER_ERROR,  # 424
    "ModelStreamErrorException": FailureKind.SERVER_ERROR,  # 424
    "InternalServerException": FailureKind.SERVER_ERROR,
    "InternalFailure": FailureKind.SERVER_ERROR,
    "ServiceUnavailableException": FailureKind.SERVER_ERROR,
    "ServiceUnavailable": FailureKind.SERVER_ERROR,
}
_NO_MODEL: Final = re.compile(
    r"model identifier is invalid|with on-demand throughput isn.t supported|could not resolve the foundation model|"
    r"model .{0,200}not (?:found|supported in this region)|"
    r"reached the end of its life|inference profile .{0,200}not found",
    re.IGNORECASE | re.DOTALL,
)
NO_MODEL_ACCESS: Final = re.compile(
    r"don.t have access to the model|access to (?:the|this) model .{0,60}(?:denied|not allowed)|"
    r"model use case details have not been submitted|not been granted access to (?:the|this) model",
    re.IGNORECASE | re.DOTALL,
)
_API_KEY: Final = re.compile(r"api key|authentication failed", re.IGNORECASE)
_EXPIRED: Final = frozenset({"ExpiredTokenException", "ExpiredToken"})
_SIGNATURE: Final = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "InvalidClientTokenId",
        "IncompleteSignature",
        "MissingAuthenticationTokenException",
    }
)
STALE: Final = _EXPIRED | _SIGNATURE
"""Exceptions after which the credentials are to be looked up again."""


def classify(status: int, get: GetHeader, body: bytes, *, now: float, secrets: Iterable[str] = ()) -> UpstreamFailure:
    """The failure that an answer with `status` (anything but 2xx) is.

    Its body names the exception even where only the header `x-amzn-ErrorType` did. A refused signature is answered
    with the request as AWS saw it, credentials included: `secrets` are masked. `now` is in seconds since the epoch.
    """
    header = (get(b"x-amzn-errortype") or b"").decode("latin-1")
    report = _read(status, body, header, secrets)
    kind = kind_of(report, status)
    wait = retry_after(get, now) if kind in (FailureKind.RATE_LIMITED, FailureKind.SERVER_ERROR) else None
    return _failure(kind, report, status, f"answered {status}", retry_after=wait)


def classify_message(message: Message, *, secrets: Iterable[str] = ()) -> UpstreamFailure:
    """The failure that an exception or an error inside a stream is."""
    if message.type == "error":
        said = {"__type": message.name, "message": message.text(":error-message")}
        payload = msgspec.json.encode(said)
    else:
        payload = message.payload
    name = error_name(message.name)
    status = ERRORS[name][1] if name in ERRORS else 500
    report = _read(status, payload, name, secrets)
    return _failure(kind_of(report, status), report, status, "broke off its stream")


def _read(status: int, body: bytes, name: str, secrets: Iterable[str]) -> ErrorReport:
    """The error, with each of `secrets` as `***`.

    In the text that JSON says, where no spelling of it is left, and before that in the bytes, which may be no JSON. A
    session token has a thousand letters: a pattern of all their spellings would take milliseconds for each error.
    """
    secrets = tuple(secrets)
    for secret in secrets:
        body = body.replace(secret.encode(), b"***").replace(secret.replace("/", "\\/").encode(), b"***")
        body = without_beginning(body, secret)
    report = read_error(status, body[:MAX_ERROR_BODY], name)
    message = report.message
    for secret in secrets:
        message = message.replace(secret, "***")
    return attrs.evolve(report, message=message)


def kind_of(report: ErrorReport, status: int) -> FailureKind:
    """By the exception's name, then by its wording, then by the status."""
    if report.code == "context_length_exceeded":
        return FailureKind.CALLER
    kind = _KINDS.get(report.type or "") or _kind_of_status(status)
    if kind is FailureKind.CALLER and report.type == "ValidationException" and _NO_MODEL.search(report.message):
        return FailureKind.MODEL_NOT_FOUND
    # One model that the account may not use is no reason to leave the provider with all the others.
    if kind is FailureKind.CREDENTIALS and NO_MODEL_ACCESS.search(report.message):
        return FailureKind.MODEL_NOT_FOUND
    return kind


def _kind_of_status(status: int) -> FailureKind:
    if status == 429:
        return FailureKind.RATE_LIMITED
    if status == 408:
        return FailureKind.TOTAL_TIMEOUT
    if status in (401, 402, 403):
        return FailureKind.CREDENTIALS
    if status >= 500:
        return FailureKind.SERVER_ERROR
    return FailureKind.CALLER if status >= 400 else FailureKind.MALFORMED


def _failure(
    kind: FailureKind, report: ErrorReport, status: int, what: str, *, retry_after: float | None = None
) -> UpstreamFailure:
    name = report.type or ""
    said = _UNPRINTABLE.sub(" ", report.message).strip()
    if len(said) > _MAX_MESSAGE:
        said = said[: _MAX_MESSAGE - 1] + "…"
    body = msgspec.json.encode({"__type": name, "message": report.message} if name else {"message": report.message})
    words = f"{what}: {name + ': ' if name else ''}{said}{_advice(kind, name, said)}"
    return UpstreamFailure(
        kind, words, status=status, code=report.code, retry_after=retry_after, body=body, content_type=_JSON
    )


def _advice(kind: FailureKind, name: str, said: str) -> str:
    """What the operator can do, "" where the exception says it."""
    if kind is not FailureKind.CREDENTIALS:
        return ""
    if name in _EXPIRED:
        return " (the AWS credentials have expired: renew them, for SSO with `aws sso login`)"
    if name in _SIGNATURE:
        return " (check the AWS access key, its secret, the session token and the clock)"
    if _API_KEY.search(said):
        return " (check the Bedrock API key: api_key, or AWS_BEARER_TOKEN_BEDROCK)"
    return " (allow bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream for this identity)"


def no_model_access(model: str, region: str | None, failure: UpstreamFailure) -> UpstreamFailure:
    """What a probe makes of a model it may not use, or that is not there: a mistake of the configuration."""
    where = f"in region {region}" if region else "there"
    message = (
        f"{failure.message} (the account cannot use model {model} {where}: enable it under Model access in the Bedrock "
        "console, or name an inference profile that contains it)"
    )
    return UpstreamFailure(
        FailureKind.CREDENTIALS, message, status=failure.status, code=failure.code, body=failure.body
    )
