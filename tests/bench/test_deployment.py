"""A deployment that is there: who it is, whether it is ours, what asking it comes to."""

from __future__ import annotations

import os
import socket

import attrs
import pytest

from infermux.bench import accounting
from infermux.bench.deployment import FEW, Cost, Deployment, bounded, cost, is_loopback, load_alone
from tests.bench._made import SCENARIOS


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080/v1", True),
        ("http://192.0.2.1/v1", False),
        ("http://0.0.0.0:8080/v1", False),
        ("https://gateway.invalid/v1", False),
    ],
)
def test_only_loopback_is_this_machine(url: str, is_ours: bool) -> None:
    assert is_loopback(url) is is_ours
    assert Deployment(url="http://127.0.0.1:1/v1", model="m", direct=url).is_local is is_ours


def test_a_server_on_this_machine_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert accounting.listeners(port) == {os.getpid()}
        (target,) = Deployment(url=f"http://127.0.0.1:{port}/v1", model="m").targets()
        assert target.tree == frozenset({os.getpid()})
    assert accounting.listeners(port) == frozenset()
    assert Deployment(url=f"http://127.0.0.1:{port}/v1", model="m").targets()[0].tree is None


def test_a_process_can_be_named() -> None:
    (target,) = Deployment(url="http://192.0.2.1/v1", model="m", pid=os.getpid()).targets()
    assert target.tree == frozenset({os.getpid()})
    assert accounting.cpu_ns(frozenset({os.getpid()})) > 0
    assert accounting.memory(frozenset({os.getpid()})).resident > 1000


def test_direct_is_asked_first_with_a_key_and_a_model_of_its_own() -> None:
    both = Deployment(
        url="http://127.0.0.1:1/v1",
        model="smart",
        key="sk-gateway",
        direct="http://127.0.0.1:2/v1",
        direct_model="gpt",
        direct_key="sk-provider",
    )
    direct, server = both.targets()
    assert (direct.name, direct.url, direct.model, direct.key) == ("direct", both.direct, "gpt", "sk-provider")
    assert (server.name, server.url, server.model, server.key) == ("server", both.url, "smart", "sk-gateway")
    assert "sk-" not in repr(both) + repr(direct)


def test_a_closed_loop_gets_a_bound_where_it_costs_money() -> None:
    assert bounded(SCENARIOS["whole-16"]).requests == FEW
    assert bounded(attrs.evolve(SCENARIOS["whole-16"], requests=5)).requests == 5
    assert bounded(SCENARIOS["open-500"]).requests is None


def test_what_it_comes_to_is_the_most_it_can_be() -> None:
    scenario = attrs.evolve(SCENARIOS["whole-16"], requests=10, rounds=3, prompt=4000, tokens=20)
    assert cost(scenario, targets=2) == Cost(requests=62, tokens_in=62_000, tokens_out=1240)
    opened = attrs.evolve(scenario, requests=None, rate=2.5, seconds=3.0)
    assert cost(opened, targets=1).requests == 8 * 3 + 1
    assert cost(attrs.evolve(opened, requests=4), targets=1).requests == 4 * 3 + 1
    assert cost(attrs.evolve(scenario, api="embeddings"), targets=1).tokens_out == 0


def test_a_title_does_not_say_of_a_deployment_what_only_a_router_of_ours_would_be() -> None:
    assert load_alone(SCENARIOS["failover"]).title.endswith("with 503 (the load alone: the server is as it is)")
    assert load_alone(SCENARIOS["streams-1000"]) == SCENARIOS["streams-1000"]
