"""How infermux with everything on stands against its peers: ratios of one run, each beside what it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from infermux.bench.figures import Row, Spread
from infermux.bench.report import aligned
from infermux.bench.rounds import Measurement, Outcome

from .report import rows

OWN = "infermux-on"
PLAIN = "infermux"

Found = Callable[[Outcome, str], Spread | None]
"""The figure of one of our fronts, None where one of those that it compares did not take part well."""


@attrs.frozen(kw_only=True)
class Goal:
    """Reached when the median of what is found is at most `bound`; or at least, when `at_least`."""

    scenario: str
    says: str
    bound: float
    found: Found
    at_least: bool = False
    unit: str = ""

    def is_reached_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def cpu_over(peer: str) -> Found:
    """CPU time per unit of infermux over that of a peer, round by round."""
    return lambda outcome, front: _ratio(outcome, front, peer)


def cpu_under(peer: str) -> Found:
    """CPU time per unit of a peer over that of infermux, round by round."""
    return lambda outcome, front: _ratio(outcome, peer, front)


def _ratio(outcome: Outcome, over: str, under: str) -> Spread | None:
    well = {row.target for row in rows(outcome) if row.failure is None}
    if not {over, under} <= well:
        return None
    unit = outcome.scenario.unit
    pairs = zip(_of(outcome, over), _of(outcome, under), strict=False)  # slow ones take part in fewer rounds
    cpu = ((one.cpu_us(unit), other.cpu_us(unit)) for one, other in pairs)
    return Spread.of(one / other for one, other in cpu if one is not None and other)


def _of(outcome: Outcome, front: str) -> list[Measurement]:
    return [each for each in outcome.measurements if each.target == front]


def own(value: Callable[[Row], float | None]) -> Found:
    """A figure of infermux's own."""

    def found(outcome: Outcome, front: str) -> Spread | None:
        row = next((row for row in rows(outcome) if row.target == front), None)
        figure = None if row is None else value(row)
        return None if figure is None else Spread.of([figure])

    return found


def added_over(peer: str) -> Found:
    """The median latency that infermux adds over that which a peer adds."""

    def found(outcome: Outcome, front: str) -> Spread | None:
        added = {row.target: row.added_ms for row in rows(outcome)}
        mine, theirs = added.get(front), added.get(peer)
        if mine is None or theirs is None or theirs.p50 <= 0:
            return None
        return Spread.of([mine.p50 / theirs.p50])

    return found


def tail(outcome: Outcome, front: str) -> Spread | None:
    """The 99.9th percentile of infermux's latency over its median, round by round."""
    found = [each.load.latency_us for each in _of(outcome, front)]
    return Spread.of(each.p999 / each.p50 for each in found if each.p50)


def _open(scenario: str) -> list[Goal]:
    return [
        Goal(
            scenario=scenario,
            says="median latency added, over TensorZero's",
            bound=1.0,
            found=added_over("tensorzero"),
        ),
        Goal(
            scenario=scenario,
            says="99th percentile of latency added",
            bound=5.0,
            unit="ms",
            found=own(lambda row: None if row.added_ms is None else row.added_ms.p99),
        ),
        Goal(scenario=scenario, says="99.9th percentile of latency over the median", bound=10.0, found=tail),
    ]


GOALS: Sequence[Goal] = (
    Goal(scenario="whole-16", says="CPU per request over TensorZero's", bound=1.0, found=cpu_over("tensorzero")),
    Goal(scenario="whole-16", says="CPU per request over nginx's", bound=6.0, found=cpu_over("nginx")),
    Goal(
        scenario="whole-16",
        says="CPU per request of Portkey over ours",
        bound=6.0,
        at_least=True,
        found=cpu_under("portkey"),
    ),
    Goal(
        scenario="whole-16",
        says="CPU per request of LiteLLM over ours",
        bound=60.0,
        at_least=True,
        found=cpu_under("litellm"),
    ),
    Goal(scenario="stream-16", says="CPU per event over TensorZero's", bound=1.0, found=cpu_over("tensorzero")),
    Goal(scenario="streams-1000", says="CPU per event over TensorZero's", bound=1.0, found=cpu_over("tensorzero")),
    Goal(
        scenario="streams-5000",
        says="share of streams that were whole",
        bound=1.0,
        at_least=True,
        found=own(lambda row: row.success),
    ),
    Goal(
        scenario="streams-5000",
        says="resident memory",
        bound=150.0,
        unit="MiB",
        found=own(lambda row: row.resident_mib),
    ),
    Goal(
        scenario="streams-5000",
        says="99th percentile of the first token",
        bound=25.0,
        unit="ms",
        found=own(lambda row: None if row.first_token_ms is None else row.first_token_ms.p99.median),
    ),
    *_open("open-half"),
    *_open("open-500"),
)


def markdown(outcomes: Mapping[str, Outcome]) -> str:
    """A table of the goals whose scenarios ran; nothing where infermux with everything on took no part.

    What infermux reaches with nothing on stands beside it: most peers do no more than that.
    """
    table = [["scenario", "infermux", "goal", "with everything on", "", "with nothing on"]]
    for goal, outcome in _asked(outcomes):
        found = goal.found(outcome, OWN)
        bound = f"{'>=' if goal.at_least else '<='} {goal.bound:g} {goal.unit}".strip()
        verdict = "" if found is None else "reached" if goal.is_reached_by(found.median) else "NOT reached"
        table.append(
            [goal.scenario, goal.says, bound, _text(goal, found), verdict, _text(goal, goal.found(outcome, PLAIN))]
        )
    return "\n".join(["### Goals", "", *aligned(table), ""]) if len(table) > 1 else ""


def _asked(outcomes: Mapping[str, Outcome]) -> list[tuple[Goal, Outcome]]:
    ran = [(goal, outcomes[goal.scenario]) for goal in GOALS if goal.scenario in outcomes]
    return [(goal, outcome) for goal, outcome in ran if _of(outcome, OWN)]


def _text(goal: Goal, found: Spread | None) -> str:
    return "cannot be told" if found is None else f"{found.text(2)} {goal.unit}".strip()


def as_data(outcomes: Mapping[str, Outcome]) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {
            "scenario": goal.scenario,
            "says": goal.says,
            "bound": goal.bound,
            "at_least": goal.at_least,
            "unit": goal.unit,
            **{
                front: None if (found := goal.found(outcome, front)) is None else attrs.asdict(found)
                for front in (OWN, PLAIN)
            },
        }
        for goal, outcome in _asked(outcomes)
    ]
