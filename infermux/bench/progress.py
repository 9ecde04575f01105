"""How a bench goes, on stderr: on a terminal a line that renews itself, elsewhere a line now and then."""

from __future__ import annotations

import time
from typing import TextIO

from .load import Progress
from .rounds import Measurement

_NOW_AND_THEN = 10.0
_CLEAR = "\r\x1b[K"
_WIDEST = 110


class Teller:
    """A `rounds.Watcher`."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._renews = to.isatty()
        self._told = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._to.write(f"{_CLEAR if self._renews else ''}  {text}\n")
        self._to.flush()
        self._told = time.monotonic()

    def going(self, what: str, target: str, progress: Progress, *, share: float) -> None:
        failed = f", {progress.failed} FAILED" if progress.failed else ""
        text = f"{what} {target}: {share:.0%}, {progress.good} answers{failed}"
        if self._renews:
            self._to.write(f"{_CLEAR}  {text[:_WIDEST]}")
            self._to.flush()
        elif time.monotonic() - self._told >= _NOW_AND_THEN:
            self.say(text)

    def measured(self, what: str, measurement: Measurement, unit: str) -> None:
        self.say(measured(what, measurement, unit))


def measured(what: str, measurement: Measurement, unit: str) -> str:
    """What a round came to, in a line."""
    rate = measurement.units(unit) / max(measurement.load.seconds, 1e-9)
    cpu = measurement.cpu_us(unit)
    used = "" if cpu is None else f", {cpu:.1f} µs CPU per {unit}"
    failed = f", {measurement.load.failed} FAILED" if measurement.load.failed else ""
    return f"{what} {measurement.target}: {rate:.0f} {unit}s/s{used}{failed}"
