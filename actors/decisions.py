"""What the router decided of the last requests, kept as it was decided: put into words only when somebody asks."""

from __future__ import annotations

from collections import deque
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
    """The last `kept` of them. Callers choose ids, so several may have the same one."""

    kept: int = KEPT
    _last: deque[Decision] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._last = deque(maxlen=self.kept)

    def __len__(self) -> int:
        return len(self._last)

    def note(self, record: Record, run: Run | None) -> None:
        """A request has ended; `run` is None where it never was one."""
        self._last.append(decided(record, run))

    def of(self, request_id: str) -> Decision | None:
        """The newest of that id."""
        return next((each for each in reversed(self._last) if each.record.id == request_id), None)

    def latest(self, count: int) -> Iterator[Decision]:
        """The newest first."""
        return islice(reversed(self._last), count)


def decided(record: Record, run: Run | None) -> Decision:
    """What is known of a request, also of one that still runs. A name longer than a record shows is not kept."""
    if run is None or len(run.want.model) > len(record.requested):
        return Decision(record)
    return Decision(record, tuple(run.plan.looks), run.plan.refusals, run.passed_over)
