"""How dear a case is, in units of a calibration loop that runs beside it.

A machine that is shared halves and doubles its speed within minutes, so microseconds say nothing from one run to the
next. A fixed piece of work that is run in turns with the case, in the same process, goes up and down with it: what is
kept is the ratio of the two, taken for each turn of a few milliseconds. Of these ratios the median counts. The times
are the thread's own CPU time, which leaves out what other programs were given, but not that they emptied the caches.

The cheapest turn of each, divided by the other, was tried first: it needs one undisturbed turn of both, at the same
speed of the machine, and on two cores with nine others at work it came out up to 2.3 times as high from one run to the
next, where the median stayed within 1.1, and for whole requests within 1.3. The garbage collector is off within a turn.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import trio

from .case import Act, Case

TURN: Final = 0.003  # seconds
FEWEST_TURNS: Final = 11


@attrs.frozen(kw_only=True)
class Cost:
    """Of one operation: CPU microseconds, and how many calibration loops that is. Medians."""

    name: str
    microseconds: float
    ratio: float


class _Thing:
    """What the calibration loop handles: code like ours calls methods, reads attributes and makes small objects."""

    __slots__ = ("count", "name")

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count

    def more(self, by: int) -> int:
        self.count += by
        return self.count


_NAMES: Mapping[str, int] = {f"name-{number}": number for number in range(32)}
_LINE: bytes = b"content-type: application/json\r\nx-request-id: 0123456789abcdef\r\n\r\n"


def calibration() -> int:
    """A fixed mixture of what the hot path consists of, some twenty microseconds of it. Never change it: every bound
    that was recorded is in units of this."""
    found: dict[str, _Thing] = {}
    total = 0
    for name, number in _NAMES.items():
        thing = found[name] = _Thing(name, number)
        total += thing.more(number) + len(_LINE[number:].partition(b": ")[0])
        if name in _NAMES and thing.count % 3:
            total += max(number, 7)
    for thing in sorted(found.values(), key=_by_count):
        total += thing.more(1)
    return total + len(b"%b%d\r\n" % (_LINE, total))


def _by_count(thing: _Thing) -> int:
    return -thing.count


async def measure(case: Case, *, seconds: float) -> Cost:
    """Measure for about so many seconds of CPU time. Runs in a trio task; others get their turn between two of ours."""
    async with case.open() as act:
        act()
        gc.collect()
        gc.disable()
        try:
            turns = await _turns(act, seconds)
        finally:
            gc.enable()
    own = statistics.median(took for took, _ in turns)
    ratio = statistics.median(took / unit for took, unit in turns)
    return Cost(name=case.name, microseconds=own * 1e6 / case.per, ratio=ratio / case.per)


async def _turns(act: Act, seconds: float) -> list[tuple[float, float]]:
    """CPU seconds of a call of the case, and of the calibration beside it, turn by turn."""
    calls, units = _calls(act, TURN), _calls(calibration, TURN / 2)
    turns: list[tuple[float, float]] = []
    until = time.thread_time() + seconds
    while len(turns) < FEWEST_TURNS or time.thread_time() < until:
        turns.append((_timed(act, calls), _timed(calibration, units)))
        await trio.lowlevel.checkpoint()
    return turns


def _calls(act: Act, seconds: float) -> int:
    """How many calls take about so long."""
    count = 1
    while (took := _timed(act, count) * count) < seconds / 2:
        count = min(count * 10, max(count + 1, int(count * seconds / max(took, 1e-7))))
    return count


def _timed(act: Callable[[], object], count: int) -> float:
    """CPU seconds of a call."""
    before = time.thread_time_ns()
    for _ in range(count):
        act()
    return (time.thread_time_ns() - before) / 1e9 / count
