"""What a scenario comes to, in numbers: the actors are the real ones."""

from __future__ import annotations

import random

import attrs
import pytest

from infermux.config import load_text
from infermux.config.settings import Config
from infermux.simulation.engine import Record, Scenario, play
from infermux.simulation.faults import Fault, Pace, parse_fault
from infermux.simulation.report import Report, Spread, report, spread
from infermux.simulation.traffic import Request, poisson

CONFIG = """\
routing: {strategy: priority}
pricing: {a: {m: {input_per_million: 1, output_per_million: 10}}}
providers:
  - {name: a, type: openai, api_key: key, models: [m]}
  - {name: b, type: ollama, models: [m], health_check: {disabled: true}}
"""


@pytest.fixture
def config() -> Config:
    return load_text(CONFIG, environ={})


def played(config: Config, *requests: Request, faults: tuple[str, ...] = (), seed: int = 1) -> list[Record]:
    found = [parse_fault(fault, ("a", "b")) for fault in faults]
    return list(play(Scenario(config=config, requests=requests, faults=found, seed=seed)).records)


def test_a_whole_answer_has_its_provider_latency_usage_and_cost(config: Config) -> None:
    (record,) = played(config, Request(at=5.0, model="m", prompt_tokens=100, completion_tokens=50))
    assert (record.code, record.provider, record.model, record.attempts) == (None, "a", "m", 1)
    assert record.usage is not None
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (100, 50)
    assert record.cost == pytest.approx((100 * 1 + 50 * 10) / 1e6)
    assert 0.5 < record.latency < 3  # 200 ms and 50 tokens at 50 a second, with jitter


def test_a_stream_has_a_first_token(config: Config) -> None:
    (record,) = played(config, Request(at=0.0, model="m", stream=True))
    assert record.code is None
    assert record.first_token is not None
    assert 0.08 < record.first_token < record.latency


@pytest.mark.parametrize("kind", ["429", "503", "refuse", "malformed", "reset", "cut(0)"])
def test_a_fault_sends_the_request_to_the_other_provider(config: Config, kind: str) -> None:
    before, during, after = played(
        config, *(Request(at=at, model="m") for at in (1.0, 101.0, 301.0)), faults=(f"a={kind}@100s..110s",)
    )
    assert [record.provider for record in (before, during, after)] == ["a", "b", "a"]
    assert during.attempts >= 2


def test_a_cut_stream_is_an_error_and_names_who_broke_it(config: Config) -> None:
    (record,) = played(
        config, Request(at=1.0, model="m", stream=True, completion_tokens=100), faults=("a=cut(40)@0..",)
    )
    assert record.code == "upstream_error"
    assert record.provider == "a"


def test_slow_stretches_the_answer(config: Config) -> None:
    usual, slow = (
        played(config, Request(at=1.0, model="m"), faults=faults)[0].latency for faults in ((), ("a=slow(x4)",))
    )
    assert slow == pytest.approx(4 * usual)


def test_who_leaves_is_no_failure_and_a_deadline_is(config: Config) -> None:
    left, late = played(
        config,
        Request(at=1.0, model="m", leaves_after=0.05, stream=True),
        Request(at=2.0, model="m", timeout=0.1),
    )
    assert (left.code, late.code) == ("caller_left", "deadline_exceeded")
    assert [left.latency, late.latency] == pytest.approx([0.05, 0.1])


def test_a_model_that_nobody_has_is_an_error_by_its_code(config: Config) -> None:
    (record,) = played(config, Request(at=1.0, model="x"))
    assert (record.code, record.provider, record.attempts) == ("model_not_found", None, 0)


def _numbers(config: Config, seed: int) -> Report:
    requests = list(poisson(("m",), rate=5, duration=60, rng=random.Random(seed)))
    faults = [parse_fault("a=429@20s..30s", ("a", "b")), Fault("b", slow=3.0)]
    paces = {"b": Pace(0.1, 200.0)}
    return report(play(Scenario(config=config, requests=requests, faults=faults, paces=paces, seed=seed)), seed=seed)


def test_the_same_seed_gives_the_same_numbers_and_another_others(config: Config) -> None:
    first = _numbers(config, 1)
    assert first == _numbers(config, 1) != _numbers(config, 2)
    assert first.answered == first.requests > 200
    assert [row.provider for row in first.providers] == ["a", "b"]
    assert sum(row.share for row in first.providers) == pytest.approx(1, abs=0.001)
    assert first.cost == pytest.approx(first.providers[0].cost)


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert spread([]) == Spread(p50=None, p95=None, p99=None)
    assert spread([0.001 * n for n in range(1, 101)]) == Spread(p50=50.0, p95=95.0, p99=99.0)
    assert attrs.astuple(spread([0.25])) == (250.0, 250.0, 250.0)
