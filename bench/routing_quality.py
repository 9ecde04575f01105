"""How well each strategy routes: three providers, faults, and one of them ten times slower for some minutes.

`make routing-quality`. On the virtual clock (`infermux.simulation`), so nothing here depends on the machine: the same
seed writes the same files. What is compared is only where requests are sent; the providers have no limits.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from bench.routing_plot import Curve, Panel, plot
from infermux.config.settings import Config, HealthCheck, Price, ProviderSettings, Routing, Simulate
from infermux.simulation.engine import Record, Scenario, play
from infermux.simulation.faults import Fault
from infermux.simulation.report import Spread, spread
from infermux.simulation.traffic import poisson

RESULTS = Path(__file__).parent / "results"
STRATEGIES = (
    "round_robin",
    "random",
    "priority",
    "cost_weighted",
    "least_busy",
    "least_latency",
    "peak_ewma",
    "sticky",
)
FIRST_TOKEN = {"fast": 0.1, "middle": 0.3, "slow": 1.0}  # seconds, the median
PRICES = {"fast": 3.0, "middle": 2.0, "slow": 1.0}  # dollars per million tokens: what is slower is cheaper
FAILURE_RATE = 0.02
SLOWER = 10.0
MODEL = "m"


@attrs.frozen(kw_only=True)
class Plan:
    """`rate` requests a second for `seconds`; the fast provider is slow `from_` a time `to` another; the step of the
    plot is `bucket` seconds."""

    seed: int = 1
    rate: float = 5.0
    seconds: float = 900.0
    slow_from: float = 300.0
    slow_to: float = 540.0
    bucket: float = 30.0


@attrs.frozen(kw_only=True)
class Result:
    """One strategy. `share` by provider, of whole answers, over all and in the brown-out."""

    strategy: str
    requests: int
    success: float
    latency: Spread
    brown_out: Spread
    share: dict[str, float]
    brown_share: dict[str, float]
    curves: tuple[tuple[float, Spread], ...]


def config(strategy: str) -> Config:
    """The three providers, in the order in which somebody would write them down: the fast one first."""
    providers = tuple(
        ProviderSettings(
            name=name,
            type="simulated",
            models=(MODEL,),
            timeout=15.0,
            health_check=HealthCheck(disabled=True),
            simulate=Simulate(first_token=first_token, tokens_per_second=0, failure_rate=FAILURE_RATE),
        )
        for name, first_token in FIRST_TOKEN.items()
    )
    pricing = {name: {MODEL: Price(input_per_million=p, output_per_million=4 * p)} for name, p in PRICES.items()}
    return Config(providers=providers, routing=Routing(strategy=strategy), pricing=pricing)


def measure(strategy: str, plan: Plan) -> Result:
    """Play the same traffic and faults under `strategy`."""
    rng = random.Random(f"{plan.seed} traffic")
    scenario = Scenario(
        config=config(strategy),
        requests=poisson((MODEL,), rate=plan.rate, duration=plan.seconds, rng=rng, streamed=0.0),
        faults=[Fault("fast", slow=SLOWER, start=plan.slow_from, end=plan.slow_to)],
        seed=plan.seed,
    )
    records = play(scenario).records
    whole = [record for record in records if record.code is None]
    brown = [record for record in whole if plan.slow_from <= record.request.at < plan.slow_to]
    return Result(
        strategy=strategy,
        requests=len(records),
        success=len(whole) / len(records),
        latency=_spread(whole),
        brown_out=_spread(brown),
        share=_share(whole),
        brown_share=_share(brown),
        curves=_curves(whole, plan),
    )


def _spread(records: Sequence[Record]) -> Spread:
    return spread([record.latency for record in records])


def _share(records: Sequence[Record]) -> dict[str, float]:
    return {name: sum(record.provider == name for record in records) / len(records) for name in FIRST_TOKEN}


def _curves(records: Sequence[Record], plan: Plan) -> tuple[tuple[float, Spread], ...]:
    steps = round(plan.seconds / plan.bucket)
    buckets: list[list[Record]] = [[] for _ in range(steps)]
    for record in records:
        buckets[min(int(record.request.at / plan.bucket), steps - 1)].append(record)
    return tuple(((at + 0.5) * plan.bucket, _spread(found)) for at, found in enumerate(buckets))


def markdown(results: Sequence[Result], plan: Plan) -> str:
    """The table, with what was measured above it."""
    lines = [
        "# How well each strategy routes",
        "",
        f"Made by `make routing-quality`: {plan.rate:g} requests a second for {plan.seconds / 60:g} minutes of virtual",
        f"time, seed {plan.seed}. Three providers whose answers take 100, 300 and 1000 ms (`fast`, `middle`, `slow`;",
        f"log-normal), each failing {FAILURE_RATE:.0%} of its requests with a 500 at once, none with a limit. From",
        f"minute {plan.slow_from / 60:g} to {plan.slow_to / 60:g} `fast` takes {SLOWER:g} times as long. The slower,",
        "the cheaper.",
        "Times in milliseconds, of whole answers; in the brown-out in brackets.",
        "",
        "| strategy | success | p50 | p99 | fast | middle | slow |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        shares = " | ".join(f"{r.share[name]:.0%} ({r.brown_share[name]:.0%})" for name in FIRST_TOKEN)
        p50 = f"{r.latency.p50:.0f} ({r.brown_out.p50:.0f})"
        p99 = f"{r.latency.p99:.0f} ({r.brown_out.p99:.0f})"
        lines.append(f"| `{r.strategy}` | {r.success:.2%} | {p50} | {p99} | {shares} |")
    return "\n".join([*lines, "", "![p50 and p99 over time](routing-quality.svg)", ""])


def drawn(results: Sequence[Result], plan: Plan) -> str:
    """The plot: p50 and p99 over time, one panel per strategy."""
    panels = [
        Panel(
            title=result.strategy,
            curves=(
                Curve("p99", "#c0392b", [(at, value.p99) for at, value in result.curves if value.p99]),
                Curve("p50", "#1f618d", [(at, value.p50) for at, value in result.curves if value.p50]),
            ),
        )
        for result in results
    ]
    return plot(panels, seconds=plan.seconds, shaded=(plan.slow_from, plan.slow_to))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.routing_quality", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    plan = Plan(seed=given.seed)
    began = time.perf_counter()
    results = [measure(strategy, plan) for strategy in STRATEGIES]
    (given.out / "routing-quality.md").write_text(markdown(results, plan), encoding="utf-8")
    (given.out / "routing-quality.svg").write_text(drawn(results, plan), encoding="utf-8")
    print(markdown(results, plan))
    print(f"{len(results)} strategies in {time.perf_counter() - began:.0f} s; written to {given.out}")


if __name__ == "__main__":
    main()
