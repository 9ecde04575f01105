"""What happens after a failed attempt: pure decisions of one request, in one place."""

from __future__ import annotations

import enum
import math
import random

import attrs
import msgspec

from infermux.config.settings import Backoff, Retry
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
STAY_STATUSES = frozenset({500, 502, 503, 529})
_OF_A_KEY = frozenset({FailureKind.RATE_LIMITED, FailureKind.CREDENTIALS})  # another one may do
CONTEXT_LENGTH = "context_length_exceeded"
_TOLD = ("answered ", "broke off ", "ended its stream ", "sent ")
"""How the adapters' words begin when they say what the provider did."""
_CREDENTIALS = (401, 402, 403)


@attrs.frozen
class Failed:
    """One attempt that failed. `other_keys`: the provider has further credentials that could be used.

    `keyless`: nothing was sent to it that it could have refused.
    """

    provider: str
    model: str
    failure: UpstreamFailure
    other_keys: bool = False
    keyless: bool = False


class Move(enum.Enum):
    """What a request does next."""

    GIVE_UP = "give up"  # the caller is told
    ELSEWHERE = "elsewhere"  # the next candidate
    STAY = "stay"  # the same provider again after a wait, where the next candidate would be another model or none
    LONGER_CONTEXT = "longer context"  # the models declared for prompts that are too long


class Next(msgspec.Struct, frozen=True):
    """A move, and for STAY the seconds to wait before it."""

    move: Move
    wait: float = 0.0


GIVE_UP = Next(Move.GIVE_UP)
ELSEWHERE = Next(Move.ELSEWHERE)
LONGER_CONTEXT = Next(Move.LONGER_CONTEXT)


class History(msgspec.Struct):
    """The failed attempts of one request, and what they lead to.

    `retry.max_attempts` counts all attempts, over providers and fallback models. After a whole answer that timed out
    only one other provider is tried: the caller has waited a full timeout already. What the caller did wrong is not
    tried again anywhere, but for a prompt that is too long, which once goes to the models declared for that.
    """

    retry: Retry
    stream: bool
    failed: list[Failed] = []
    longer_context: bool = False  # the request has gone to those models

    @property
    def attempts(self) -> int:
        return len(self.failed)

    def decide(self, left: float, rng: random.Random) -> Next:
        """What follows the last failure. `left`: seconds until the request's deadline."""
        last = self.failed[-1].failure
        if len(self.failed) >= self.retry.max_attempts or left <= 0:
            return GIVE_UP
        if last.kind is FailureKind.CALLER:
            return LONGER_CONTEXT if last.code == CONTEXT_LENGTH and not self.longer_context else GIVE_UP
        if not self.stream and any(entry.failure.kind is FailureKind.TOTAL_TIMEOUT for entry in self.failed[:-1]):
            return GIVE_UP
        wait = self._stay(last, rng)
        return Next(Move.STAY, wait) if wait is not None and wait < left else ELSEWHERE

    def _stay(self, failure: UpstreamFailure, rng: random.Random) -> float | None:
        """Seconds to wait before the same provider may be asked again; None: not again."""
        here = self.failed[-1]
        if here.other_keys and failure.kind in _OF_A_KEY:
            return 0.0
        again = sum((entry.provider, entry.model) == (here.provider, here.model) for entry in self.failed) - 1
        if again >= self.retry.same_provider:
            return None
        if failure.kind is FailureKind.RATE_LIMITED:
            asked = failure.retry_after
            return asked if asked is not None and asked <= self.retry.wait_for_retry_after else None
        if failure.kind is FailureKind.CONNECT or failure.status in STAY_STATUSES:
            return backoff(self.retry.backoff, again, rng)
        return None

    def error(self) -> InfermuxError:
        """What the caller is told when no attempt is left: the last failure that says most.

        A refusal of the caller's own making goes back as the provider wrote it, all 429 is a 429, a timeout a 504,
        everything else a 502. Providers that do not have the model count only when nobody has it. A prompt that was
        too long stays that, whatever became of it elsewhere.
        """
        last = self.failed[-1]
        too_long = [entry for entry in self.failed if entry.failure.kind is FailureKind.CALLER]
        serving = [entry for entry in self.failed if entry.failure.kind is not FailureKind.MODEL_NOT_FOUND]
        if too_long or not serving:
            return refusal(too_long[-1] if too_long else last)
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


def backoff(settings: Backoff, again: int, rng: random.Random) -> float:
    """Seconds before try number `again` (0 the first) at the same provider: full jitter, so that crowds spread.

    A uniform draw from 0 to min(max, base * 2**again): "Full Jitter" of
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """
    return rng.uniform(0.0, min(settings.max, settings.base * 2**again))


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
        rewritten=failure.rewritten,
    )


def failure_error(entry: Failed, attempts: int) -> InfermuxError:
    """A failure of the provider's making, as told to the caller."""
    failure, name = entry.failure, entry.provider
    tail = f" (after {attempts} attempts)" if attempts > 1 else ""
    if failure.kind.is_timeout:
        return UpstreamTimeout(f"provider {name}: {failure.message}{tail}", code=failure.kind.value, provider=name)
    return UpstreamError(f"provider {name} {_what(failure, entry.keyless)}{tail}", provider=name)


def broken_error(entry: Failed, attempts: int = 1) -> InfermuxError:
    """As `failure_error`, for a stream that broke after its first content.

    An error that the provider said in the stream keeps its status, by which its type is told: SDKs and agents wait for
    an overloaded provider, and not for a broken one. Not where it is about credentials, which are not the caller's.
    """
    error = failure_error(entry, attempts)
    status = entry.failure.status
    if isinstance(error, UpstreamError) and status is not None and status >= 400 and status not in _CREDENTIALS:
        error.status = status
    return error


def _what(failure: UpstreamFailure, keyless: bool) -> str:
    words = failure.message[:MAX_QUOTED]
    if failure.kind is FailureKind.CREDENTIALS and keyless:
        return f"asks for a credential, and is configured without one: it answered {failure.status}: {words}"
    if failure.kind is FailureKind.CREDENTIALS:
        return f"refused the router's own credentials with status {failure.status}: {words}"
    if words.startswith(_TOLD):
        return words
    if failure.status is not None:
        return f"answered {failure.status}: {words}"
    if failure.kind is FailureKind.CONNECT:
        return f"cannot be reached: {words.removeprefix('cannot connect to ')}"
    return f"failed: {failure.kind.value}: {words}"
