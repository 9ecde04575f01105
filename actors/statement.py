"""What budgets have spent, promised and left: for those who look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from infermux.config.settings import Budget
from infermux.database.budgets import NANO

from .budget_rules import ANYBODY, Rules, scope_of
from .purse import Purse, PurseKey, nano
from .purses import Purses

SHOWN: Final = 1000  # purses of a budget for everybody


def statement(rules: Rules, purses: Purses, at: float) -> list[dict[str, Any]]:
    """Every budget with its purse; one for everybody has a row per name, the largest first, 1000 at most."""
    return [row_of(budget, purse) for budget in rules.budgets for purse in _purses(budget, rules, purses, at)]


def row_of(budget: Budget, purse: Purse) -> dict[str, Any]:
    """Amounts in US dollars; `since` and `until` in seconds since 1970."""
    limit = nano(budget.limit_usd)
    return {
        "budget": str(purse.key),
        "scope": purse.key.scope,
        "name": purse.key.name,
        "period": budget.period,
        "hard": budget.hard,
        "limit_usd": budget.limit_usd,
        "spent_usd": purse.spent / NANO,
        "reserved_usd": purse.promised / NANO,
        "left_usd": max(0, purse.left(limit) + purse.elsewhere) / NANO,
        "exceeded": purse.spent >= limit,
        "unpriced_answers": purse.unpriced,
        "since": purse.start,
        "until": purse.end,
    }


def _purses(budget: Budget, rules: Rules, purses: Purses, at: float) -> Iterable[Purse]:
    scope, name = scope_of(budget)
    if name != ANYBODY and not (scope == "tag" and name.endswith(f"={ANYBODY}")):
        return [purses.purse(PurseKey(scope, name, budget.period), at)]
    tag = name.removesuffix(ANYBODY)
    found = [
        purse
        for key, purse in purses.current.items()
        if key.scope == scope
        and key.period == budget.period
        and at < purse.end
        and key.name.startswith(tag)
        and (scope, key.name) not in rules.named
    ]
    return sorted(found, key=lambda purse: -purse.spent)[:SHOWN]
