"""What `infermux bench` makes of rounds, and beside it the ratios to nginx and to another checkout in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from infermux.bench import figures
from infermux.bench import report as shared
from infermux.bench.figures import Row, Spread, by_target, failure
from infermux.bench.report import aligned
from infermux.bench.rounds import Measurement, Outcome

from .fronts import BEFORE

FLOOR = "nginx"


def rows(outcome: Outcome) -> list[Row]:
    """One row for each front that took part, in the order of the rounds."""
    return figures.rows(outcome)


def ratios(outcome: Outcome) -> Mapping[str, Spread]:
    """CPU time over nginx's, round by round, of each front whose figures count; empty without nginx's."""
    found = by_target(outcome.measurements)
    floor = found.get(FLOOR, [])
    if not floor or failure(floor):
        return {}
    made = {name: _over(own, floor, outcome.scenario.unit) for name, own in found.items() if failure(own) is None}
    return {name: spread for name, spread in made.items() if spread is not None}


def against_before(outcome: Outcome) -> Spread | None:
    """CPU time of this checkout over that of the earlier one, round by round; None where not both took part well."""
    found = by_target(outcome.measurements)
    own, before = found.get("infermux", []), found.get(BEFORE, [])
    if not own or not before or failure(own) or failure(before):
        return None
    return _over(own, before, outcome.scenario.unit)


def _over(own: Sequence[Measurement], base: Sequence[Measurement], unit: str) -> Spread | None:
    pairs = ((new.cpu_us(unit), old.cpu_us(unit)) for new, old in zip(own, base, strict=False))
    return Spread.of(new / old for new, old in pairs if new is not None and old)


def markdown(outcome: Outcome) -> str:
    """The table of a scenario, and below it the ratios."""
    unit, found = outcome.scenario.unit, ratios(outcome)
    table = [["front", f"CPU per {unit}, times {FLOOR}'s"], *([name, ratio.text(2)] for name, ratio in found.items())]
    lines = [shared.markdown(outcome)]
    if found:
        lines += [*aligned(table), ""]
    ratio = against_before(outcome)
    if ratio is not None:
        lines += [f"- infermux: {ratio.text(3)} times the CPU of {BEFORE}, round by round", ""]
    return "\n".join(lines)


def as_data(outcome: Outcome) -> Mapping[str, object]:
    """Everything for the JSON file: the figures and every round they come from."""
    before = against_before(outcome)
    return {
        **figures.as_data(outcome),
        "ratios": {name: attrs.asdict(ratio) for name, ratio in ratios(outcome).items()},
        "against_before": None if before is None else attrs.asdict(before),
    }
