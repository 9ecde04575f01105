"""What must hold of `budgets` beyond the kinds of their values."""

from __future__ import annotations

from .reading import Reading
from .settings import Budget, Config

WHOSE = ("caller", "key", "tag", "group")


def check_budgets(config: Config, reading: Reading) -> None:
    """Each is about one thing, about a group there is, and is there once."""
    groups = [group.name for group in config.routing.groups]
    seen: dict[Budget, int] = {}
    for index, budget in enumerate(config.budgets):
        spot = ("budgets", index)
        if not all(reading.fine((*spot, key)) for key in (*WHOSE, "period", "hard")):
            continue  # what depends on a key that is already refused is not judged
        given = [kind for kind in WHOSE if getattr(budget, kind) is not None]
        if len(given) > 1:
            reading.problem(spot, f"has {' and '.join(given)}; a budget is about one of {', '.join(WHOSE)}")
        if budget.group is not None and budget.group != "*" and budget.group not in groups and _judged(reading):
            known = reading.meant(budget.group, groups) if groups else "; there are none"
            reading.problem((*spot, "group"), f"no group has the name {reading.shown(budget.group)}{known}")
        if budget.unpriced == "refuse" and not budget.hard:
            reading.warn((*spot, "unpriced"), "has no effect: a soft budget refuses nothing")
        first = seen.setdefault(_limit(budget), index)
        if first != index:
            reading.problem(
                spot, f"is the same as budgets[{first}] but for its limit; one may be hard, another one soft"
            )


def _judged(reading: Reading) -> bool:
    return reading.fine(("routing", "groups"))


def _limit(budget: Budget) -> Budget:
    """What makes it another budget: everything but its amount."""
    return Budget(
        caller=budget.caller,
        key=budget.key,
        tag=budget.tag,
        group=budget.group,
        period=budget.period,
        hard=budget.hard,
    )
