"""How many requests at once a provider takes: found out from its latency and its refusals.

The limit follows the gradient of latency, as `Gradient2Limit` of Netflix's concurrency-limits
(https://github.com/Netflix/concurrency-limits; "Performance Under Load", 2018) does per window of samples:

    gradient = min(1, max(0.5, tolerance * usual / recent))
    limit    = (1 - smoothing) * limit + smoothing * (limit * gradient + headroom)

with the headroom sqrt(limit) of its `GradientLimit`. It differs in three ways, because an answer of a language model
takes 0.2 or 60 seconds without anything being wrong:

- Latencies are compared with what is usual for their kind (a model's first token, a model's whole answer). The median
  of these ratios in a window stands for `recent / usual`.
- What is usual, learned from an overloaded provider, comes to include the overload, and the limit would grow for ever.
  So while it is in use it is halved now and then for one window: where that makes answers faster, that is what is
  usual, and the limit stays there. Looks that show nothing become rarer, up to one in 32 windows.
- A refusal (429, 503, 529, a timeout) lowers the limit at once, by a fifth: once for all requests that were in flight.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict
from collections.abc import Hashable

START = 20.0
LEAST = 1.0
MOST = 1000.0
WINDOW = 32  # samples
TOLERANCE = 1.4
SMOOTHING = 0.2
BACKOFF = 0.8
NEAR = 0.8  # of the limit: so much of it must be in use for it to grow
DRIFT = 0.01  # of a window's deviation becomes usual
FASTER = 0.75  # of the latency under half the load: it was overloaded before
SLOWER = 1.15  # one window teaches no more than that: it may be our own doing
FEWEST_WINDOWS, MOST_WINDOWS = 2, 32  # between two looks
KINDS_KEPT = 64


class AdaptiveLimit:
    """One provider's limit of requests in flight, between 1 and 1000. Times are seconds on one monotonic clock.

    Tell it of each grant (`granted`), and of each end that says something (`succeeded`, `refused`).
    """

    __slots__ = (
        "_before_look",
        "_interval",
        "_limit",
        "_lowered_at",
        "_peak",
        "_ratios",
        "_recent",
        "_until_look",
        "_usual",
    )

    def __init__(self) -> None:
        self._limit = START
        self._peak = 0
        self._ratios: list[float] = []
        self._recent = 1.0
        self._usual: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()
        self._lowered_at = -math.inf
        self._before_look: float | None = None
        self._interval = self._until_look = FEWEST_WINDOWS

    @property
    def limit(self) -> int:
        """Requests that may be in flight at once."""
        return int(self._limit)

    def granted(self, in_flight: int) -> None:
        """A request went out; `in_flight` with it."""
        self._peak = max(self._peak, in_flight)

    def succeeded(self, latency: float, kind: Hashable, granted_at: float, now: float) -> None:
        """A request granted at `granted_at` succeeded. `latency` in seconds, comparable to others of its `kind`."""
        if latency <= 0 or granted_at < self._lowered_at:
            return  # it was sent under another limit
        self._ratios.append(latency / self._usual_of(kind, latency))
        if len(self._ratios) >= WINDOW:
            self._close_window(now)

    def refused(self, granted_at: float, now: float) -> None:
        """A request granted at `granted_at` was refused for load (429, 503, 529), or timed out."""
        if granted_at < self._lowered_at:
            return  # sent before the limit was lowered: it says nothing of the lower one
        self._before_look = None
        self._lower(self._limit * BACKOFF, now)

    def statistics(self) -> dict[str, float | int]:
        """For display and tests."""
        return {"limit": self.limit, "kinds": len(self._usual), "looking": self._before_look is not None}

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self._limit:.2f} peak={self._peak}>"

    def _usual_of(self, kind: Hashable, latency: float) -> float:
        """What is usual for `kind`: the mean of its first samples, from then on moved with all others."""
        usual, samples = self._usual.get(kind, (0.0, 0))
        if samples < WINDOW:
            usual = (usual * samples + latency) / (samples + 1)
            self._usual[kind] = (usual, samples + 1)
            if len(self._usual) > KINDS_KEPT:
                self._usual.popitem(last=False)
        return usual

    def _close_window(self, now: float) -> None:
        ratio = statistics.median(self._ratios)
        in_use = self._peak >= NEAR * self.limit
        self._ratios.clear()
        self._peak = 0
        if self._before_look is not None:
            self._looked(ratio)
            return
        self._scale_usual(1 + DRIFT * (min(ratio, SLOWER) - 1))
        if in_use:
            self._recent += (ratio - self._recent) / 4
            self._follow(ratio)
            self._until_look -= 1
            if self._until_look <= 0:
                self._before_look = self._limit
                self._lower(self._limit / 2, now)

    def _scale_usual(self, factor: float) -> None:
        for kind, (usual, samples) in self._usual.items():
            self._usual[kind] = (usual * factor, samples)

    def _follow(self, ratio: float) -> None:
        gradient = min(1.0, max(0.5, TOLERANCE / ratio))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        self._limit = _bounded((1 - SMOOTHING) * self._limit + SMOOTHING * wanted)

    def _looked(self, ratio: float) -> None:
        """A window under half the load has ended."""
        before, self._before_look = self._before_look, None
        assert before is not None
        if ratio < FASTER * self._recent:
            self._scale_usual(min(ratio, 1.0))
            self._interval = max(self._interval // 2, FEWEST_WINDOWS)
        else:
            self._scale_usual(math.sqrt(ratio))  # the load is not the reason; half of the way, as medians are noisy
            self._limit = before
            self._interval = min(self._interval * 2, MOST_WINDOWS)
        self._until_look = self._interval

    def _lower(self, limit: float, now: float) -> None:
        """Requests that are out belong to the limit they were sent under: their latencies are not counted."""
        self._limit = _bounded(limit)
        self._lowered_at = now
        self._ratios.clear()
        self._peak = 0


def _bounded(limit: float) -> float:
    return min(max(limit, LEAST), MOST)
