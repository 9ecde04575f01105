"""Every error infermux raises, split by whose fault it was.

`InfermuxError` is what a caller is told: it has a status, a code and a sentence that says what the reader can do.
`UpstreamFailure` is what one attempt at one provider came to; the dispatcher decides whether it is replaced by another
attempt or becomes an `InfermuxError`. Neither ever carries a credential.
"""

from __future__ import annotations

import enum
import re

import attrs

_PLAIN_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # a provider's word, which goes into a header


class Fault(enum.Enum):
    """Whose fault an error was."""

    __hash__ = object.__hash__  # that of enum is Python code; records are counted by it

    CALLER = "caller"
    POLICY = "policy"
    PROVIDER = "provider"
    INFERMUX = "infermux"


class InfermuxError(Exception):
    """An error for the caller. `status` is its HTTP status, `code` its stable machine-readable name.

    `is_final`: sent again by itself the same request would meet the same, or is not wanted.
    """

    status: int = 500
    code: str = "internal_error"
    fault: Fault = Fault.INFERMUX
    is_final: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        status: int | None = None,
        provider: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.provider = provider
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class InternalError(InfermuxError):
    """A bug in infermux; the log has the traceback."""


class DatabaseUnavailable(InfermuxError):
    """The database cannot be used now: away, locked, full, not ours to write. It may work later."""

    status, code = 503, "database_unavailable"


class ProviderNotStarted(InfermuxError):
    """A provider that is declared `strict` did not come up at the start, so nothing is served."""

    code = "provider_not_started"


class SchemaTooNew(DatabaseUnavailable):
    """A newer infermux has written to the database: what it put there would be misread."""


# The caller's doing.
class CallerError(InfermuxError):
    """The request cannot be served as it is."""

    fault = Fault.CALLER


class InvalidRequest(CallerError):
    """The router's own refusal of a malformed request; `param` names the field."""

    status, code = 400, "invalid_request"


class NotCarried(InvalidRequest):
    """What one provider cannot be given and another may: its API has no place for it, or it keeps no state."""


class PreviousResponseNotFound(InvalidRequest):
    """The response that a request goes on from is out of reach: OpenAI's own 400, code and `param` for it."""

    code = "previous_response_not_found"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="previous_response_id")


class ThreadUnsupported(NotCarried):
    """A conversation that only Anthropic's API would hold, at a provider of another kind."""

    code = "thread_unsupported_request"


class Unauthorized(CallerError):
    """`auth.mode` asks for a key that was not given or is wrong."""

    status, code = 401, "unauthorized"


class Forbidden(CallerError):
    """Refused by the Host and Origin rule, or not allowed for this key."""

    status, code = 403, "forbidden"


class ModelNotAllowed(CallerError):
    """The key may not use the model, or the route group that it is in."""

    status, code = 403, "model_not_allowed"


class ModelNotFound(CallerError):
    """No provider serves the model."""

    status, code = 404, "model_not_found"


class NotFound(CallerError):
    """No such path."""

    status, code = 404, "not_found"


class MethodNotAllowed(CallerError):
    """The path exists, the method does not."""

    status, code = 405, "method_not_allowed"


class RequestTimeout(CallerError):
    """The request's head or body came too slowly."""

    status, code = 408, "request_timeout"


class Conflict(CallerError):
    """What was asked for does not go with what is there."""

    status, code = 409, "conflict"


class LengthRequired(CallerError):
    """A body without a length."""

    status, code = 411, "length_required"


class PayloadTooLarge(CallerError):
    """The body is larger than `limits.max_body_bytes`."""

    status, code = 413, "payload_too_large"


class UnsupportedMediaType(CallerError):
    """The body is not JSON by its own declaration."""

    status, code = 415, "unsupported_media_type"


class UnmetExpectation(CallerError):
    """An `Expect` other than `100-continue`."""

    status, code = 417, InvalidRequest.code


class HeadTooLarge(CallerError):
    """The request's head is larger than the server takes."""

    status, code = 431, "head_too_large"


class ProviderRefusal(CallerError):
    """A provider refused what the caller asked for; its answer goes back as it is: `body`, `content_type`, `status`.

    `code` is the provider's own, such as `context_length_exceeded`, where it gives one that is a plain word.
    `rewritten`: the body is a translation of its answer.
    """

    code = "provider_refusal"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: bytes,
        content_type: bytes,
        provider: str,
        code: str | None = None,
        rewritten: bool = False,
    ) -> None:
        plain = code if code is not None and _PLAIN_CODE.fullmatch(code) else None
        super().__init__(message, status=status, provider=provider, code=plain)
        self.body = body
        self.content_type = content_type
        self.rewritten = rewritten


