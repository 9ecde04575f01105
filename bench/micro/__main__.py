"""Runs the microbenches against their bounds: `python -m bench.micro [--quick] [--only WORDS] [--record]`."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import attrs
import trio

from . import bounds
from .bounds import Bounds
from .case import Case
from .cases import CASES
from .measuring import Cost, measure

SECONDS: Final = 0.4  # a case
QUICK: Final = 0.05
PASSES: Final = 5
"""Times that everything is measured before it is recorded: a bound must not be the luck of one run."""


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 where a case costs more than it may, or has no bound."""
    options = _options(words)
    cases = [case for case in CASES if all(word in case.name for word in options.only)]
    seconds = QUICK if options.quick else SECONDS
    if options.record:
        trio.run(_record, cases, seconds)
        return 0
    allowed = bounds.recorded()
    costs = trio.run(_checked, cases, seconds, allowed)
    print(bounds.table(costs, allowed))
    refused = [cost.name for cost in costs if not allowed.allows(cost)]
    if refused:
        print(f"\n{len(refused)} cost more than {allowed.tolerance} times what was recorded, or nothing was:")
        print("".join(f"  {name}\n" for name in refused), end="")
        print("Where that is meant, `python -m bench.micro --record` makes it the bound (`--only WORD`: of some).")
    return 1 if refused else 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.micro", description="What the hot path costs, in calibration loops.")
    parser.add_argument("--quick", action="store_true", help="a few turns of each, for continuous integration")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cases whose name has all of these")
    parser.add_argument("--record", action="store_true", help="make what they cost now the bounds")
    return parser.parse_args(words)


async def _checked(cases: Sequence[Case], seconds: float, allowed: Bounds) -> list[Cost]:
    """The costs; what is too dear is measured again, longer each time, and the best counts."""
    costs = {case.name: await _measured(case, seconds) for case in cases}
    for again in range(1, bounds.TRIES):
        for case in cases:
            former = costs[case.name]
            if case.name in allowed.ratios and not allowed.allows(former):
                costs[case.name] = min(former, await _measured(case, seconds * 2**again), key=_ratio)
    return list(costs.values())


async def _record(cases: Sequence[Case], seconds: float) -> None:
    """Measure all of them several times over, and keep the medians."""
    passes = [[await _measured(case, seconds) for case in cases] for _ in range(PASSES)]
    costs = [_median(found) for found in zip(*passes, strict=True)]
    known = {case.name for case in CASES}
    former = {name: ratio for name, ratio in _former().items() if name in known}
    bounds.record(costs, beside=former)
    print(bounds.table(costs, Bounds(ratios={**former, **{cost.name: cost.ratio for cost in costs}}, tolerance=1.0)))


def _former() -> dict[str, float]:
    return dict(bounds.recorded().ratios) if bounds.FILE.exists() else {}


def _median(found: Iterable[Cost]) -> Cost:
    costs = list(found)
    return attrs.evolve(
        costs[0],
        microseconds=statistics.median(cost.microseconds for cost in costs),
        ratio=statistics.median(cost.ratio for cost in costs),
    )


def _ratio(cost: Cost) -> float:
    return cost.ratio


async def _measured(case: Case, seconds: float) -> Cost:
    """Says what it is at, where somebody looks."""
    if not sys.stderr.isatty():
        return await measure(case, seconds=seconds)
    print(f"\r\033[K  {case.name}", end="", file=sys.stderr, flush=True)
    cost = await measure(case, seconds=seconds)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return cost


if __name__ == "__main__":
    sys.exit(main())
