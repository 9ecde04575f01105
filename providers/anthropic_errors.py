"""What a refusal of Anthropic's API means, beyond what `classify` knows of every provider.

Pure. The types and their statuses: https://platform.claude.com/docs/en/api/errors and `anthropic.types.shared`; the
limits' headers: https://platform.claude.com/docs/en/api/rate-limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from .classify import ErrorInfo, GetHeader, classify, error_info, read_error
from .classify import classify_in_band as classify_any_in_band

_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_NO_MODEL: Final = re.compile(r"\s*model:\s*\S+\s*")
_NO_CONTEXT: Final = re.compile(r"input length and `?max_tokens`? exceed context limit", re.IGNORECASE)
_NO_CREDIT: Final = re.compile(r"credit balance is too low", re.IGNORECASE)
_LIMITS: Final = (b"requests", b"tokens", b"input-tokens", b"output-tokens")
_LONGEST_WAIT: Final = 86_400.0


def classify_refusal(
    status: int, get: GetHeader, body: bytes, *, now: float, secrets: Iterable[str] = ()
) -> UpstreamFailure:
    """The failure that an answer with `status` (anything but 2xx) is; the arguments are those of `classify`."""
    failure = classify(status, get, body, now=now, secrets=secrets)
    _refine(failure, read_error(failure.body or b""))
    if failure.kind is FailureKind.RATE_LIMITED and failure.retry_after is None:
        failure.retry_after = reset_of(get, now)
    return failure


def classify_in_band(data: bytes, *, secrets: Iterable[str] = ()) -> UpstreamFailure:
    """The failure that an error inside a 2xx is: `{"type": "error", "error": {"type", "message"}}`, whole or an event.

    Its type says what its status would have been; one that says nothing is the provider's fault.
    """
    try:
        value: object = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        value = {}
    info = error_info(value)
    status = _STATUSES.get(info.type)
    if status is None:
        return classify_any_in_band(value, data, secrets=secrets)
    get = {b"content-type": b"application/json"}.get
    failure = classify(status, get, data, now=0.0, secrets=secrets)
    failure.message = failure.message.replace(f"answered {status}", f"answered 200 with an error ({info.type})", 1)
    _refine(failure, info)
    return failure


def _refine(failure: UpstreamFailure, info: ErrorInfo) -> None:
    """Says of `failure` what only Anthropic's wording tells. Its code is the error's type, where there is no better."""
    if failure.code is None:
        failure.code = info.type or None
    if failure.kind is not FailureKind.CALLER:
        return
    if _NO_CONTEXT.match(info.message):
        failure.code = "context_length_exceeded"
    elif failure.status == 404 and _NO_MODEL.fullmatch(info.message):
        failure.kind = FailureKind.MODEL_NOT_FOUND
    elif failure.status == 400 and _NO_CREDIT.search(info.message):
        failure.kind = FailureKind.CREDENTIALS  # our own account's: another provider may have some


def reset_of(get: GetHeader, now: float) -> float | None:
    """Seconds until the limits that are used up are not any more, by `anthropic-ratelimit-*`; None if none says so.

    Of the four limits only those count whose `remaining` is 0: the latest. `now` is the wall time.
    """
    waits: list[float] = []
    for limit in _LIMITS:
        at = get(b"anthropic-ratelimit-" + limit + b"-reset")
        if at is None or get(b"anthropic-ratelimit-" + limit + b"-remaining") != b"0":
            continue
        try:
            waits.append(datetime.fromisoformat(at.decode("latin-1")).timestamp() - now)
        except (ValueError, OverflowError):
            continue
    return min(max(*waits, 0.0), _LONGEST_WAIT) if waits else None