# Policy: limits and states of this router.
class PolicyError(InfermuxError):
    """The request is fine; the router may not or cannot serve it now."""

    fault = Fault.POLICY


class RateLimited(PolicyError):
    """Only limits stand in the way; `retry_after` (seconds) says until when."""

    status, code = 429, "rate_limited"


class BudgetExceeded(PolicyError):
    """A budget has no room for what the request may cost; `retry_after` (seconds) says until when, None: for ever."""

    status, code = 429, "budget_exceeded"

    @property
    def is_final(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Only what other requests hold may come back while a client is still trying."""
        return self.retry_after is None or self.retry_after > 1


class NoHealthyProviders(PolicyError):
    """Health or circuits stand in the way; the message gives the reason per provider."""

    status, code = 503, "no_healthy_providers"


class Overloaded(PolicyError):
    """More concurrent requests than `limits.max_concurrent_requests`."""

    status, code = 503, "overloaded"


class KeysUnavailable(PolicyError):
    """The database of keys cannot be asked, and the key is not one that is known."""

    status, code = 503, "keys_unavailable"


class ShuttingDown(PolicyError):
    """The process is draining."""

    status, code = 503, "shutting_down"


class RequestKilled(PolicyError):
    """An operator ended this request. It is not to be sent again by itself."""

    status, code, is_final = 503, "request_killed", True


class DeadlineExceeded(PolicyError):
    """The caller's own deadline, or the request's bound, passed."""

    status, code = 504, "deadline_exceeded"


# The provider's doing.
class ProviderError(InfermuxError):
    """All attempts failed; the message names the last provider and what it answered."""

    fault = Fault.PROVIDER


class UpstreamError(ProviderError):
    """The last provider's 5xx, 529, broken answer, or its refusal of our own credentials."""

    status, code = 502, "upstream_error"


class UpstreamTimeout(ProviderError):
    """One of the timeouts; `code` says which."""

    status, code = 504, "total_timeout"


class CallerLeft(Exception):
    """The caller closed its connection, or stopped reading. Nothing can be told to it any more."""


class FailureKind(enum.Enum):
    """What one attempt at a provider came to when it did not succeed. The values are words of logs and metrics."""

    CONNECT = "connect_error"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    SERVER_ERROR = "server_error"  # 5xx, 529
    BROKEN = "broken"  # the answer or stream ended or broke before its end
    MALFORMED = "malformed"  # 2xx that is not what the endpoint answers
    RATE_LIMITED = "rate_limited"  # 429
    CREDENTIALS = "credentials"  # 401, 402, 403: our own credentials
    MODEL_NOT_FOUND = "model_not_found"  # 404 for the model, by code or wording
    CALLER = "caller_error"  # 400, 404, 409, 413, 422 ...: returned to the caller as it is

    @property
    def is_timeout(self) -> bool:
        return self in _TIMEOUTS


_TIMEOUTS = frozenset(
    {
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.FIRST_TOKEN_TIMEOUT,
        FailureKind.IDLE_TIMEOUT,
        FailureKind.TOTAL_TIMEOUT,
    }
)


class UpstreamFailure(Exception):
    """One attempt's failure, as an adapter reports it.

    `status` is the upstream's HTTP status where there was one, `body` its error body as it came (for errors that are
    the caller's own and go back as they are), `code` the provider's own error code, `retry_after` in seconds.
    `rewritten`: the body is a translation of what came, in the caller's dialect.
    """

    rewritten = False

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        body: bytes | None = None,
        content_type: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.body = body
        self.content_type = content_type

    def __repr__(self) -> str:
        return f"UpstreamFailure({self.kind.value}, status={self.status}, code={self.code!r})"


@attrs.frozen
class Problem:
    """One thing wrong with a configuration file. `line` counts from 1; `path` is dotted (`providers[0].timeout`)."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}: {self.message}"


class ConfigError(InfermuxError):
    """The configuration is refused; `problems` lists everything that is wrong with it, not the first only."""

    code = "config_error"
    fault = Fault.CALLER

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
