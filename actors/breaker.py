"""The circuit breaker of one provider.

closed    -- trip: error rate, consecutive failures or p95 latency --> open
open      -- `recovery_window` has passed                          --> half-open
half-open -- its one probe succeeded                               --> closed, with an empty window
half-open -- its one probe failed                                  --> open, for another `recovery_window`
any       -- reset by the operator                                 --> closed, with an empty window

Results that arrive while the circuit is not closed and are not the probe's belong to requests sent before it opened;
they say nothing new and change nothing. With the `epoch` of their admission, such results are recognised also when
they arrive after the circuit has closed again: a hundred requests that hung before the outage and time out after it
must not open a recovered circuit.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Final

import msgspec

from infermux.config.settings import CircuitBreaker

from .messages import Circuit
from .transition import KEPT, Transition
from .window import Window

# Members of an enum are looked up in Python code, and these at every request.
_CLOSED: Final = Circuit.CLOSED
_OPEN: Final = Circuit.OPEN
_HALF_OPEN: Final = Circuit.HALF_OPEN


class Event(enum.Enum):
    """What moves a circuit."""

    TRIP = enum.auto()
    RECOVERY_PASSED = enum.auto()
    PROBE_SUCCEEDED = enum.auto()
    PROBE_FAILED = enum.auto()
    RESET = enum.auto()


TRANSITIONS: dict[tuple[Circuit, Event], Circuit] = {
    (Circuit.CLOSED, Event.TRIP): Circuit.OPEN,
    (Circuit.OPEN, Event.RECOVERY_PASSED): Circuit.HALF_OPEN,
    (Circuit.HALF_OPEN, Event.PROBE_SUCCEEDED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Event.PROBE_FAILED): Circuit.OPEN,
    (Circuit.CLOSED, Event.RESET): Circuit.CLOSED,
    (Circuit.OPEN, Event.RESET): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Event.RESET): Circuit.CLOSED,
}


class Admission(msgspec.Struct, frozen=True):
    """The breaker's answer to one request.

    `probe`: it is the half-open probe, and its end must come back with `probe=True` or as `release_probe`.
    `blocked_until`: 0 when admitted, the time that cures an open circuit, inf while another request probes.
    """

    admitted: bool
    probe: bool = False
    blocked_until: float = 0.0
    epoch: int = 0

    def __bool__(self) -> bool:
        return self.admitted


class Breaker:
    """One circuit. Times are seconds on one monotonic clock. Every admission comes back exactly once.

    What counts as a failure is the caller's to decide; what is neither (429, 4xx, the caller leaving) is not recorded,
    but a probe that ends so must be given back with `release_probe`. `is_closed` is true while every request goes
    through, and only the breaker's to change; while it is not, `blocked_until` has more to say. `verdicts` counts what
    was found out here; what another node said is none.
    """

    __slots__ = (
        "_consecutive",
        "_epoch",
        "_open_until",
        "_pass",
        "_probing",
        "_settings",
        "_state",
        "_window",
        "is_closed",
        "transitions",
        "verdicts",
    )

    def __init__(self, settings: CircuitBreaker) -> None:
        self._settings = settings
        self._window = Window(settings.window_seconds)
        self._state = Circuit.CLOSED
        self.is_closed = True
        self._open_until = 0.0
        self._probing = False
        self._consecutive = 0
        self._epoch = 0
        self._pass = Admission(True)
        self.transitions: deque[Transition[Circuit]] = deque(maxlen=KEPT)
        self.verdicts = 0

    @property
    def window(self) -> Window:
        """The outcomes since the circuit last closed, for display. Not to be written to."""
        return self._window

    @property
    def consecutive_failures(self) -> int:
        return self._consecutive

    @property
    def probing(self) -> bool:
        """True while the half-open probe is in flight."""
        return self._probing

    def state(self, now: float) -> Circuit:
        if self._state is _OPEN and now >= self._open_until:
            # Dated when the window passed, not when somebody looked.
            self._move(self._open_until, Event.RECOVERY_PASSED, "recovery window passed")
        return self._state

    def blocked_until(self, now: float) -> float:
        """0: a request would be admitted now; inf: not before the probe ends; else the time it would be."""
        state = self.state(now)
        if state is _CLOSED:
            return 0.0
        if state is _OPEN:
            return self._open_until
        return math.inf if self._probing else 0.0

    def admit(self, now: float) -> Admission:
        """May a request go out now? In half-open the first that asks becomes the probe, the others are refused."""
        if self._state is _CLOSED:
            return self._pass
        until = self.blocked_until(now)
        if until:
            return Admission(False, False, until, self._epoch)
        self._probing = True
        return Admission(True, True, 0.0, self._epoch)

    def record_success(self, now: float, latency: float, probe: bool = False, *, epoch: int | None = None) -> None:
        """A request succeeded after `latency` seconds. A streaming probe's verdict may be given at its first token."""
        if epoch is not None and epoch != self._epoch:
            return
        state = _CLOSED if self.is_closed else self.state(now)
        if state is _HALF_OPEN and probe and self._probing:
            self._move(now, Event.PROBE_SUCCEEDED, "probe succeeded")
        elif state is _CLOSED:
            self._consecutive = 0
            window = self._window
            window.record(now, failed=False, latency=latency)
            if window.has_failures or self._settings.latency_p95_ms is not None:
                self._trip_if_due(now)

    def record_failure(self, now: float, probe: bool = False, *, epoch: int | None = None) -> None:
        """A request failed in a way that speaks against the provider."""
        if self._is_stale(epoch):
            return
        state = self.state(now)
        if state is _HALF_OPEN and probe and self._probing:
            self._move(now, Event.PROBE_FAILED, "probe failed")
        elif state is _CLOSED:
            self._consecutive += 1
            self._window.record(now, failed=True)
            self._trip_if_due(now)

    def release_probe(self, now: float, *, epoch: int | None = None) -> None:
        """The probe ended without a verdict: the next request may probe. Harmless when no probe is out."""
        if not self._is_stale(epoch) and self.state(now) is _HALF_OPEN:
            self._probing = False

    def hear_open(self, now: float, until: float, why: str) -> bool:
        """Another node's circuit is open: so is this one until then, and True, unless its own probe is out."""
        state = self.state(now)
        if state is _OPEN:
            self._open_until = max(self._open_until, until)
        elif self._probing:
            return False
        else:
            event = Event.TRIP if state is _CLOSED else Event.PROBE_FAILED
            self._move(now, event, why, heard=True)
            self._open_until = until
        return True

    def hear_closed(self, now: float, why: str) -> bool:
        """Another node's probe succeeded. Returns whether this closed the circuit."""
        state = self.state(now)
        if state is _CLOSED:
            return False
        if state is _OPEN:
            self._move(now, Event.RECOVERY_PASSED, why)
        self._move(now, Event.PROBE_SUCCEEDED, why, heard=True)
        return True

    def adopt(self, settings: CircuitBreaker) -> None:
        """Judge by other settings from now on. The state stays; a window of another length begins empty."""
        if settings.window_seconds != self._settings.window_seconds:
            self._window = Window(settings.window_seconds)
        self._settings = settings

    def reset(self, now: float) -> None:
        """Close the circuit and forget the past, requests in flight included (where results carry their epoch)."""
        self.state(now)
        self._epoch += 1
        self._move(now, Event.RESET, "reset")

    def __repr__(self) -> str:
        return f"<Breaker {self._state.value} probing={self._probing} consecutive={self._consecutive} {self._window!r}>"

    def _is_stale(self, epoch: int | None) -> bool:
        return epoch is not None and epoch != self._epoch

    def _trip_if_due(self, now: float) -> None:
        why = self._why_trip(now)
        if why:
            self._move(now, Event.TRIP, why)

    def _why_trip(self, now: float) -> str | None:
        settings = self._settings
        if self._consecutive >= settings.consecutive_failures:
            return f"{self._consecutive} consecutive failures"
        total, failures = self._window.counts(now)
        if total < settings.min_requests:
            return None
        # No failures are no reason, whatever the threshold.
        if failures and failures / total >= settings.error_rate_threshold:
            return f"error rate {failures / total:.2f} over {total} requests"
        if settings.latency_p95_ms is not None:
            p95 = self._window.p95(now)
            if p95 is not None and p95 * 1000 > settings.latency_p95_ms:
                return f"p95 latency {p95 * 1000:.0f} ms over {total} requests"
        return None

    def _move(self, now: float, event: Event, why: str, *, heard: bool = False) -> None:
        source, target = self._state, TRANSITIONS[self._state, event]
        self._state = target
        self.is_closed = target is _CLOSED
        self._probing = False
        if not heard and event is not Event.RECOVERY_PASSED:
            self.verdicts += 1
        if target is _OPEN:
            self._open_until = now + self._settings.recovery_window
            self._epoch += 1
        elif target is _CLOSED:
            self._pass = Admission(True, epoch=self._epoch)
            self._consecutive = 0
            self._window.clear()
        if source is not target:
            self.transitions.append(Transition(now, source, target, why))
