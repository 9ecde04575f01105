"""Whoever asked, as a request sees it: somebody who may leave, and who may wait only for so long."""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from infermux.errors import DeadlineExceeded
from infermux.providers.transport import Stoppable


class Caller(Protocol):
    """Whoever asked. `watch(what)`: cancel it when the caller leaves, at once if it has."""

    @property
    def left(self) -> bool: ...
    def watch(self, what: Stoppable | None) -> None: ...


class Anyone:
    """A caller that never leaves: for programs that embed the router and cancel by trio's own means."""

    left = False

    def watch(self, what: Stoppable | None) -> None:
        """Nothing to watch."""


class Deadline(msgspec.Struct, eq=False):
    """When a request must have its first token: `at` on trio's clock, counted from `started_at`.

    `own`: the caller's, which bounds all of it; otherwise it begins with the first lease.
    """

    started_at: float
    at: float = math.inf
    own: bool = False

    @classmethod
    def of(cls, started_at: float, timeout: float | None) -> Deadline:
        """The caller's own, `timeout` seconds after it came; None: it has none."""
        return cls(started_at) if timeout is None else cls(started_at, started_at + timeout, own=True)

    def begin(self, now: float, seconds: float) -> None:
        """It counts from now on, unless it is the caller's own."""
        if not self.own:
            self.started_at, self.at = now, now + seconds

    def error(self, provider: str | None) -> DeadlineExceeded:
        seconds = self.at - self.started_at
        whose = "X-Infermux-Timeout" if self.own else "twice the longest timeout of its providers"
        where = f" (last waited for provider {provider})" if provider else ""
        return DeadlineExceeded(f"the request did not end within {seconds:.3g} s, set by {whose}{where}")
