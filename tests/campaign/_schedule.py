"""A random schedule: providers, traffic, faults and what an operator does meanwhile, all of one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

from infermux.config.settings import (
    CircuitBreaker,
    Config,
    HealthCheck,
    ProviderSettings,
    RateLimits,
    Retry,
    Routing,
    Simulate,
    Timeouts,
)
from infermux.simulation.faults import Fault, parse_fault
from infermux.simulation.traffic import Request

STRATEGIES = (
    "round_robin",
    "least_latency",
    "cost_weighted",
    "random",
    "priority",
    "least_busy",
    "peak_ewma",
    "sticky",
)
VERBS = ("enable", "disable", "drain", "probe", "reset")
KINDS = ("429", "500", "503", "401", "404", "refuse", "reset", "hang", "malformed", "cut(3)", "stall(2)", "slow(x8)")
NAMES = ("a", "b", "c", "d")
SECONDS = 30.0


@attrs.frozen(kw_only=True)
class Operation:
    """Something done to the fleet at a time: a verb on a provider, `add`, `remove`, `reload`."""

    at: float
    what: str
    provider: str = ""
    settings: ProviderSettings | None = None
    grace: float = 0.0
    config: Config | None = None

    def __str__(self) -> str:
        named = "" if self.config is None else ", ".join(each.name for each in self.config.providers)
        return f"{self.at:7.3f} {self.what} {self.provider}{named}"


@attrs.frozen(kw_only=True)
class Schedule:
    seed: int
    config: Config
    requests: Sequence[Request]
    faults: Sequence[Fault]
    operations: Sequence[Operation]

    def __str__(self) -> str:
        names = ", ".join(provider.name for provider in self.config.providers)
        lines = [f"seed {self.seed}: {self.config.routing.strategy} over {names}, {len(self.requests)} requests"]
        lines += [f"{f.start:7.3f} fault {f.provider} until {f.end:.3f}: {f.step} slow={f.slow}" for f in self.faults]
        lines += [str(operation) for operation in self.operations]
        return "\n".join(lines)


def schedule(seed: int) -> Schedule:
    """The schedule of a seed: the same one each time."""
    rng = random.Random(f"campaign {seed}")
    providers = tuple(_provider(name, rng) for name in NAMES[: rng.randint(2, 4)])
    config = Config(
        providers=providers,
        routing=Routing(strategy=rng.choice(STRATEGIES), fallbacks={"m": ("n",)} if rng.random() < 0.3 else {}),
        retry=Retry(max_attempts=rng.randint(1, 4)),
        shutdown_grace=rng.choice((0.0, 1.0, 5.0)),
    )
    return Schedule(
        seed=seed,
        config=config,
        requests=_requests(rng),
        faults=[_fault(rng) for _ in range(rng.randint(1, 6))],
        operations=sorted(
            (_operation(config, rng) for _ in range(rng.randint(0, 8))), key=lambda operation: operation.at
        ),
    )


def _provider(name: str, rng: random.Random) -> ProviderSettings:
    models = ("m",) if rng.random() < 0.6 else ("m", "n")
    total = rng.choice((None, None, 6.0))
    return ProviderSettings(
        name=name,
        type="simulated",
        models=models,
        weight=rng.choice((1.0, 1.0, 3.0)),
        timeout=rng.choice((2.0, 4.0)),
        timeouts=Timeouts(idle=rng.choice((0.5, 1.5)), total=total),
        rate_limits=RateLimits(
            requests_per_minute=rng.choice((None, None, 6, 40)),
            tokens_per_minute=rng.choice((None, None, 6000, 40_000)),
            max_concurrent=rng.choice((None, None, 2, 5)),
        ),
        health_check=HealthCheck(interval=rng.choice((2.0, 7.0)), timeout=1.0, disabled=rng.random() < 0.4),
        circuit_breaker=CircuitBreaker(
            consecutive_failures=rng.choice((2, 5)),
            min_requests=5,
            recovery_window=rng.choice((0.5, 3.0)),
            probe_timeout=1.0,
        ),
        simulate=Simulate(
            first_token=rng.choice((0.02, 0.1, 0.6)),
            tokens_per_second=rng.choice((0.0, 40.0, 400.0)),
            failure_rate=rng.choice((0.0, 0.0, 0.1, 0.5)),
        ),
    )


def _requests(rng: random.Random) -> list[Request]:
    """Some spread out, some in a burst at one moment."""
    burst = rng.uniform(0, SECONDS)
    ats = sorted([rng.uniform(0, SECONDS) for _ in range(40)] + [burst] * rng.choice((0, 10, 30)))
    return [_request(at, rng) for at in ats]


def _request(at: float, rng: random.Random) -> Request:
    return Request(
        at=at,
        model=rng.choice(("m", "m", "m", "n", "auto", "nobody's")),
        stream=rng.random() < 0.6,
        prompt_tokens=rng.randint(20, 300),
        completion_tokens=rng.randint(1, 150),
        max_tokens=rng.choice((None, None, 5, 500)),
        timeout=rng.choice((None, None, 0.3, 2.0, 10.0)),
        leaves_after=rng.choice((None, None, None, None, rng.uniform(0.0, 2.0))),
    )


def _fault(rng: random.Random) -> Fault:
    start = rng.uniform(0, SECONDS)
    end = start + rng.uniform(0.5, 8)
    return parse_fault(f"{rng.choice(NAMES)}={rng.choice(KINDS)}@{start:.3f}..{end:.3f}", NAMES)


def _operation(config: Config, rng: random.Random) -> Operation:
    at = round(rng.uniform(0, SECONDS), 3)
    name = rng.choice(NAMES)
    what = rng.choice((*VERBS, "add", "remove", "reload"))
    match what:
        case "add":
            return Operation(at=at, what=what, provider=name, settings=_provider(name, rng))
        case "remove":
            return Operation(at=at, what=what, provider=name, grace=rng.choice((0.0, 0.5, 3.0)))
        case "reload":
            return Operation(at=at, what=what, config=_changed(config, rng))
        case _:
            return Operation(at=at, what=what, provider=name)


def _changed(config: Config, rng: random.Random) -> Config:
    """Another declaration: providers come, go, and change in what does not move a limit that is being measured."""
    providers = [provider for provider in config.providers if rng.random() < 0.8] or [config.providers[0]]
    changed = [
        attrs.evolve(each, weight=rng.choice((1.0, 2.0)), timeout=rng.choice((2.0, 4.0)))
        if rng.random() < 0.5
        else each
        for each in providers
    ]
    return attrs.evolve(config, providers=tuple(changed), routing=Routing(strategy=rng.choice(STRATEGIES)))
