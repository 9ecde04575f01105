"""A ledger's shelf in memory, and a ledger that writes to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from infermux.actors.kit import Child, supervise
from infermux.actors.ledger import OPENS_AFTER, Flush, Ledger, LedgerActor, Lent, Numbered
from infermux.actors.record import Record
from infermux.actors.ref import Ref
from infermux.errors import DatabaseUnavailable


@attrs.define(eq=False)
class MemoryShelf:
    """Rows by their number, as the tables keep them. `away`: it says so; `takes` seconds a batch."""

    rows: dict[int, str] = attrs.field(factory=dict[int, str])
    batches: list[int] = attrs.field(factory=list[int])
    away: bool = False
    takes: float = 0.0
    opened: int = 0
    loses_the_answer: bool = False

    async def open(self) -> None:
        self.opened += 1
        await self._answer(away=self.away)

    async def keep(self, rows: Sequence[Numbered]) -> int:
        self.batches.append(len(rows))
        away = self.away
        if not away:
            self.rows.update((seq, record.id) for seq, record in rows)
        await self._answer(away=away)
        return 0

    def take(self, lent: Lent) -> None:
        """Keep what goes with somebody else's transaction."""
        self.rows.update((seq, record.id) for seq, record in lent.rows)
        lent._refused = 0  # pyright: ignore[reportPrivateUsage]

    async def _answer(self, *, away: bool) -> None:
        await trio.sleep(self.takes)
        if away or self.away or self.loses_the_answer:
            raise DatabaseUnavailable("the shelf is away")

    @property
    def ids(self) -> list[str]:
        return list(self.rows.values())


def record(name: object) -> Record:
    return Record(id=str(name), at=0.0)


@asynccontextmanager
async def running(shelf: MemoryShelf, *, bound: int = 1000) -> AsyncGenerator[tuple[Ledger, Ref[Flush]]]:
    """A ledger and its actor, past its first look at the shelf."""
    ledger = Ledger(shelf, bound=bound)
    async with supervise(Child("ledger", lambda: LedgerActor(ledger)), intensity=None) as supervisor:
        await trio.sleep(OPENS_AFTER)
        await trio.testing.wait_all_tasks_blocked()
        yield ledger, supervisor.ref("ledger")
