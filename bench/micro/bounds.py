"""What the cases may cost: the ratios that were recorded, and how far above them a run may be."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import msgspec

from infermux.bench.machine import cpu_model

from .measuring import Cost

FILE: Final = Path(__file__).parent / "bounds.json"
TOLERANCE: Final = 1.4
"""How many times its recorded ratio a case may cost.

On two cores with nine other programs at work the median of one short run was at most 1.12 times that of many, and 1.3
times for whole requests, which suffer most from emptied caches; what is over the bound is measured again, up to
`TRIES` times, and only what is over it each time counts. So a run on a busy machine does not fail by chance, and what
makes something half as dear again does not get through.
"""
ELSEWHERE: Final = 2.0
"""The same under another version of Python than the recorded one, or on another CPU: some things are faster there, and
others are not."""
TRIES: Final = 4


class Recorded(msgspec.Struct, frozen=True):
    """`ratios` by the name of the case, and the version of Python and the CPU that they were measured with."""

    python: str
    cpu: str
    ratios: dict[str, float]


@attrs.frozen(kw_only=True)
class Bounds:
    """`tolerance` is the factor that holds here."""

    ratios: Mapping[str, float]
    tolerance: float

    def allows(self, cost: Cost) -> bool:
        """False too for a case that has no bound."""
        return cost.ratio <= self.ratios.get(cost.name, 0.0) * self.tolerance


def recorded() -> Bounds:
    """Raises OSError, and msgspec.MsgspecError for a file that is none."""
    found = msgspec.json.decode(FILE.read_bytes(), type=Recorded)
    here = (found.python, found.cpu) == (_python(), cpu_model())
    return Bounds(ratios=found.ratios, tolerance=TOLERANCE if here else ELSEWHERE)


def record(costs: Iterable[Cost], *, beside: Mapping[str, float]) -> None:
    """Keep these as what the cases cost from now on; `beside` are others that stay as they were."""
    ratios = {**beside, **{cost.name: float(f"{cost.ratio:.4g}") for cost in costs}}
    found = Recorded(python=_python(), cpu=cpu_model(), ratios=ratios)
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def table(costs: Sequence[Cost], bounds: Bounds) -> str:
    """What each case cost, and of what it may."""
    width = max([len(cost.name) for cost in costs], default=0)
    lines = [f"{'':{width}}  {'CPU µs':>10}  {'loops':>9}  {'recorded':>9}  {'times':>6}"]
    for cost in costs:
        known = bounds.ratios.get(cost.name)
        times = f"{cost.ratio / known:6.2f}" if known else "   new"
        mark = "" if bounds.allows(cost) else "  <- TOO DEAR" if known else "  <- not recorded"
        of = f"{known:9.4g}" if known else f"{'-':>9}"
        lines.append(f"{cost.name:{width}}  {cost.microseconds:10.2f}  {cost.ratio:9.4g}  {of}  {times}{mark}")
    return "\n".join(lines)
