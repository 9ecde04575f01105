"""The router that is started for a scenario: its configuration is valid, and it is what the scenario says."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from infermux.bench.load import local
from infermux.bench.own import CannotServe, configuration, merged
from infermux.bench.scenario import Limited, Scenario, Server
from infermux.config import Config, load_text
from tests.bench._made import SCENARIOS


def config_of(scenario: Scenario, upstream: str | None = local(9)) -> Config:
    return load_text(json.dumps(configuration(scenario, port=8080, upstream=upstream)), environ={})


FEW = [name for name, each in SCENARIOS.items() if each.server.providers + each.server.others < 1000]


@pytest.mark.parametrize("name", FEW)
def test_every_scenario_has_a_configuration_that_is_accepted(name: str) -> None:
    scenario = SCENARIOS[name]
    config = config_of(scenario)
    assert len(config.providers) == scenario.server.providers + scenario.server.others
    assert (config.listen, config.ledger.url) == ("127.0.0.1:8080", None)
    assert {provider.type for provider in config.providers} == {scenario.server.type}


def test_some_fail_some_are_limited_some_serve_something_else() -> None:
    server = attrs.evolve(SCENARIOS["failover"].server, limited=Limited(providers=2, requests_per_minute=7), others=1)
    config = config_of(attrs.evolve(SCENARIOS["failover"], server=server))
    assert ["/faulty" in (each.base_url or "") for each in config.providers] == [True, False, False, False, False]
    assert [each.rate_limits.requests_per_minute == 7 for each in config.providers] == [True, True, *[False] * 3]
    assert [each.models for each in config.providers] == [("bench-model",)] * 4 + [("other-4",)]


def test_without_the_mock_providers_are_simulated_ones() -> None:
    scenario = attrs.evolve(SCENARIOS["stream-16"], server=Server(limited=Limited(), providers=2))
    config = config_of(scenario, upstream=None)
    assert [each.type for each in config.providers] == ["simulated", "simulated"]
    assert config.providers[0].rate_limits.requests_per_minute == 600
    assert config.providers[0].simulate.tokens_per_second == 50


@pytest.mark.parametrize("name", ["failover", "translated-chat"])
def test_what_simulated_providers_cannot_be_needs_the_mock(name: str) -> None:
    with pytest.raises(CannotServe, match="no C compiler"):
        configuration(SCENARIOS[name], port=1, upstream=None)


@pytest.mark.parametrize(
    ("below", "above", "both"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
    ],
)
def test_keys_are_merged_into_what_is_there(below: dict[str, Any], above: dict[str, Any], both: dict[str, Any]) -> None:
    assert merged(below, above) == both
