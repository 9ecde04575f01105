"""What an upstream's refusal means: one table from statuses, headers and wordings to `UpstreamFailure`.

Pure: no I/O, no clock; the wall time comes as an argument. The table is the one in the documentation of routing
("what counts as a failure"). Error shapes read here: OpenAI's `{"error": {"message", "type", "param", "code"}}`, the
same with a bare string (old Ollama), vLLM's and Mistral's flat `{"message", "type", "code"}`, FastAPI's `{"detail"}`,
and a list around any of these (Gemini's OpenAI endpoint).
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import attrs
import msgspec

from infermux.errors import FailureKind, UpstreamFailure
from infermux.secret import Secret

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error body that are kept; the rest is dropped."""

_MAX_MESSAGE = 500
_MAX_WAIT = 86_400.0
_MIN_SECRET = 4

GetHeader = Callable[[bytes], bytes | None]

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"})
# OpenAI, Azure, vLLM, Groq, OpenRouter | llama.cpp | Ollama | Gemini | TGI, Together | LM Studio | Mistral
_CONTEXT_WORDING = re.compile(
    r"maximum context length|exceeds? the (?:available )?context (?:size|length|window)|"
    r"context[ _](?:length|size|window) (?:is )?exceeded|input token count .{0,40}exceeds the maximum|"
    r"`?inputs`? tokens \+ `?max_new_tokens`? must be|"
    r"context the overflows|loaded with context length of only|prompt is too long",
    re.IGNORECASE | re.DOTALL,
)
_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "model_not_available", "invalid_model"})
# OpenAI, vLLM ("The model `x` does not exist.") | Ollama (model "x" not found, try pulling it first) | OpenRouter
_MODEL_WORDING = re.compile(
    r"\bmodel [`'\"][^`'\"]{1,200}[`'\"] (?:does not exist|was not found|not found|is not found)|"
    r"\bno endpoints found for\b|\bmodel [^\s]{1,200} not found, try pulling it\b|"
    r"\bAPI deployment for this resource does not exist",
    re.IGNORECASE,
)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s|d)", re.ASCII)
_SECONDS_PER = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LONG_SECRET = 16  # letters from which on the first `_BEGINNING` of them tell something
_BEGINNING = 12
_LONGEST_SPELLING = 26  # bytes of one letter: two UTF-16 units, each as `uXXXX` behind eight backslashes
_CUT_LETTER = re.compile(
    rb"(?:(?:\\{1,8}+u[0-9A-Fa-f]{4})?(?:\\{1,8}+(?:u[0-9A-Fa-f]{0,3})?)?"
    rb"|(?:%[0-9A-Fa-f]{2}){0,3}%[0-9A-Fa-f]?|[\xc0-\xff][\x80-\xbf]*)\Z"
)
_WORD = re.compile(rb"[^\s\"'\\,;<>()\[\]{}]*+")
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class ErrorInfo:
    """What an error body says; missing parts are empty. `status` is one it names itself (OpenRouter: `code: 502`)."""

    message: str = ""
    code: str = ""
    type: str = ""
    status: int | None = None

    @property
    def is_context_length(self) -> bool:
        names = {self.code.lower(), self.type.lower()}
        return bool(names & _CONTEXT_CODES) or _CONTEXT_WORDING.search(self.message) is not None

    @property
    def is_model_missing(self) -> bool:
        return self.code.lower() in _MODEL_CODES or _MODEL_WORDING.search(self.message) is not None

    @property
    def known_code(self) -> str | None:
        """The code to report: `context_length_exceeded` whatever the wording, else the provider's own, else None."""
        if self.is_context_length:
            return "context_length_exceeded"
        return self.code or None


def read_error(body: bytes) -> ErrorInfo:
    """The parts of an error body; for anything that is not JSON the text itself is the message."""
    return error_info(said_in(body))


