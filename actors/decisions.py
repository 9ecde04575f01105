"""What the router decided of the last requests, kept as it was decided: put into words only when somebody asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import attrs
import msgspec

from .record import Record

if TYPE_CHECKING:
    from infermux.errors import NotCarried

    from .dispatch import Run
    from .plan import Look, Refusal

KEPT = 1000


class Decision(msgspec.Struct, frozen=True):
    """One request: what became of it, the orders it was given, and the last refusal of each provider.

    `passed_over` has the pairs of provider and model that could not be given what was asked.
    """

    record: Record
    looks: tuple[Look, ...] = ()
    refusals: Mapping[str, Refusal] = {}
    passed_over: Mapping[tuple[str, str], NotCarried] = {}


@attrs.define(eq=False)
class Decisions:
    """The last `kept` of them by request id. An id that comes again takes the place of the one before."""

    kept: int = KEPT
    _by_id: OrderedDict[str, Decision] = attrs.field(factory=OrderedDict[str, Decision])

    def __len__(self) -> int:
        return len(self._by_id)

    def note(self, record: Record, run: Run | None) -> None:
        """A request has ended; `run` is None where it never was one."""
        by_id = self._by_id
        by_id.pop(record.id, None)
        by_id[record.id] = decided(record, run)
        if len(by_id) > self.kept:
            by_id.popitem(last=False)

    def of(self, request_id: str) -> Decision | None:
        return self._by_id.get(request_id)

    def latest(self, count: int) -> Iterator[Decision]:
        """The newest first."""
        return islice(reversed(self._by_id.values()), count)


def decided(record: Record, run: Run | None) -> Decision:
    """What is known of a request, also of one that still runs. A name longer than a record shows is not kept."""
    if run is None or len(run.want.model) > len(record.requested):
        return Decision(record)
    return Decision(record, tuple(run.plan.looks), run.plan.refusals, run.passed_over)
