"""One request's way through its candidates: made by the asker, advanced by the router, carried from actor to actor.

A plan is held by one task at a time (it travels inside messages), so it needs no lock. Ordering is lazy: a tier is put
in order only when the tiers before it are used up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from infermux.errors import ModelNotFound, NoHealthyProviders, RateLimited

from .messages import Reason, Standing, Want

if TYPE_CHECKING:
    from infermux.errors import InfermuxError

    from .catalogue import Candidate, Catalogue, Route
    from .strategy import Choice

AS_IT_TOLD = "as it told"
"""The detail of a refusal for a limit that the provider itself told, not the configuration."""
UNKNOWN_WAIT = 1.0  # seconds a caller is told to wait when nobody can say when a limit frees


class Refusal(msgspec.Struct, frozen=True):
    """Why a provider did not take the request. `until` on trio's clock: when time cures it, inf when it does not."""

    provider: str
    reason: Reason
    until: float = math.inf
    detail: str = ""


class Look(msgspec.Struct, frozen=True):
    """One tier as it was put in order: who could have answered, and `steps`, those who could do so then.

    `unsuited` are the pairs of provider and model that cannot be given the request, and why. Unless `whole`, there are
    many candidates, of which only the first was wanted: the others were not put in order.
    """

    strategy: str
    group: str
    candidates: tuple[Candidate, ...]
    steps: Sequence[Choice]
    unsuited: Mapping[tuple[str, str], str] = {}
    whole: bool = True


class Plan(msgspec.Struct, eq=False):
    """`catalogue` is what `route` was found in. `tried` holds (provider, model) pairs that had an attempt; `silent`
    providers that stayed silent; `refusals` the last one of each provider. `last` is the choice that was asked last;
    `staying` is one that may be asked once more, where what comes next is another model or nobody. `beside` is the
    model of an attempt that goes on: only providers that answer with the same one count then, and nothing is waited
    for. `deadline` is the caller's own, on trio's clock. `looks` are the orders so far, for whoever asks why. `rest` is
    the tier of which `steps` has only the first choices: the others come when they are wanted."""

    want: Want
    route: Route | None = None
    catalogue: Catalogue | None = None
    strategy: str = ""
    group: str = ""
    tiers: Iterator[tuple[Route, tuple[Candidate, ...]]] | None = None
    steps: list[Choice] = []
    position: int = 0
    tried: frozenset[tuple[str, str]] = frozenset()  # nearly always empty, and one for all then
    silent: frozenset[str] = frozenset()
    refusals: dict[str, Refusal] = {}
    parked: bool = False
    last: Choice | None = None
    staying: Choice | None = None
    beside: str | None = None
    held: tuple[Choice, ...] = ()
    insists: bool = False
    deadline: float = math.inf
    looks: list[Look] = []
    rest: tuple[Candidate, ...] | None = None

    def refuse(self, refusal: Refusal, choice: Choice | None = None) -> None:
        """`refusal` is of `choice`, where it was that far already."""
        self.refusals[refusal.provider] = refusal
        if refusal.reason is Reason.SLOW_START and choice is not None:
            self.held = (*self.held, choice)

    def disregards(self, standing: Standing) -> bool:
        """Whether what stands in the way is nothing to this request."""
        return self.insists and standing.reason is Reason.SLOW_START

    def insist(self) -> bool:
        """Go back to those that slow start alone kept away; False where there are none."""
        if not self.held:
            return False
        self.insists = True
        self.steps, self.position, self.held = list(self.held), 0, ()
        return True

    def restart(self) -> None:
        """Forget the order and the refusals (not what was tried): the world has changed."""
        self.route = None
        self.tiers = None
        self.rest = None
        self.steps = []
        self.position = 0
        self.refusals.clear()
        self.looks.clear()
        self.held = ()
        self.insists = False

    @property
    def unsuited(self) -> dict[tuple[str, str], str]:
        """All that could not be given the request, and why."""
        return {pair: why for look in self.looks for pair, why in look.unsuited.items()}

    @property
    def is_starting(self) -> bool:
        """True when some candidate's first probe is still out: it may yet serve what the others failed at."""
        return any(refusal.reason is Reason.STARTING for refusal in self.refusals.values())

    @property
    def said(self) -> str:
        """The refusals, in words."""
        refusals = self.refusals.values()
        return "; ".join(f"{r.provider}: {r.reason.value}{f' ({r.detail})' if r.detail else ''}" for r in refusals)

    def verdict(self, now: float) -> InfermuxError:
        """The error when nobody took the request, with the reason per provider.

        429 when only limits stand in the way, 404 when all said lately not to have the model, else 503.
        """
        refusals, said = list(self.refusals.values()), self.said
        until = min((r.until for r in refusals), default=math.inf)
        model = self.want.model
        alone = f"; {self.want.home.provider} alone keeps the response it goes on from" if self.want.home else ""
        if refusals and all(refusal.reason.is_limit for refusal in refusals):
            wait = max(until - now, 0.0) if math.isfinite(until) else UNKNOWN_WAIT
            return RateLimited(
                f"{_whose_limits(refusals)} of model {model!r} are used up ({said}){alone}; "
                f"try again in {max(math.ceil(wait), 1)} s",
                retry_after=wait,
            )
        if refusals and all(refusal.reason is Reason.MODEL_SET_ASIDE for refusal in refusals):
            return ModelNotFound(
                f"every provider of model {model!r} said lately not to have it ({said})", param="model"
            )
        cure = until - now if math.isfinite(until) else None
        return NoHealthyProviders(
            f"no provider of model {model!r} can take the request now ({said or 'none left to try'}){alone}",
            retry_after=cure,
        )


def _whose_limits(refusals: list[Refusal]) -> str:
    """A cool-down, and what a provider told, come from its own side; other limits are those of the configuration."""
    ours = [refusal.reason is not Reason.COOLING_DOWN and refusal.detail != AS_IT_TOLD for refusal in refusals]
    if all(ours):
        return "the limits configured for the providers"
    return (
        "the limits configured for the providers, or set by them," if any(ours) else "the limits set by the providers"
    )
