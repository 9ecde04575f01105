"""A database for trio tasks: what blocks runs in a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from .place import Place
from .store import Store

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from .session import Session

T = TypeVar("T")


@attrs.define(eq=False)
class Database:
    """The database of one router. One thread at a time writes, another reads: a long report holds up no row.

    Cancellation is heard at once; what was asked for then goes on in its thread, and whoever comes next waits for it.
    """

    store: Store
    _writer: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    _reader: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))

    @classmethod
    def at(cls, place: Place) -> Database:
        """The database at `place`, opened on first use."""
        database = cls(Store(place))
        if place.in_memory:  # it is one connection, which is not for two threads at once
            database._reader = database._writer
        return database

    @property
    def place(self) -> Place:
        return self.store.place

    async def write(self, work: Callable[[Session], T]) -> T:
        """`Store.write` in the writing thread: `work` must not touch what belongs to tasks."""
        return await self.turn(lambda store: store.write(work))

    async def turn(self, work: Callable[[Store], T]) -> T:
        """Several transactions, one after the other, in the writing thread, which is woken up once for all of them."""
        return await self._used(work, self._writer)

    async def read(self, work: Callable[[Session], T]) -> T:
        """`Store.read` in the reading thread."""
        return await self._used(lambda store: store.read(work), self._reader)

    async def ask(self, work: Callable[[Connection], T]) -> T:
        """`Store.ask` in the reading thread."""
        return await self._used(lambda store: store.ask(work), self._reader)

    async def aclose(self) -> None:
        """Close the connections, once no thread writes any more. A thread that begins later opens no other.

        Cancelled, as where the writing thread hangs, it is the end all the same: that thread closes them when it is
        through with what it was doing.
        """
        try:
            await trio.to_thread.run_sync(
                partial(self.store.close, for_good=True), abandon_on_cancel=True, limiter=self._writer
            )
        finally:
            self.store.end()

    async def _used(self, work: Callable[[Store], T], limiter: trio.CapacityLimiter) -> T:
        return await trio.to_thread.run_sync(partial(self.store.used, work), abandon_on_cancel=True, limiter=limiter)
