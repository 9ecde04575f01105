"""What translation costs: streams of one provider for callers of its own API and of the others, as data and as a run.

One infermux and one mock upstream serve all of them in turns. The passed-through stream is what the translated ones of
the same provider are compared with: the same events of the mock, at the same pace, for as many callers. CPU time is
divided by the tokens, each an event of the provider's, because the APIs frame the same text by more or fewer events.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from infermux.bench.callers import CHAT, MESSAGES, RESPONSES, Caller
from infermux.bench.figures import Spread, failure
from infermux.bench.load import Load
from infermux.bench.machine import Placement
from infermux.bench.report import aligned
from infermux.bench.rounds import Measurement
from infermux.bench.scenario import Scenario
from infermux.bench.upstream import upstream

from .fronts import EVERY_DIALECT, MODELS
from .rounds import Bench, Say
from .scenarios import round_load


@attrs.frozen(kw_only=True)
class Pair:
    """A caller's API and the type of the provider that answers."""

    caller: Caller
    provider: str

    @property
    def name(self) -> str:
        return f"{self.caller.name} on {self.provider}"


NATIVE: Mapping[str, Pair] = {
    provider: Pair(caller=caller, provider=provider) for provider, caller in (("openai", CHAT), ("anthropic", MESSAGES))
}
"""The pair of each type that is passed through. Nobody calls in Bedrock's own dialect."""

PAIRS = (
    NATIVE["openai"],
    Pair(caller=MESSAGES, provider="openai"),
    Pair(caller=RESPONSES, provider="openai"),
    NATIVE["anthropic"],
    Pair(caller=CHAT, provider="anthropic"),
    Pair(caller=RESPONSES, provider="anthropic"),
    Pair(caller=CHAT, provider="bedrock"),
    Pair(caller=MESSAGES, provider="bedrock"),
)

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="translated-16",
            title="16 callers, streams of 50 tokens 20 ms apart, passed through and translated",
            stream=True,
            stagger=0.02,
            rounds=7,
        ),
        Scenario(
            name="translated-16-aligned",
            title="the same with all streams in step, so that the wake-up, which all pay, hides least",
            stream=True,
            rounds=7,
        ),
    )
}


@attrs.frozen(kw_only=True)
class Row:
    """One pair. CPU in microseconds per token; `ratio` over the passed-through stream, round by round.

    `failure` is None when the figures count.
    """

    pair: str
    requests: int
    failure: str | None
    cpu_us: Spread | None = None
    ratio: Spread | None = None


@attrs.frozen(kw_only=True)
class Outcome:
    """All rounds, by pair. `missing` says why there are none."""

    scenario: Scenario
    rounds: Mapping[Pair, Sequence[Measurement]]
    missing: str | None = None


def measure(
    scenario: Scenario, *, quick: bool, rounds: int | None, cpus: Placement, scratch: Path, say: Say
) -> Outcome:
    """Every pair in every round, in turns."""
    found: dict[Pair, list[Measurement]] = {pair: [] for pair in PAIRS}
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(upstream(scenario.pace, cpus=cpus.others, scratch=scratch))
        bench = Bench(scenario=scenario, mock=mock, cpus=cpus, scratch=scratch, say=say)
        running = bench.start(EVERY_DIALECT, stack, missing)
        if running is None:
            return Outcome(scenario=scenario, rounds={}, missing=missing[EVERY_DIALECT.name])
        loads = {pair: _load(round_load(scenario, quick=quick), pair) for pair in PAIRS}
        for load in loads.values():
            bench.run(running, attrs.evolve(load, seconds=EVERY_DIALECT.warm_up_seconds))
        count = rounds or (3 if quick else scenario.rounds)
        for number in range(count):
            for pair, load in loads.items():
                named = attrs.evolve(running, name=pair.name)
                found[pair].append(bench.measure(named, load, f"{number + 1}/{count}"))
    return Outcome(scenario=scenario, rounds=found)


def _load(load: Load, pair: Pair) -> Load:
    return attrs.evolve(load, caller=pair.caller, model=MODELS[pair.provider])


def rows(outcome: Outcome) -> list[Row]:
    """One row for each pair, in the order of the rounds."""
    return [_row(outcome, pair, found) for pair, found in outcome.rounds.items()]


def failed(outcome: Outcome) -> bool:
    return outcome.missing is not None or any(row.failure is not None for row in rows(outcome))


def _row(outcome: Outcome, pair: Pair, found: Sequence[Measurement]) -> Row:
    why = failure(found)
    requests = sum(measurement.load.requests for measurement in found)
    if why is not None:
        return Row(pair=pair.name, requests=requests, failure=why)
    cpu = _per_token(outcome, found)
    native = NATIVE.get(pair.provider)
    passed = outcome.rounds.get(native, ()) if native is not None else ()
    ratio = None
    if passed and failure(passed) is None:
        ratio = Spread.of(own / base for own, base in zip(cpu, _per_token(outcome, passed), strict=True))
    return Row(pair=pair.name, requests=requests, failure=None, cpu_us=Spread.of(cpu), ratio=ratio)


def _per_token(outcome: Outcome, found: Sequence[Measurement]) -> list[float]:
    tokens = outcome.scenario.pace.tokens
    return [(measurement.cpu_ns or 0) / 1000 / (measurement.load.good * tokens) for measurement in found]


def markdown(outcome: Outcome) -> str:
    """A table that is also legible as plain text."""
    lines = [f"### {outcome.scenario.name}: {outcome.scenario.title}", ""]
    if outcome.missing is not None:
        return "\n".join([*lines, f"FAIL: {outcome.missing}", ""])
    table = [["caller on provider", "CPU µs/token", "x passed through", "streams"]]
    notes: list[str] = []
    for row in rows(outcome):
        if row.failure is not None:
            notes.append(f"- {row.pair}: FAIL, {row.failure}")
        cpu = "FAIL" if row.cpu_us is None else row.cpu_us.text(1)
        table.append([row.pair, cpu, "-" if row.ratio is None else row.ratio.text(2), str(row.requests)])
    return "\n".join([*lines, *aligned(table), "", *notes, *([""] if notes else [])])


def as_data(outcome: Outcome) -> Mapping[str, object]:
    """Everything for the JSON file: the figures and every round they come from."""
    return {
        "scenario": outcome.scenario.name,
        "title": outcome.scenario.title,
        "unit": "token",
        "missing": outcome.missing,
        "rows": [attrs.asdict(row) for row in rows(outcome)],
        "rounds": [
            {field.name: getattr(measurement, field.name) for field in attrs.fields(Measurement)}
            for found in outcome.rounds.values()
            for measurement in found
        ],
    }
