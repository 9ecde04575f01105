"""What the probes of one provider have shown, and when the next one is due.

A probe that ends well makes it healthy, one that fails unhealthy, one refused for our credentials a configuration
error. With checks disabled it stays unchecked, whatever happens.

Live traffic speaks too. A success stands for a probe: it postpones the next one, and makes an unknown or unhealthy
provider healthy (it can only come from a request sent before the verdict, but it is the newer fact). It does not clear
a configuration error: a stream opened with a key that was revoked since ends well and proves nothing. A refusal of our
credentials (401, 402, 403) is a configuration error at once; only a probe that succeeds takes it back.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from infermux.errors import FailureKind

from .messages import Health
from .transition import KEPT, Transition

ERROR_LENGTH = 300

# Members of an enum are looked up in Python code, and these at every request.
_HEALTHY: Final = Health.HEALTHY
_UNKNOWN: Final = Health.UNKNOWN
_UNCHECKED: Final = Health.UNCHECKED
_CONFIG_ERROR: Final = Health.CONFIG_ERROR


class HealthState:
    """One provider's health. Times are seconds on one monotonic clock.

    `passes`: requests may go out, as far as health is concerned. Only changed here, as `health` is. `own` is what was
    found out here last, whatever another node said since.
    """

    __slots__ = ("_disabled", "_last", "health", "last_error", "own", "passes", "transitions")

    def __init__(self, *, disabled: bool = False) -> None:
        self._disabled = disabled
        self._last: float | None = None
        self.health = self.own = _UNCHECKED if disabled else _UNKNOWN
        self.passes = disabled
        self.last_error: str | None = None
        self.transitions: deque[Transition[Health]] = deque(maxlen=KEPT)

    def probe_succeeded(self, now: float) -> None:
        self._last = now
        self.last_error = None
        self._become(Health.HEALTHY, now, "probe succeeded")

    def probe_failed(self, now: float, kind: FailureKind, error: str) -> None:
        """A probe failed; `error` says how (its first 300 characters are kept, so it must carry no secret)."""
        self._last = now
        self._note_error(error)
        target = Health.CONFIG_ERROR if kind is FailureKind.CREDENTIALS else Health.UNHEALTHY
        self._become(target, now, f"probe failed: {kind.value}")

    def note_success(self, now: float) -> None:
        """A live request succeeded."""
        health = self.health
        if health is _CONFIG_ERROR:
            return
        self._last = now
        if health is not _HEALTHY and health is not _UNCHECKED:
            self.last_error = None
            self._become(Health.HEALTHY, now, "live request succeeded")

    def note_credentials_refused(self, now: float, error: str) -> None:
        """A live request was refused for our credentials."""
        self._note_error(error)
        self._become(Health.CONFIG_ERROR, now, "credentials refused")

    def hear_bad(self, target: Health, now: float, error: str) -> None:
        """Another node's probe failed. Ours is due: it has the last word here."""
        own = self.own
        self._note_error(error)
        self._become(target, now, "another node's probe failed")
        self.own = own

    def seen_since(self, at: float) -> bool:
        """Whether there was a sign here after that time: a probe, or a success."""
        return self._last is not None and self._last > at

    def next_due(self, interval: float, jitter: float) -> float | None:
        """When the next probe is due: `interval` seconds after the last sign, give or take its `jitter` (-0.1..0.1).

        0 before the first probe, None when checks are disabled.
        """
        if self._disabled:
            return None
        return 0.0 if self._last is None else self._last + interval * (1.0 + jitter)

    def due(self, now: float, interval: float, jitter: float) -> bool:
        """Is a probe due now? See `next_due`."""
        at = self.next_due(interval, jitter)
        return at is not None and now >= at

    def reset(self, now: float) -> None:
        """Forget what was seen: unknown (or unchecked) again, and a probe is due."""
        self._last = None
        self.last_error = None
        self._become(Health.UNKNOWN, now, "reset")

    def __repr__(self) -> str:
        return f"<HealthState {self.health.value} last={self._last}>"

    def _note_error(self, error: str) -> None:
        self.last_error = error[:ERROR_LENGTH]

    def _become(self, target: Health, now: float, why: str) -> None:
        if self._disabled:
            return
        self.own = target
        if target is self.health:
            return
        self.transitions.append(Transition(now, self.health, target, why))
        self.health = target
        self.passes = target is _HEALTHY
