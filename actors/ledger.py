"""The ledger: every request that has ended, written down in batches by an actor that no request waits for.

A request's task puts its record into a queue and goes on. What cannot be written is kept and tried again; beyond a
bound the oldest is shed and counted. A row may be sent twice, after a connection that was lost while it committed: it
has a number of its own, by which the tables take it once.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import attrs
import trio

from infermux.database.rows import NumbersTaken, write_entries
from infermux.database.session import Session
from infermux.database.worker import Database
from infermux.errors import DatabaseUnavailable

from .actor import BaseActor, Context
from .beat import BEAT, next_beat
from .journal import Journal
from .kit_errors import ActorDied
from .ledger_rows import entry_of
from .record import Record
from .ref import Ref
from .reply import Reply
from .supervisor import Backoff, Child, Supervisor

log = logging.getLogger("infermux.ledger")

LEDGER = "infermux.ledger"  # no provider can be called so
FLUSH_EVERY = BEAT  # seconds a row waits for company: with the writing itself well below the second that may be lost
COMPANY_FIRST = 0.02  # seconds in which somebody else who writes then may take the rows along
BATCH = 256  # rows at once; with so many waiting it is not waited any longer. The event loop stands still for a
# millisecond or two while they are made, so more would be felt; fewer would cost more transactions
ORIGIN_BITS = 11
MAX_PENDING = 50_000  # rows, of about 1 KiB each
OPENS_AFTER = 1.0  # seconds without a row: the server shall listen before the imports take the processor
BACKOFF = Backoff(base=0.25, max=10.0)
GRACE = 5.0  # seconds for what is left at the end, and ...
GRACE_AWAY = 1.0  # ... where nothing could be written before either

Numbered = tuple[int, Record]


class Shelf(Protocol):
    """Where rows are kept, by several routers perhaps. Both raise DatabaseUnavailable."""

    async def open(self) -> None:
        """See that rows can be kept."""
        ...

    async def keep(self, rows: Sequence[Numbered]) -> int:
        """Keep these rows, those that are there already left as they are; how many of them can never be kept.

        Raises NumbersTaken, and keeps none of them, where other rows have some of the numbers.
        """
        ...


@attrs.frozen
class DatabaseShelf:
    """The tables of a database."""

    database: Database

    async def open(self) -> None:
        await self.database.write(_nothing)

    async def keep(self, rows: Sequence[Numbered]) -> int:
        # The rows are made in the thread too.
        return await self.database.write(lambda session: _written(session, rows))


def _written(session: Session, rows: Sequence[Numbered]) -> int:
    return write_entries(session, [entry_of(seq, record) for seq, record in rows])


def _nothing(session: object) -> None:
    """To have it opened is enough."""


@attrs.frozen(kw_only=True)
class LedgerStatistics:
    """Rows since the start. `refused` are those no database would take; `error`: why nothing is written now."""

    written: int
    pending: int
    shed: int
    refused: int
    error: str | None


@attrs.define(eq=False)
class Ledger:
    """The rows that are still to be written, and what became of the others. It outlives its actor's crashes."""

    shelf: Shelf
    bound: int = MAX_PENDING
    written: int = 0
    shed: int = 0
    refused: int = 0
    error: str | None = None
    came: trio.Event = attrs.field(factory=trio.Event)  # some row waits
    enough: trio.Event = attrs.field(factory=trio.Event)  # a whole batch does, or somebody wants it now
    # Records have no number before they are written for the first time.
    _queue: deque[Record | Numbered] = attrs.field(factory=lambda: deque[Record | Numbered]())
    _writing: int = 0
    _shed_before: int = 0  # this outage
    _last: int = 0  # microseconds since 1970 in the last number
    _origin: int = attrs.field(factory=lambda: secrets.randbits(ORIGIN_BITS))
    patience: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # of the actor, which waits for company
    _lent: trio.Event | None = None  # until it is set, somebody else writes some of them

    @property
    def pending(self) -> int:
        """Rows that are not known to be written."""
        return len(self._queue) + self._writing

    def note(self, record: Record) -> None:
        """Take a record into the queue: a listener of the journal. Never waits."""
        queue = self._queue
        waiting = len(queue)
        if waiting + self._writing >= self.bound:
            self.shed += 1
            if not waiting:
                return
            queue.popleft()
        queue.append(record)
        if not waiting:
            self.came.set()
        elif waiting >= BATCH - 1:
            self.enough.set()

    def statistics(self) -> LedgerStatistics:
        return LedgerStatistics(
            written=self.written, pending=self.pending, shed=self.shed, refused=self.refused, error=self.error
        )

    async def wait(self) -> None:
        """Return when some row waits to be written."""
        if not self._queue:
            self.came, self.enough = trio.Event(), trio.Event()
            await self.came.wait()

    async def open(self) -> None:
        """See that rows can be written, and say so where they cannot. Raises DatabaseUnavailable."""
        try:
            await self.shelf.open()
        except DatabaseUnavailable as error:
            self._fails(error)
            raise
        self._works()

    async def write_out(self) -> None:
        """Write what waits now, in batches. Raises DatabaseUnavailable; what was not written then waits as before."""
        while self._lent is not None:  # what came meanwhile may have been lent before it was our turn
            await self._lent.wait()
        self.enough = trio.Event()
        for _ in range(math.ceil(len(self._queue) / BATCH)):
            taken = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            if taken:
                await self._write(self._numbered(taken))

    async def drain(self, grace: float) -> None:
        """At the end: write what is left within `grace` seconds, whoever is cancelled. The rest is shed."""
        grace = grace if self.error is None else min(grace, GRACE_AWAY)
        with trio.CancelScope(deadline=trio.current_time() + grace, shield=True):
            while self._queue or self._lent is not None:
                try:
                    await self.write_out()
                except DatabaseUnavailable:
                    await trio.sleep(BACKOFF.base)
        if self._queue or self._lent is not None:
            self.shed += self.pending
            why = self.error or "the database does not answer"
            log.error("%d rows could not be written within %g s of the end: %s", self.pending, grace, why)
            self._queue.clear()

    def lend(self) -> Lent | None:
        """What waits, for somebody who writes anyway and has to tell how that `ended`. None: nothing does, or too much.

        Nothing is lent while it is written, or cannot be.
        """
        if not self._queue or len(self._queue) >= BATCH or self._writing or self.error is not None:
            return None
        rows = self._numbered(self._queue)
        self._queue.clear()
        self._writing = len(rows)
        self._lent = trio.Event()
        self.patience.deadline = _last_moment(trio.current_time())  # what comes now can wait for the next beat
        return Lent(self, rows)

    def take_back(self, rows: Sequence[Numbered], refused: int | None) -> None:
        """Of what was lent, so many can never be kept; None: they all are to be written still, as far as is known."""
        self._writing -= len(rows)
        if refused is None:
            self._queue.extendleft(reversed(rows))
            self.came.set()
            self.enough.set()
        else:
            self.written += len(rows) - refused
            self.refused += refused
        if self._lent is not None:
            self._lent.set()
            self._lent = None

    async def _write(self, rows: list[Numbered]) -> None:
        self._writing += len(rows)
        kept = False
        try:
            refused = await self._keep(rows)
            kept = True
        except DatabaseUnavailable as error:
            self._fails(error)
            raise
        finally:
            # Cancelled too: whether they were written is not known, and the next try finds out.
            self._writing -= len(rows)
            if not kept:
                self._queue.extendleft(reversed(rows))
        self.written += len(rows) - refused
        self.refused += refused
        self._works()

    def _fails(self, error: DatabaseUnavailable) -> None:
        if self.error is None:
            log.warning("%s; up to %d rows are kept until it works, requests go on", error.message, self.bound)
            self._shed_before = self.shed
        self.error = error.message

    def _works(self) -> None:
        if self.error is not None:
            lost = self.shed - self._shed_before
            log.warning("rows are written again; %s", f"{lost} were shed" if lost else "none was lost")
            self.error = None

    async def _keep(self, rows: list[Numbered]) -> int:
        """`Shelf.keep`; `rows` then have the numbers under which they were kept, or are to be tried again."""
        while True:
            try:
                return await self.shelf.keep(rows)
            except NumbersTaken as clash:
                # Another router has drawn our origin: with a new one it will not happen again soon. A row whose number
                # is a stranger's was never written, so that it does not come twice by this.
                self._origin = secrets.randbits(ORIGIN_BITS)
                rows[:] = self._numbered([row[1] if row[0] in clash.numbers else row for row in rows])
                log.info("%d rows have new numbers: another router counted as this one did", len(clash.numbers))

    def _numbered(self, taken: Iterable[Record | Numbered]) -> list[Numbered]:
        """Each with its number; what was tried before keeps the one it has.

        Ascending, 63 bits: the microsecond, and 11 bits that tell this router from those beside it, mostly. Of forty
        routers two have drawn the same bits, as likely as not: `NumbersTaken` says where that shows.
        """
        number, origin, rows = max(self._last, time.time_ns() // 1000 - 1), self._origin, list[Numbered]()
        for each in taken:
            if isinstance(each, Record):
                number += 1
                rows.append((number << ORIGIN_BITS | origin, each))
            else:
                rows.append(each)
        self._last = number
        return rows


@attrs.define(eq=False)
class Lent:
    """Rows of a ledger that go with somebody else's transaction: `write` is for its thread, `ended` for its task."""

    ledger: Ledger
    rows: Sequence[Numbered]
    _refused: int | None = None

    def write(self, session: Session) -> None:
        """Raises DatabaseUnavailable. What else keeps them from being written, the ledger finds out by itself."""
        try:
            self._refused = _written(session, self.rows)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.debug("rows could not be taken along", exc_info=True)

    def ended(self, *, kept: bool) -> None:
        """`kept`: the transaction was committed."""
        self.ledger.take_back(self.rows, self._refused if kept else None)


@attrs.frozen
class Flush:
    """Ask: write what waits now. The reply, None, comes when it is written, or is DatabaseUnavailable."""


class LedgerActor(BaseActor[Flush]):
    """Writes the ledger's rows for as long as it lives."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._asked: list[Reply[Any]] = []

    async def started(self, context: Context[Flush]) -> None:
        context.start_soon(self._run)

    def receive(self, message: Flush, reply: Reply[Any] | None) -> None:
        if reply is not None:
            self._asked.append(reply)
        self._ledger.came.set()
        self._ledger.enough.set()

    async def _run(self) -> None:
        ledger, failures = self._ledger, 0
        with trio.move_on_after(OPENS_AFTER):
            await ledger.wait()
        while True:
            asked, self._asked = self._asked, []
            begun = trio.current_time()
            try:
                await (ledger.write_out() if ledger.pending else ledger.open())
            except DatabaseUnavailable as error:
                failures += 1
                for reply in asked:
                    reply.fail(DatabaseUnavailable(error.message))
                await trio.sleep(BACKOFF.delay(failures))
                continue
            failures = 0
            for reply in asked:
                reply.send(None)
            if not self._asked:
                await self._company(begun)

    async def _company(self, begun: float) -> None:
        """Return when there is something to write and enough of it, or it has waited long enough.

        What waits already came after `begun`, while others were written: that is part of its wait.
        """
        ledger = self._ledger
        while True:
            if not ledger.pending:
                await ledger.wait()
                begun = trio.current_time()
            with trio.CancelScope(deadline=_last_moment(begun)) as ledger.patience:
                await ledger.enough.wait()
            if ledger.pending or ledger.enough.is_set():
                return


def _last_moment(came: float) -> float:
    """When a row that came then is written at the latest."""
    return next_beat(came) + COMPANY_FIRST


@attrs.frozen
class Books:
    """A running ledger: `ledger` is told of records, `ref` is its actor."""

    ledger: Ledger
    ref: Ref[Flush]
    database: Database

    def as_json(self) -> dict[str, Any]:
        """For machines: where the rows go, and what became of them."""
        return {"database": str(self.database.place), **attrs.asdict(self.ledger.statistics())}

    async def flush(self, within: float) -> bool:
        """Write what waits now; False where that could not be done within so many seconds."""
        with trio.move_on_after(within):
            try:
                await self.ref.ask(Flush())
                return True
            except (ActorDied, DatabaseUnavailable):
                return False
        return False


@asynccontextmanager
async def open_ledger(supervisor: Supervisor, journal: Journal, database: Database) -> AsyncGenerator[Books]:
    """Write down what `journal` is told. Leaving the block writes what is left, bounded by `GRACE`."""
    ledger = Ledger(DatabaseShelf(database))
    ref = await supervisor.start_child(Child(LEDGER, lambda: LedgerActor(ledger)))
    forget = [journal.listen(ledger.note), journal.listen_to_probes(ledger.note)]
    try:
        yield Books(ledger, ref, database)
    finally:
        for each in forget:
            each()
        with trio.CancelScope(deadline=trio.current_time() + GRACE, shield=True):
            await supervisor.stop_child(LEDGER)
        await ledger.drain(GRACE)
