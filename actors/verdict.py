"""What happens after a failed attempt: pure decisions of one request, in one place."""

from __future__ import annotations

import math

import attrs

from infermux.errors import (
    FailureKind,
    InfermuxError,
    ProviderRefusal,
    RateLimited,
    UpstreamError,
    UpstreamFailure,
    UpstreamTimeout,
)

MAX_QUOTED = 300  # characters of a provider's own words in our messages
_TOLD = ("answered ", "broke off ", "ended its stream ", "sent ")
"""How the adapters' words begin when they say what the provider did."""
_CREDENTIALS = (401, 402, 403)


@attrs.frozen
class Failed:
    """One attempt that failed."""

    provider: str
    model: str
    failure: UpstreamFailure


@attrs.define
class History:
    """The failed attempts of one request, and whether it may have another.

    `max_attempts` counts all attempts, over providers and fallback models. After a whole answer that timed out only
    one other provider is tried: the caller has waited a full timeout already.
    """

    max_attempts: int
    stream: bool
    failed: list[Failed] = attrs.field(factory=list)

    @property
    def attempts(self) -> int:
        return len(self.failed)

    def may_try_again(self) -> bool:
        if len(self.failed) >= self.max_attempts:
            return False
        if self.failed[-1].failure.kind is FailureKind.CALLER:
            return False
        return self.stream or all(entry.failure.kind is not FailureKind.TOTAL_TIMEOUT for entry in self.failed[:-1])

    def error(self) -> InfermuxError:
        """What the caller is told when no attempt is left: the last failure that says most.

        A refusal of the caller's own making goes back as the provider wrote it, all 429 is a 429, a timeout a 504,
        everything else a 502. Providers that do not have the model count only when nobody has it.
        """
        last = self.failed[-1]
        serving = [entry for entry in self.failed if entry.failure.kind is not FailureKind.MODEL_NOT_FOUND]
        if last.failure.kind is FailureKind.CALLER or not serving:
            return refusal(last)
        telling = [entry for entry in serving if entry.failure.kind is not FailureKind.RATE_LIMITED]
        return failure_error(telling[-1], self.attempts) if telling else self._all_rate_limited(serving)

    def _all_rate_limited(self, limited: list[Failed]) -> RateLimited:
        waits = [w for entry in limited if (w := entry.failure.retry_after) is not None]
        wait = min(waits, default=1.0)
        names = ", ".join(dict.fromkeys(entry.provider for entry in limited))
        return RateLimited(
            f"the limits of the provider account are used up ({names} answered 429); try again in {math.ceil(wait)} s",
            retry_after=wait,
            provider=limited[-1].provider,
        )


def refusal(entry: Failed) -> InfermuxError:
    """The provider's own answer to what the caller did."""
    failure = entry.failure
    return ProviderRefusal(
        failure.message,
        status=failure.status or 400,
        body=failure.body or b"",
        content_type=failure.content_type or b"application/json",
        provider=entry.provider,
        code=failure.code,
    )


def failure_error(entry: Failed, attempts: int) -> InfermuxError:
    """A failure of the provider's making, as told to the caller."""
    failure, name = entry.failure, entry.provider
    tail = f" (after {attempts} attempts)" if attempts > 1 else ""
    if failure.kind.is_timeout:
        return UpstreamTimeout(f"provider {name}: {failure.message}{tail}", code=failure.kind.value, provider=name)
    return UpstreamError(f"provider {name} {_what(failure)}{tail}", provider=name)


def broken_error(entry: Failed) -> InfermuxError:
    """As `failure_error`, for a stream that broke after its first content.

    An error that the provider said in the stream keeps its status, by which its type is told: SDKs and agents wait for
    an overloaded provider, and not for a broken one. Not where it is about credentials, which are not the caller's.
    """
    error = failure_error(entry, 1)
    status = entry.failure.status
    if isinstance(error, UpstreamError) and status is not None and status >= 400 and status not in _CREDENTIALS:
        error.status = status
    return error


def _what(failure: UpstreamFailure) -> str:
    words = failure.message[:MAX_QUOTED]
    if failure.kind is FailureKind.CREDENTIALS:
        return f"refused the router's own credentials with status {failure.status}: {words}"
    if words.startswith(_TOLD):
        return words
    if failure.status is not None:
        return f"answered {failure.status}: {words}"
    return f"failed: {failure.kind.value}: {words}"
