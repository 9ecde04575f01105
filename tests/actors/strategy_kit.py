"""Options and readings that the tests of the strategies share."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from infermux.actors.messages import Ewma, Standing, Want
from infermux.actors.penalty import Penalty
from infermux.actors.strategies import make_strategy
from infermux.actors.strategy import Choice, Option, Strategy
from infermux.config.settings import LeastLatency, Price, Routing

NOW = 1000.0
WANT = Want("m", prompt_tokens=100)


def make(name: str, seed: int = 1, **least_latency: int | str) -> Strategy:
    routing = Routing(least_latency=LeastLatency(**least_latency))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return make_strategy(name, routing, rng=random.Random(seed))


def option(
    index: int,
    *,
    weight: float = 1.0,
    load: int = 0,
    standing: Standing | None = None,
    price: Price | None = None,
    name: str | None = None,
) -> Option:
    return Option(name or "abcdefghijklmnopqrstuvwxyz"[index], "m", standing or Standing(), index, load, weight, price)


def measured(seconds: float, samples: int = 100, *, failures: int = 0, exploring: bool = False) -> Standing:
    penalty = Penalty()
    for _ in range(failures):
        penalty.failed(NOW)
    return Standing(response=Ewma(seconds, samples), penalty=penalty.level, penalty_at=penalty.at, exploring=exploring)


def names(choices: Sequence[Choice]) -> str:
    return "".join(choice.option.provider for choice in choices)


def firsts(strategy: Strategy, options: Callable[[], Sequence[Option]], times: int, want: Want = WANT) -> Counter[str]:
    return Counter(strategy.order(options(), want, NOW)[0].option.provider for _ in range(times))
