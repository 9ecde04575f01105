"""`simulate`: an hour of traffic in seconds, against the configured providers as if they were simulated ones."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import click

from infermux.config import Config, load_checked
from infermux.config.settings import LogSettings
from infermux.config.values import duration

from . import options
from .output import print_json, print_table, print_warnings

if TYPE_CHECKING:
    from infermux.simulation.faults import Fault, Pace
    from infermux.simulation.report import Report, Spread
    from infermux.simulation.traffic import Request

RATE = 10.0
DURATION = "1h"


@click.command()
@click.argument("path", metavar="[CONFIG]", required=False)
@options.demo
@options.as_json
@click.option("--trace", metavar="FILE", help="JSON lines, one request each; without it requests are made up.")
@click.option("--rate", type=float, metavar="N", help=f"Made-up requests a second, at random. Default {RATE:g}.")
@click.option("--duration", "length", metavar="TIME", help=f"How long they come for. Default {DURATION}.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Ask for this model; repeatable. Default: all.")
@click.option("--fault", "faults", multiple=True, metavar="NAME=KIND@FROM..TO", help="Such as openai=429@10m..12m.")
@click.option("--latency", "latencies", multiple=True, metavar="NAME=TIME", help="A provider's usual first token.")
@click.option("--speed", "speeds", multiple=True, metavar="NAME=N", help="A provider's usual tokens per second.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same result.")
def simulate(
    *,
    path: str | None,
    demo: bool,
    as_json: bool,
    trace: str | None,
    rate: float | None,
    length: str | None,
    models: tuple[str, ...],
    faults: tuple[str, ...],
    latencies: tuple[str, ...],
    speeds: tuple[str, ...],
    seed: int,
) -> None:
    """Play traffic against CONFIG on a virtual clock: its router, limits and circuits, but simulated providers."""
    from infermux.logs import set_up_logging
    from infermux.simulation.engine import Scenario, play
    from infermux.simulation.report import report

    if trace is not None and (rate is not None or length is not None or models):
        raise click.UsageError("--trace says which requests come and when; leave --rate, --duration, --model out")
    config = _config(path, demo)
    set_up_logging(LogSettings(level="error"))  # what happens is in the report, not in a log without its time
    names = [provider.name for provider in config.providers]
    scenario = Scenario(
        config=config,
        faults=_faults(faults, names),
        paces=_paces(config, latencies, speeds),
        requests=_made_up(config, rate, length, models, seed) if trace is None else _traced(trace),
        seed=seed,
    )
    began = time.perf_counter()
    played = play(scenario)
    made = report(played, seed=seed)
    took = time.perf_counter() - began
    if as_json:
        print_json(attrs.asdict(made))
    else:
        _print(made)
    sys.stdout.flush()
    click.echo(f"{made.seconds:.0f} s took {took:.1f} s", err=True)  # the only thing that differs from run to run


def _config(path: str | None, demo: bool) -> Config:
    if demo:
        if path is not None:
            raise click.UsageError("--demo brings its own configuration; leave CONFIG out")
        from infermux.config.demo import demo_config

        return demo_config()
    config, warnings = load_checked(path)
    print_warnings(warnings)
    return config


def _wrong(option: str, problem: object) -> NoReturn:
    raise click.BadParameter(str(problem), param_hint=option)


def _traced(trace: str) -> Iterable[Request]:
    from infermux.simulation.traffic import TraceError, read_trace

    try:
        return read_trace(Path(trace).read_bytes(), trace)
    except TraceError as error:
        _wrong("--trace", error)
    except OSError as error:
        _wrong("--trace", f"{trace} cannot be read: {error.strerror}")


def _made_up(
    config: Config, rate: float | None, length: str | None, models: Sequence[str], seed: int
) -> Iterable[Request]:
    from infermux.simulation.traffic import poisson

    if rate is not None and not 0 < rate <= 100_000:
        _wrong("--rate", f"{rate:g} is no number of requests a second: above 0, at most 100000")
    try:
        seconds = duration(DURATION if length is None else length)
    except ValueError:
        _wrong("--duration", f"{length!r} is not a duration such as 90s, 10m or 1h30m")
    asked = tuple(models) or _declared(config)
    return poisson(asked, rate=RATE if rate is None else rate, duration=seconds, rng=random.Random(f"{seed} traffic"))


def _declared(config: Config) -> tuple[str, ...]:
    """Every model and alias, in the order of the file; chat is what is simulated."""
    names = (
        name for provider in config.providers for name in (*(provider.models or ()), *provider.model_aliases.keys())
    )
    found = tuple(dict.fromkeys(name for name in names if "embed" not in name.lower()))
    if not found:
        _wrong("--model", "no provider declares a model; name one that requests are to ask for")
    return found


def _faults(given: Sequence[str], names: Sequence[str]) -> list[Fault]:
    from infermux.simulation.faults import parse_fault

    found: list[Fault] = []
    for text in given:
        try:
            found.append(parse_fault(text, names))
        except ValueError as error:
            _wrong("--fault", error)
    return found


def _paces(config: Config, latencies: Sequence[str], speeds: Sequence[str]) -> Mapping[str, Pace]:
    from infermux.simulation.faults import pace_of

    paces = {provider.name: pace_of(provider) for provider in config.providers}
    for name, value in _assigned("--latency", latencies, list(paces), "300ms"):
        try:
            paces[name] = attrs.evolve(paces[name], first_token=duration(value))
        except ValueError:
            _wrong("--latency", f"{value!r} is not a duration such as 300ms or 1.5s")
    for name, value in _assigned("--speed", speeds, list(paces), "80"):
        if not value.isdecimal() or not 0 < int(value) <= 1_000_000:
            _wrong("--speed", f"{value!r} is no number of tokens per second: a whole one above 0")
        paces[name] = attrs.evolve(paces[name], tokens_per_second=float(value))
    return paces


def _assigned(option: str, given: Sequence[str], names: Sequence[str], example: str) -> list[tuple[str, str]]:
    from infermux.simulation.faults import parse_assigned

    try:
        return [parse_assigned(text, names, example) for text in given]
    except ValueError as error:
        _wrong(option, error)


def _print(made: Report) -> None:
    rows: list[tuple[str, str]] = [
        ("simulated", f"{made.seconds:.0f} s, seed {made.seed}"),
        ("requests", str(made.requests)),
        ("whole answers", f"{made.answered} ({made.success:.2%} of those whose callers stayed)"),
        ("rejected by the router", str(made.rejected)),
        ("callers that left", str(made.left)),
        ("attempts per request", f"{made.attempts:.3f}"),
        ("cost", f"${made.cost:.4f}"),
        ("latency p50 p95 p99", _spread(made.latency)),
        ("first token p50 p95 p99", _spread(made.first_token)),
    ]
    print_table(("WHAT", "VALUE"), rows)
    click.echo()
    print_table(
        ("PROVIDER", "MODEL", "ANSWERS", "SHARE", "TOKENS IN", "TOKENS OUT", "COST", "LATENCY P50 P95 P99"),
        [
            (
                row.provider,
                row.model,
                str(row.answered),
                f"{row.share:.1%}",
                str(row.prompt_tokens),
                str(row.completion_tokens),
                f"${row.cost:.4f}",
                _spread(row.latency),
            )
            for row in made.providers
        ],
    )
    if made.errors:
        click.echo()
        print_table(("ERROR", "REQUESTS"), [(code, str(count)) for code, count in made.errors.items()])


def _spread(spread: Spread) -> str:
    return " ".join("-" if value is None else _milliseconds(value) for value in attrs.astuple(spread))


def _milliseconds(value: Any) -> str:
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
