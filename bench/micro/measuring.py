"""How dear a case is, in units of a calibration loop that runs beside it.

A machine that is shared halves and doubles its speed within minutes, so microseconds say nothing from one run to the
next. A fixed piece of work that is run in turns with the case, in the same process, goes up and down with it: what is
kept is the ratio. The time is the thread's own CPU time, which leaves out what other programs were given; rounds are
of about a millisecond, so that some of them are not interrupted; and of all rounds the cheapest one counts, of either,
since whatever disturbs only ever adds. The garbage collector is off within a round and runs between the cases.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

import attrs
import trio

from .case import Act, Case

ROUND: float = 0.001  # seconds
FEWEST_ROUNDS: int = 15


@attrs.frozen(kw_only=True)
class Cost:
    """Of one operation: CPU microseconds at the best, and how many calibration loops that is."""

    name: str
    microseconds: float
    ratio: float

    def better(self, other: Cost | None) -> Cost:
        """The smaller of two findings about the same case."""
        return self if other is None or self.ratio <= other.ratio else other


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
    """Measure for about so many seconds of CPU time. Runs in a trio task; others get their turn between the rounds."""
    async with case.open() as act:
        act()
        gc.collect()
        gc.disable()
        try:
            best, unit = await _best(act, seconds)
        finally:
            gc.enable()
    return Cost(name=case.name, microseconds=best * 1e6 / case.per, ratio=best / unit / case.per)


async def _best(act: Act, seconds: float) -> tuple[float, float]:
    """The cheapest call of the case and of the calibration, in seconds."""
    times, units = _calls(act), _calls(calibration)
    best = unit = float("inf")
    until, rounds = time.thread_time() + seconds, 0
    while rounds < FEWEST_ROUNDS or time.thread_time() < until:
        unit = min(unit, _timed(calibration, units))
        best = min(best, _timed(act, times))
        rounds += 1
        await trio.lowlevel.checkpoint()
    return best, unit


def _calls(act: Act) -> int:
    """How many calls make a round."""
    count = 1
    while (took := _timed(act, count) * count) < ROUND / 2:
        count = min(count * 10, max(count + 1, int(count * ROUND / max(took, 1e-7))))
    return count


def _timed(act: Callable[[], object], count: int) -> float:
    """CPU seconds of a call."""
    before = time.thread_time_ns()
    for _ in range(count):
        act()
    return (time.thread_time_ns() - before) / 1e9 / count
