"""Where ended requests are told: the ledger, metrics, the log and whoever else listens. Some want health probes too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from .record import Record

log = logging.getLogger("infermux.requests")

Listener = Callable[[Record], None]

FIRST_PROBES: Final = 64


@attrs.define(eq=False)
class Journal:
    """Tells every listener of every record, in the task of the request, at once.

    A listener must not wait. One that raises is logged, and the others are told all the same.
    """

    _listeners: tuple[Listener, ...] = ()
    _probe_listeners: tuple[Listener, ...] = ()
    _first_probes: list[Record] = attrs.field(factory=list[Record])

    def __bool__(self) -> bool:
        """Whether anybody listens: without, records need not be made."""
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; what is returned takes it away again."""
        self._listeners = (*self._listeners, listener)

        def forget() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return forget

    def listen_to_probes(self, listener: Listener) -> Callable[[], None]:
        """The same for the records of health probes, which are told to nobody else.

        Providers are probed before anybody can listen: who begins to is told of the first ones too.
        """
        self._probe_listeners = (*self._probe_listeners, listener)
        for record in self._first_probes:
            _tell((listener,), record)

        def forget() -> None:
            self._probe_listeners = tuple(each for each in self._probe_listeners if each is not listener)

        return forget

    def tell(self, record: Record) -> None:
        _tell(self._listeners, record)

    def tell_probe(self, record: Record) -> None:
        if len(self._first_probes) < FIRST_PROBES:
            self._first_probes.append(record)
        _tell(self._probe_listeners, record)


def _tell(listeners: Iterable[Listener], record: Record) -> None:
    for listener in listeners:
        try:
            listener(record)
        except Exception:
            log.exception("a listener of ended requests failed")
