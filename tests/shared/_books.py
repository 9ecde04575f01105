"""What the ledger, the budgets' table, Redis and the nodes say was spent of the budget of a row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import attrs

from infermux.actors.purse import bounds
from infermux.database.place import Place
from infermux.database.store import Store
from infermux.errors import DatabaseUnavailable
from infermux.shared.scripts import VERSION
from tests.shared._board import Money, Says
from tests.shared._node import PERIOD, payer
from tests.shared._nodes import Nodes

_LEDGER: Final = "SELECT sum(cost), count(*) FROM requests WHERE caller = ?"
_KEPT: Final = "SELECT amount FROM budgets_spent WHERE scope = 'caller' AND name = ? AND period = ?"


@attrs.frozen(kw_only=True)
class Said:
    """What was spent, in micro-dollars. `true` is what nodes have noted on the board themselves."""

    true: int
    ledger: int
    kept: int
    redis: int
    granted: int  # of Redis: what is spent, and what nodes hold
    shown: tuple[int, ...]  # by the nodes that run

    @property
    def farthest(self) -> int:
        """From what was truly spent."""
        return max(abs(self.true - each) for each in (self.ledger, self.kept, self.redis, *self.shown))

    def agree(self, within: int) -> bool:
        """Redis and the nodes exactly, the others within so much of what was truly spent."""
        return self.farthest <= within and {*self.shown} == {self.redis}


@attrs.define(eq=False)
class Books:
    url: str
    running: Nodes

    def said(self) -> Said | None:
        """None: one of them cannot tell now."""
        row, running = self.running.board.says[Says.ROW], self.running
        store = Store(Place.of(self.url))
        try:
            found: list[tuple[Any, ...]] = store.read(lambda session: session.rows(_LEDGER, (payer(row),)))
            kept: list[tuple[Any, ...]] = store.read(lambda session: session.rows(_KEPT, (payer(row), PERIOD)))
        except DatabaseUnavailable:
            return None
        finally:
            store.close()
        start = int(bounds(PERIOD, time.time())[0])
        key = f"test:{VERSION}:purse:caller:{payer(row)}:{PERIOD}:{start}"
        told = told_by(running.redis.ask("HGETALL", key).split("\n"))
        if told is None or not kept:
            return None
        return Said(
            true=sum(running.money(Money.SPENT)),
            ledger=round((found[0][0] or 0.0) * 1e6),
            kept=kept[0][0] // 1000,
            redis=told[0],
            granted=told[1],
            shown=tuple(running.board.money(place, row)[Money.SHOWN] for place in running.processes),
        )


def told_by(lines: Sequence[str]) -> tuple[int, int] | None:
    """What is spent of a purse, and what nodes have of it with that, as it is kept; None: it is not there."""
    fields = dict(zip(lines[::2], lines[1::2], strict=True)) if len(lines) > 1 else {}
    nodes = [value.split() for name, value in fields.items() if name.startswith("n:")]
    lent = sum(int(value) for name, value in fields.items() if name.startswith("s:"))
    return (lent + sum(int(each[2]) for each in nodes), lent + sum(int(each[0]) for each in nodes)) if nodes else None
