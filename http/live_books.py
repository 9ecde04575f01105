"""The ledger and the budgets among the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from infermux.actors.ledger import Ledger
from infermux.actors.treasury import Treasury
from infermux.config.settings import Budget

from .live_values import Value
from .metric_text import COUNTER

EVERYONE: Final = "*"


def ledger_values(ledger: Ledger) -> Iterator[Value]:
    """Rows since the start, and those that are still to be written."""
    yield Value("infermux_ledger_written", ledger.written, kind=COUNTER, help="Rows that were written.")
    yield Value(
        "infermux_ledger_shed", ledger.shed, kind=COUNTER, help="Rows lost: the database was away for too long."
    )
    yield Value("infermux_ledger_refused", ledger.refused, kind=COUNTER, help="Rows that no database would take.")
    yield Value("infermux_ledger_pending", ledger.pending, help="Rows that are still to be written.")
    yield Value("infermux_ledger_available", ledger.error is None, help="1 while rows can be written.")


def budget_values(treasury: Treasury) -> Iterator[Value]:
    """Of every budget that names whom it is for; of one for everyone, the row of who has spent most."""
    named = {name for budget in treasury.budgets for name in _names(budget)}
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in treasury.statement():
        name = row["name"] if row["name"] in named or not row["name"] else EVERYONE
        rows.setdefault((row["scope"], name, row["period"]), row)
    for (scope, name, period), row in rows.items():
        labels = {"scope": scope, "name": name, "period": period}
        yield Value("infermux_budget_limit_dollars", row["limit_usd"], labels, help="What may be spent.")
        yield Value("infermux_budget_spent_dollars", row["spent_usd"], labels, help="What has been spent.")
        yield Value(
            "infermux_budget_reserved_dollars",
            row["reserved_usd"],
            labels,
            help="What is promised to running requests.",
        )


def _names(budget: Budget) -> Iterable[str]:
    return [name for name in (budget.caller, budget.key, budget.tag, budget.group) if name is not None]