def said_in(body: bytes) -> object:
    """The JSON that `body` is; for anything else its text, or the beginning of it."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:_MAX_MESSAGE].decode("utf-8", "replace").strip()


def error_info(value: object) -> ErrorInfo:
    """The parts of a decoded error."""
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    if not isinstance(value, dict):
        return ErrorInfo(message=str(value) if isinstance(value, str) else "")
    outer = cast("dict[str, Any]", value)
    inner = outer.get("error", outer)
    if isinstance(inner, str):
        return ErrorInfo(message=inner, code=_text(outer.get("code")), type=_text(outer.get("type")))
    if not isinstance(inner, dict):
        return ErrorInfo()
    return _from_fields(cast("dict[str, Any]", inner))


def _from_fields(fields: Mapping[str, Any]) -> ErrorInfo:
    message = fields.get("message") or fields.get("detail") or ""
    code = fields.get("code")
    status = code if code is not None else fields.get("status")
    number = int(status) if isinstance(status, int) or (isinstance(status, str) and status.isdecimal()) else None
    return ErrorInfo(
        message=message if isinstance(message, str) else msgspec.json.encode(message).decode(),
        code="" if _text(code).isdecimal() else _text(code),
        type=_text(fields.get("type")),
        status=number if number is not None and 400 <= number <= 599 else None,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def classify(
    status: int,
    get: GetHeader,
    body: bytes,
    *,
    now: float,
    secrets: Iterable[str] = (),
    content_type: bytes | None = None,
) -> UpstreamFailure:
    """The failure that an answer with `status` (anything but 2xx) is.

    `get` reads a response header by its lower-case name, `now` is the wall time in seconds since the epoch (for a
    Retry-After date), `secrets` are our own credentials: each occurrence in the body becomes `***`.
    """
    body = mask(body[:MAX_ERROR_BODY], secrets)
    info = read_error(body)
    kind = _kind(status, info)
    wait = retry_after(get, now) if kind in _MAY_WAIT else None
    return UpstreamFailure(
        kind,
        _describe(status, info, get),
        status=status,
        code=info.known_code,
        retry_after=wait,
        body=body,
        content_type=content_type if content_type is not None else get(b"content-type"),
    )


_MAY_WAIT = frozenset({FailureKind.RATE_LIMITED, FailureKind.SERVER_ERROR})


def _kind(status: int, info: ErrorInfo) -> FailureKind:
    if status == 429:
        return FailureKind.RATE_LIMITED
    if status >= 500:
        return FailureKind.SERVER_ERROR
    if status == 408:
        return FailureKind.TOTAL_TIMEOUT
    # OpenAI answers 403 with this code when a project may not use one model: that is no reason to leave the provider.
    if status in (404, 403) and info.is_model_missing:
        return FailureKind.MODEL_NOT_FOUND
    if status in (401, 402, 403):
        return FailureKind.CREDENTIALS
    if status >= 400:
        return FailureKind.CALLER
    return FailureKind.MALFORMED  # 1xx as a final answer, or a redirect: neither is followed


def _describe(status: int, info: ErrorInfo, get: GetHeader) -> str:
    if 300 <= status < 400:
        return f"answered {status}, a redirect; infermux does not follow redirects: set base_url to the final address"
    text = _UNPRINTABLE.sub(" ", info.message).strip()
    if len(text) > _MAX_MESSAGE:
        text = text[: _MAX_MESSAGE - 1] + "…"
    if not text:
        return f"answered {status}"
    if (get(b"content-type") or b"").startswith(b"text/html"):
        return f"answered {status} with a page of HTML"
    return f"answered {status}: {text}"


def classify_in_band(error: object, raw: bytes, *, secrets: Iterable[str] = ()) -> UpstreamFailure:
    """The failure that an error inside a 2xx answer is: a body or a stream event of the form `{"error": ...}`.

    `raw` is its JSON. There is no status to go by, so the error's own numeric code, its code and its type decide;
    one that says nothing is the provider's fault.
    """
    info = error_info(error)
    status = _in_band_status(info)
    raw = mask(raw[:MAX_ERROR_BODY], secrets)
    masked = attrs.evolve(info, message=_masked(info.message, secrets), code=_masked(info.code, secrets))
    return UpstreamFailure(
        _kind(status, masked),
        "answered 200 with an error: " + (_UNPRINTABLE.sub(" ", masked.message)[:_MAX_MESSAGE] or "without a message"),
        status=status,
        code=masked.known_code,
        body=raw,
        content_type=b"application/json",
    )


_WORDS_TO_STATUS = (
    (re.compile(r"rate.?limit|quota|too.?many|throttl"), 429),
    (re.compile(r"api.?key|authenticat|unauthorized|permission|billing|credit"), 401),
    (re.compile(r"model_?not_?found|notfound"), 404),
    (re.compile(r"overload|unavailable|server_?error|internal"), 500),
    (re.compile(r"invalid_?(?:request|prompt)|bad_?request|content_?(?:filter|policy)|unprocessable|validation"), 400),
)


def _in_band_status(info: ErrorInfo) -> int:
    if info.is_context_length:
        return 400
    if info.status is not None:
        return info.status
    if info.is_model_missing:
        return 404
    for word in (info.code.lower(), info.type.lower()):
        for pattern, status in _WORDS_TO_STATUS:
            if word and pattern.search(word):
                return status
    return 500


def retry_after(get: GetHeader, now: float) -> float | None:
    """Seconds until the provider wants to be asked again, or None. Never negative, at most a day.

    In this order: `retry-after-ms` (Azure, and what the OpenAI SDK reads first), `Retry-After` in seconds or as an
    HTTP date (RFC 9110 section 10.2.3), then `x-ratelimit-reset-requests` and `-tokens` (Go durations such as
    `6m0s`, or plain seconds). Of the resets only those count whose `remaining` is 0: the later one. Where none is
    exhausted the earlier one is the best guess.
    """
    milliseconds = _number(get(b"retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    given = get(b"retry-after")
    if given is not None:
        wait = _number(given)
        if wait is None:
            wait = _until(given, now)
        if wait is not None:
            return _bounded(wait)
    return _reset(get)


def _reset(get: GetHeader) -> float | None:
    exhausted: list[float] = []
    others: list[float] = []
    for what in (b"requests", b"tokens"):
        value = get(b"x-ratelimit-reset-" + what)
        wait = None if value is None else parse_duration(value.decode("latin-1"))
        if wait is not None:
            (exhausted if get(b"x-ratelimit-remaining-" + what) == b"0" else others).append(wait)
    if exhausted:
        return _bounded(max(exhausted))
    return _bounded(min(others)) if others else None


def parse_duration(text: str) -> float | None:
    """Seconds in `1m30s`, `250ms`, `1.5s` or a plain number of seconds; None for anything else."""
    text = text.strip()
    number = _number(text.encode("latin-1", "replace"))
    if number is not None:
        return number
    total, end = 0.0, 0
    while match := _DURATION.match(text, end):
        total += float(match[1]) * _SECONDS_PER[match[2]]
        end = match.end()
    return total if end and end == len(text) else None


def _number(value: bytes | None) -> float | None:
    if value is None or not re.fullmatch(rb"\s*\d{1,15}(\.\d{0,15})?\s*", value):
        return None
    return float(value)


def _until(date: bytes, now: float) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date.decode("latin-1")).timestamp() - now
    except (ValueError, OverflowError, TypeError):
        return None


def _bounded(seconds: float) -> float:
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), _MAX_WAIT)


def mask(body: bytes, secrets: Iterable[str]) -> bytes:
    """`body` with each of `secrets` replaced by `***`, in whatever way JSON (in JSON, too) or a URL may spell it.

    Of a long one its beginning is enough, with all that is written without a gap after it: providers show some of a
    key. Of one that `body` was cut in the middle of, the beginning is taken away.
    """
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            body = without_beginning(_without(body, secret), secret)
    return body


def _without(body: bytes, secret: str) -> bytes:
    letters = _letters(secret)
    told = _BEGINNING if len(secret) >= _LONG_SECRET else len(letters)
    kept, at = list[bytes](), 0
    for found in re.finditer(b"".join(letters[:told]), body):
        if found.start() >= at:
            kept += (body[at : found.start()], b"***")
            at = _end_of(body, found.end(), letters[told:])
    return b"".join([*kept, body[at:]])


def _end_of(body: bytes, at: int, letters: Iterable[bytes]) -> int:
    """Where an occurrence ends of which `letters` are left: after them, or after what stands in their place."""
    for letter in letters:
        found = _compiled(letter).match(body, at)
        if found is None:
            rest = _WORD.match(body, at)
            return rest.end() if rest is not None else at
        at = found.end()
    return at


def _masked(text: str, secrets: Iterable[str]) -> str:
    return mask(text.encode("utf-8", "replace"), secrets).decode("utf-8", "replace")


def without_beginning(body: bytes, secret: str) -> bytes:
    """`body` less the beginning of `secret` at its end, of four letters or more: it may have been cut there."""
    first, *others = map(_compiled, _letters(secret))
    for begun in first.finditer(body, max(0, len(body) - _LONGEST_SPELLING * len(secret))):
        at, letters = begun.end(), 1
        for letter in others:
            found = letter.match(body, at)
            if found is None:
                break
            at, letters = found.end(), letters + 1
        if letters >= _MIN_SECRET and _CUT_LETTER.match(body, at):
            return body[: begun.start()]
    return body


@lru_cache(maxsize=256)
def _compiled(letter: bytes) -> re.Pattern[bytes]:
    return re.compile(letter)


def _letters(secret: str) -> list[bytes]:
    """A pattern for each character; one for several backslashes, which nothing tells from those that escape."""
    return [_spellings(part) for part in re.findall(r"\\+|[^\\]", secret)]


@lru_cache(maxsize=256)
def _spellings(part: str) -> bytes:
    r"""A pattern for one character, or for backslashes in a row.

    Itself, behind backslashes (`\/`, in JSON inside JSON `\\\/`), as `\u` escapes of its UTF-16 units, or as percent
    escapes of its UTF-8 bytes.
    """
    units = part.encode("utf-16-be").hex()
    escaped = "".join(rf"\\{{1,8}}+u{units[at : at + 4]}" for at in range(0, len(units), 4))
    percent = "".join(f"%{byte:02x}" for byte in part.encode())
    itself = rb"\\++" if part.startswith("\\") else rb"\\{0,8}+" + re.escape(part.encode())
    return rb"(?:(?i:%b|%b)|%b)" % (escaped.encode(), percent.encode(), itself)


def secrets_of(keys: Iterable[Secret], headers: Mapping[str, str]) -> tuple[str, ...]:
    """The credentials a provider is called with: its keys, and the headers that look like they carry one."""
    found = [key.reveal() for key in keys]
    for name, value in headers.items():
        if _SECRET_HEADER.search(name):
            found.append(value)
            found.append(value.partition(" ")[2])  # without the scheme: `Bearer x`
    return tuple(sorted({item for item in found if len(item) >= _MIN_SECRET}, key=len, reverse=True))
