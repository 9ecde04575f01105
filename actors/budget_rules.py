"""Whose budgets: which of them a request is under, and what limits they set to a purse."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from infermux.config.settings import Budget

from .identity import Identity
from .purse import Claim, PurseKey, nano
from .purses import CLAIMS_KEPT

ANYBODY = "*"


@attrs.frozen
class Rules:
    """Which budgets a request is under. `*` is everybody of its scope whom no budget of that scope names."""

    budgets: tuple[Budget, ...]
    named: frozenset[tuple[str, str]] = attrs.field(init=False)
    _kept: dict[tuple[str, str, str], tuple[Budget | None, tuple[Claim, ...]]] = attrs.field(
        factory=dict[tuple[str, str, str], "tuple[Budget | None, tuple[Claim, ...]]"], repr=False, eq=False
    )

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "named", frozenset(scope_of(budget) for budget in self.budgets))

    def claims(self, who: Identity, group: str, own: Budget | None = None) -> Sequence[Claim]:
        """For a request of `who` in a route group ("": none). `own` is the budget that its key came with.

        A tuple is the same one for the next request that is alike.
        """
        if who.tags:
            return self._claims(who, group, own)
        key = (who.caller, who.key, group)
        kept = self._kept.get(key)
        if kept is None or kept[0] is not own:
            if len(self._kept) >= CLAIMS_KEPT:
                self._kept.clear()
            kept = self._kept[key] = (own, tuple(self._claims(who, group, own)))
        return kept[1]

    def lowest(self, key: PurseKey) -> int | None:
        """The lowest hard limit on a purse in nano-dollars, if there is one."""
        limits = [nano(budget.limit_usd) for budget in self.budgets if budget.hard and self._is_about(budget, key)]
        return min(limits, default=None)

    def _is_about(self, budget: Budget, key: PurseKey) -> bool:
        scope, name = scope_of(budget)
        if (scope, budget.period) != (key.scope, key.period):
            return False
        tag, _, value = name.partition("=")
        anybody = name == ANYBODY or (scope == "tag" and value == ANYBODY and key.name.startswith(f"{tag}="))
        return name == key.name or (anybody and (scope, key.name) not in self.named)

    def _claims(self, who: Identity, group: str, own: Budget | None) -> list[Claim]:
        claims = [claim for budget in self.budgets if (claim := self._claim(budget, who, group)) is not None]
        if own is not None:
            claims.append(Claim.of(own, "key", who.key))
        return claims

    def _claim(self, budget: Budget, who: Identity, group: str) -> Claim | None:
        scope, name = scope_of(budget)
        theirs: str | None = ""
        anybody = name == ANYBODY
        match scope:
            case "caller":
                theirs = who.caller
            case "key":
                theirs = who.key or None
            case "group":
                theirs = group or None
            case "tag":
                tag, _, value = name.partition("=")
                said = who.tags.get(tag)
                theirs = None if said is None else f"{tag}={said}"
                anybody = value == ANYBODY
            case _:
                return Claim.of(budget, "all", "")
        if theirs is None or (anybody and (scope, theirs) in self.named) or not (anybody or theirs == name):
            return None
        return Claim.of(budget, scope, theirs)


def scope_of(budget: Budget) -> tuple[str, str]:
    """What a budget is about: caller, key, tag or group with the name, or ("all", "")."""
    for scope in ("caller", "key", "tag", "group"):
        name: str | None = getattr(budget, scope)
        if name is not None:
            return scope, name
    return "all", ""
