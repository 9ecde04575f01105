"""Where ended requests are told: the ledger, metrics, the log, budgets and whoever else listens."""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs

from .record import Record

log = logging.getLogger("infermux.requests")

Listener = Callable[[Record], None]


@attrs.define(eq=False)
class Journal:
    """Tells every listener of every record, in the task of the request, at once.

    A listener must not wait. One that raises is logged, and the others are told all the same.
    """

    _listeners: tuple[Listener, ...] = ()

    def __bool__(self) -> bool:
        """Whether anybody listens: without, records need not be made."""
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; what is returned takes it away again."""
        self._listeners = (*self._listeners, listener)

        def forget() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return forget

    def tell(self, record: Record) -> None:
        for listener in self._listeners:
            try:
                listener(record)
            except Exception:
                log.exception("a listener of ended requests failed")
