"""A whole run of `infermux bench`: each scenario on its targets, and what came of all of them."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Generator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import attrs
import msgspec

from . import plot, report
from .deployment import Deployment
from .figures import DIRECT, as_data, rows
from .load import GeneratorFailed
from .machine import Placement, describe, pinned
from .own import CannotServe, World, world
from .preflight import ask
from .process import DidNotStart
from .progress import Teller
from .rounds import Bench, Measurement, Outcome, Target, in_turns
from .scenario import Scenario
from .tools import CannotCompile, compiled


@attrs.frozen(kw_only=True)
class Options:
    """`deployment` None: a router is started. `generator` None: the one that can."""

    deployment: Deployment | None = None
    generator: str | None = None


@attrs.frozen(kw_only=True)
class Findings:
    """All scenarios that were run."""

    machine: Mapping[str, str]
    outcomes: tuple[Outcome, ...]

    @property
    def interrupted(self) -> bool:
        return any(outcome.interrupted for outcome in self.outcomes)

    @property
    def failed(self) -> bool:
        """Whether a target answered too few requests, or could not take part."""
        return any(
            outcome.missing or any(row.failure is not None for row in rows(outcome)) for outcome in self.outcomes
        )

    def data(self) -> bytes:
        """As JSON."""
        made = {"machine": self.machine, "scenarios": [as_data(outcome) for outcome in self.outcomes]}
        return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"

    def markdown(self) -> str:
        return report.document(self.machine, [report.markdown(outcome) for outcome in self.outcomes])

    def write(self, folder: Path, name: str = "bench") -> list[Path]:
        """NAME.json, NAME.md and, where there are figures, NAME.svg. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        drawn = plot.plot(self.outcomes)
        files = {".json": self.data(), ".md": self.markdown().encode()}
        if drawn is not None:
            files[".svg"] = drawn.encode()
        for ending, content in files.items():
            (folder / f"{name}{ending}").write_bytes(content)
        return [folder / f"{name}{ending}" for ending in files]


def run(scenarios: Sequence[Scenario], options: Options, *, cpus: Placement, scratch: Path, teller: Teller) -> Findings:
    """One after the other; Ctrl-C ends it with what there is until then."""
    machine = _machine(options, cpus)
    outcomes: list[Outcome] = []
    # Who measures does so beside the tools, and leaves the server's CPU alone.
    with pinned(cpus.others if options.deployment is None else frozenset()):
        for scenario in scenarios:
            outcomes.append(_run(scenario, options, cpus, scratch, teller))
            for name, reason in outcomes[-1].missing.items():
                teller.say(f"{scenario.name} {name}: missing, {reason}")
            if outcomes[-1].interrupted:
                teller.say("interrupted; everything that was started has been ended")
                break
    return Findings(machine=machine, outcomes=tuple(outcomes))


def _machine(options: Options, cpus: Placement) -> Mapping[str, str]:
    placed = {
        "server_cpus": ",".join(map(str, sorted(cpus.gateway))),
        "other_cpus": ",".join(map(str, sorted(cpus.others))),
    }
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    where = placed if options.deployment is None else {"url": options.deployment.url}
    return {**describe(), **where, "time": now}


def _run(scenario: Scenario, options: Options, cpus: Placement, scratch: Path, teller: Teller) -> Outcome:
    missing: dict[str, str] = {}
    measured: list[Measurement] = []
    scratch = scratch / scenario.name
    try:
        scratch.mkdir()
        teller.say(f"{scenario.name}: {scenario.title}")
        with _world(scenario, options, cpus, scratch) as found:
            bench = Bench(
                scenario=scenario,
                mock=found.mock,
                cpus=cpus.others if options.deployment is None else frozenset(),
                scratch=scratch,
                watcher=teller,
                generator=options.generator,
            )
            load = scenario.load(exact=found.mock is not None)
            targets = _answering(found.targets, bench, missing)
            measured, interrupted = in_turns(bench, targets, load, count=scenario.rounds)
    except (CannotCompile, CannotServe, DidNotStart, GeneratorFailed) as problem:
        return Outcome(scenario=scenario, measurements=(), missing={**missing, _name(options): str(problem)})
    except KeyboardInterrupt:  # while something was started or ended
        interrupted = True
    return Outcome(scenario=scenario, measurements=tuple(measured), missing=missing, interrupted=interrupted)


def _name(options: Options) -> str:
    return "infermux" if options.deployment is None else "server"


@contextlib.contextmanager
def _world(scenario: Scenario, options: Options, cpus: Placement, scratch: Path) -> Generator[World]:
    if options.deployment is not None:
        yield World(targets=options.deployment.targets(), mock=None)
        return
    with world(scenario, cpus=cpus, scratch=scratch, mocked=_has_mock()) as found:
        yield found


def _has_mock() -> bool:
    with contextlib.suppress(CannotCompile):
        compiled("mock")
        return True
    return False


def _answering(targets: Sequence[Target], bench: Bench, missing: dict[str, str]) -> list[Target]:
    """Those that answer one request; of the others `missing` tells what they said instead."""
    found: list[Target] = []
    for target in targets:
        load = attrs.evolve(bench.scenario.load(), key=target.key)
        load = attrs.evolve(load, model=target.model or load.model)
        reply = ask(load, target.url)
        problem = reply.problem
        if problem is None:
            found.append(target)
        else:
            missing[target.name] = f"{problem}{_advice(reply.status, target)}" if bench.mock is None else problem
    return found


def _advice(status: int, target: Target) -> str:
    """What the command line can do about a deployment's refusal."""
    url, before = ("--direct", "--direct-") if target.name == DIRECT else ("--url", "--")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f" ({before}key-env names the variable with its key)"
    return f" (are the path of {url} and {before}model right?)" if status == HTTPStatus.NOT_FOUND else ""
