"""The right to send one attempt to one provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from infermux.config.settings import Price, ProviderSettings
from infermux.errors import InfermuxError
from infermux.providers.interface import Adapter
from infermux.providers.prices import cost
from infermux.providers.ratelimits import Quotas
from infermux.providers.transport import Stoppable
from infermux.secret import Secret

from .kit_errors import ActorDied
from .learned_limits import Mark
from .mailbox import NOT_NOW
from .messages import Outcome

if TYPE_CHECKING:
    from .ref import Ref


class Release(msgspec.Struct, frozen=True):
    """Told by a lease to its provider's actor, once."""

    lease: Lease
    outcome: Outcome


class ProbePassed(msgspec.Struct, frozen=True):
    """Told when the half-open probe has its first token, `latency` seconds after the lease."""

    lease: Lease
    latency: float


class Heard(msgspec.Struct, frozen=True):
    """Told when an answer to `lease` says what is left of the provider's own limits."""

    lease: Lease
    quotas: Quotas


class Grant(msgspec.Struct, frozen=True):
    """What an admitted request gets: tokens reserved, whether it is the half-open probe, its bound in seconds.

    `key` is the place of its key where the provider has several, `other_keys` how many more could be used; `mark` is
    for the limits that the provider tells.
    """

    reserved: int
    probe: bool
    bound: float | None
    epoch: int
    key: int | None = None
    other_keys: int = 0
    mark: Mark | None = None


class Lease(msgspec.Struct, eq=False):
    """Granted by a provider's actor; `release` gives it back, exactly once, with an outcome.

    `model` is the provider's name for the model. `probe` marks the one live request that tries a half-open circuit;
    `bound` is then the seconds it has to its first token. `reserved` tokens are settled to the true usage at release.
    `price` is the model's, None when nobody knows it.
    `key` is the credential to send, at its place `key_index`, where the provider has several: None otherwise;
    `other_keys` of them could have been used as well. `mark` is for the limits that the provider tells.
    `scope` is the cancel scope its attempt runs in: a kill or an expired drain cancels it and says why in `revoked`.
    `last_word`: the request ends with it, no other provider is tried; its caller is told `error` where there is one.
    `span` is the attempt's in a trace, in hexadecimal, where it has one.
    `first_token_at`, on trio's clock, and `outcome` are what became of the attempt, as far as it has come; `cost` is in
    US dollars, of what it is known to have used, None where the price is not: whoever grants it begins it at zero.
    """

    provider: str
    model: str
    settings: ProviderSettings
    adapter: Adapter
    ref: Ref[Any]
    granted_at: float
    reserved: int = 0
    probe: bool = False
    explore: bool = False
    epoch: int = 0
    price: Price | None = None
    cost: float | None = None
    key: Secret | None = None
    key_index: int | None = None
    other_keys: int = 0
    mark: Mark | None = None
    bound: float | None = None
    scope: Stoppable | None = None
    revoked: str | None = None
    last_word: bool = False
    error: InfermuxError | None = None
    first_token_at: float | None = None
    outcome: Outcome | None = None
    span: str = ""
    _released: bool = False

    @property
    def is_released(self) -> bool:
        return self._released

    def release(self, outcome: Outcome, now: float | None = None) -> None:
        """Give the lease back. Synchronous and never raises, so it works in `finally`; only the first call counts.

        Where its provider's actor is idle it is settled at once, otherwise in its turn. `now` is the time, for who has
        just looked.
        """
        if not self._released:
            self._released = True
            self.outcome = outcome
            if self.price is not None and outcome.usage is not None:
                self.cost = cost(self.price, outcome.usage)
            try:
                if self.ref.call("settle", self, outcome, now) is NOT_NOW:
                    self.ref.deliver(Release(self, outcome))
            except ActorDied:
                pass  # it crashed in this: the next incarnation goes on with the gate as it is

    def passed_first_token(self, now: float) -> None:
        """The first token came: for a half-open probe that is the verdict, a long stream need not end first."""
        self.first_token_at = now
        if self.probe:
            self.ref.deliver(ProbePassed(self, now - self.granted_at))

    def heard(self, quotas: Quotas) -> None:
        """The provider's answer told what is left of its own limits."""
        self.ref.deliver(Heard(self, quotas))

    def run_in(self, scope: Stoppable) -> None:
        """The attempt goes on in `scope`, which is cancelled at once when the lease was revoked meanwhile."""
        self.scope = scope
        if self.revoked is not None:
            scope.cancel()

    def revoke(self, why: str, *, last_word: bool = False, error: InfermuxError | None = None) -> None:
        """End the attempt that runs under this lease, at its next wait."""
        self.revoked = why
        self.error = error
        self.last_word = last_word
        if self.scope is not None:
            self.scope.cancel()

    def __repr__(self) -> str:
        marks = f"{' probe' if self.probe else ''}{' released' if self._released else ''}"
        return f"<Lease {self.provider} {self.model}{marks}>"
