"""Runs the bench, from the repository root: `python -m bench.run [--quick] [--scenario NAMES] [--peers NAMES]`."""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import msgspec

from infermux.bench.machine import Placement, describe, pinned, placement
from infermux.bench.plot import plot
from infermux.bench.rounds import Outcome
from infermux.bench.tools import CannotCompile, compiled
from infermux.cli.bench import one_interrupt

from . import goals, half, operated, report, startup, translated
from .fronts import Front, earlier
from .registry import FRONTS, OWN, PEERS, versions
from .rounds import run_scenario
from .scenarios import SCENARIOS, USUAL
from .tools import HERE, ROOT, at_least_one

REST = (
    half.NAME,
    *translated.SCENARIOS,
    *operated.SCENARIOS_OPERATED,
    "ledger",
    "processes",
    "decision",
    "import",
)
ALL = (*SCENARIOS, *REST)
BESIDE = (".md", ".svg")  # what lies beside the results

SETS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "peers": {
        "scenario": ("whole-16", "stream-16", "streams-1000", "open-500", half.NAME, "streams-5000"),
        "fronts": ("direct", "infermux", "infermux-on"),
    }
}
"""Runs that have a name: what they stand for on the command line."""


@attrs.frozen(kw_only=True)
class Finding:
    """What a scenario gives: for people and for programs. `failed`: a front answered too few requests right.

    `outcome` is there where fronts took turns.
    """

    markdown: str
    data: Mapping[str, object]
    failed: bool = False
    outcome: Outcome | None = None


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 when a front failed or the tools could not be compiled."""
    options = _options(words)
    cpus = placement()
    findings: list[Finding] = []
    try:
        for tool in ("mock", "load"):
            compiled(tool)
        with (
            tempfile.TemporaryDirectory(prefix="infermux-bench-") as folder,
            pinned(cpus.others),
            one_interrupt(),
        ):
            for name in options.scenario:
                findings.append(_run(name, options, cpus, Path(folder)))  # noqa: PERF401 - Ctrl-C leaves what there is
    except CannotCompile as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been ended", file=sys.stderr)
        if findings:
            _write(options.json, cpus, findings)
        return 130
    _write(options.json, cpus, findings)
    return 1 if any(finding.failed for finding in findings) else 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.run", description="Measures infermux beside its peers, on loopback.")
    parser.add_argument("--quick", action="store_true", help="three rounds of about a second")
    parser.add_argument(
        "--set", choices=SETS, help="scenarios and fronts by name: peers, all gateways beside each other"
    )
    parser.add_argument("--scenario", type=_names(ALL), default=[*USUAL, *REST], help=f"some of {','.join(ALL)}")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=f"some of {','.join(PEERS)}, or none")
    parser.add_argument("--fronts", type=_names(OWN), default=list(OWN), help=f"some of {','.join(OWN)}")
    parser.add_argument("--before", type=Path, help="another checkout, whose infermux takes part in turns")
    parser.add_argument("--rounds", type=at_least_one, help="instead of the scenario's own number")
    parser.add_argument("--json", type=_file, default=_default_file(), help="Markdown and SVG go beside it")
    chosen = parser.parse_args(words)
    if chosen.set is not None:
        parser.set_defaults(**SETS[chosen.set])
        chosen = parser.parse_args(words)
    return chosen


def _names(known: Sequence[str]) -> type[list[str]]:
    """A parser of comma-separated names; keeps the order of `known`."""

    class Names(list[str]):
        def __init__(self, text: str) -> None:
            wanted = [] if text == "none" else text.split(",")
            unknown = [name for name in wanted if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
            super().__init__(name for name in known if name in wanted)

    return Names


def _file(text: str) -> Path:
    """Whether it can be written, and what lies beside it, is better told now than after the run."""
    file = Path(text)
    for each in (file, *(file.with_suffix(suffix) for suffix in BESIDE if file.name)):
        if each.is_dir():
            raise argparse.ArgumentTypeError(f"{each} is a folder")
    folder = file.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{folder} cannot be written to: {error.strerror}") from None
    return file


def _default_file() -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return HERE / "results" / f"{stamp}.json"


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _run(name: str, options: argparse.Namespace, cpus: Placement, scratch: Path) -> Finding:
    if name == "decision":
        finding = _decision(options, cpus)
    elif name == "processes":
        finding = _processes(options, cpus)
    elif name == "import":
        _say("import: measuring starts")
        found = startup.measure(cpus=cpus, scratch=scratch, rounds=3 if options.quick else 7)
        finding = Finding(markdown=startup.markdown(found), data={"scenario": name, **attrs.asdict(found)})
    elif name in translated.SCENARIOS:
        outcome = translated.measure(
            translated.SCENARIOS[name], quick=options.quick, rounds=options.rounds, cpus=cpus, scratch=scratch, say=_say
        )
        finding = Finding(
            markdown=translated.markdown(outcome), data=translated.as_data(outcome), failed=translated.failed(outcome)
        )
    elif name in operated.SCENARIOS_OPERATED:
        finding = _operated(name, options, cpus, scratch)
    elif name == "ledger":
        finding = _ledger(options, scratch)
    else:
        finding = _loaded(name, _fronts(options), options, cpus, scratch)
    print(finding.markdown, flush=True)
    return finding


def _fronts(options: argparse.Namespace) -> list[Front]:
    chosen = [front for name, front in FRONTS.items() if name in (*options.peers, *options.fronts)]
    return chosen if options.before is None else [*chosen, earlier(options.before.resolve())]


def _loaded(name: str, fronts: list[Front], options: argparse.Namespace, cpus: Placement, scratch: Path) -> Finding:
    scenario = half.scenario(cpus=cpus, scratch=scratch, say=_say) if name == half.NAME else SCENARIOS[name]
    outcome = run_scenario(
        scenario, fronts, quick=options.quick, rounds=options.rounds, cpus=cpus, scratch=scratch, say=_say
    )
    failed = any(row.failure is not None for row in report.rows(outcome))
    return Finding(markdown=report.markdown(outcome), data=report.as_data(outcome), failed=failed, outcome=outcome)


def _operated(name: str, options: argparse.Namespace, cpus: Placement, scratch: Path) -> Finding:
    scenario = operated.SCENARIOS_OPERATED[name]
    outcome = operated.measure(
        scenario, quick=options.quick, rounds=options.rounds, cpus=cpus, scratch=scratch, say=_say
    )
    return Finding(
        markdown=operated.markdown(outcome), data=operated.as_data(outcome), failed=outcome.failure is not None
    )


def _ledger(options: argparse.Namespace, scratch: Path) -> Finding:
    from . import ledger_rows  # imports SQLAlchemy

    _say("ledger: writing rows")
    found = ledger_rows.measure(rounds=options.rounds or (3 if options.quick else 9), scratch=scratch)
    failed = any(each.failure is not None for each in found)
    data = {"scenario": "ledger", "databases": [attrs.asdict(each) for each in found]}
    return Finding(markdown=ledger_rows.markdown(found), data=data, failed=failed)


def _decision(options: argparse.Namespace, cpus: Placement) -> Finding:
    from . import decision  # imports the router: not needed to measure anything else

    _say("decision: asking the router")
    with pinned(cpus.gateway):
        costs = decision.measure(rounds=10 if options.quick else 40)
    data = {"scenario": "decision", "costs": [attrs.asdict(cost) for cost in costs]}
    return Finding(markdown=decision.markdown(costs), data=data)


def _processes(options: argparse.Namespace, cpus: Placement) -> Finding:
    from . import processes  # imports the adapters: not needed to measure anything else

    _say("processes: asking a process and a provider over HTTP")
    costs = processes.measure(rounds=options.rounds or (3 if options.quick else 9), cpus=cpus)
    data = {"scenario": "processes", "costs": [attrs.asdict(cost) for cost in costs]}
    return Finding(markdown=processes.markdown(costs), data=data, failed=processes.failed(costs))


def _write(file: Path, cpus: Placement, findings: Sequence[Finding]) -> None:
    machine = {
        **describe(),
        "commit": _commit(),
        **versions(),
        "gateway_cpus": ",".join(map(str, sorted(cpus.gateway))),
        "other_cpus": ",".join(map(str, sorted(cpus.others))),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    outcomes = {each.outcome.scenario.name: each.outcome for each in findings if each.outcome is not None}
    data = {
        "machine": machine,
        "goals": goals.as_data(outcomes),
        "scenarios": [finding.data for finding in findings],
    }
    file.write_bytes(msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")
    facts = [f"- {name}: {value}" for name, value in machine.items()]
    tables = [finding.markdown for finding in findings]
    file.with_suffix(".md").write_text("\n".join(["# Bench", "", *facts, "", goals.markdown(outcomes), *tables]))
    drawn = plot([finding.outcome for finding in findings if finding.outcome is not None])
    if drawn is not None:
        file.with_suffix(".svg").write_text(drawn)
    print(f"written: {file} and what lies beside it", file=sys.stderr)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
