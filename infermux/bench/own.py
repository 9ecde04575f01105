"""The router that is started where no URL is given: `infermux serve`, and behind it the mock or simulated providers."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from .callers import MODEL
from .figures import DIRECT
from .load import local
from .machine import Placement
from .preflight import wait_until_it_answers
from .process import free_port, running
from .rounds import Target
from .scenario import Scenario, Server
from .upstream import Faults, Upstream, upstream

OWN = "infermux"
_STARTS_WITHIN = 60.0
_SHORTEST = 1e-6  # seconds a token
_NO_DIRECT = frozenset({"responses"})  # APIs that the mock does not speak
_PLENTY = {"requests_per_minute": 1_000_000_000, "tokens_per_minute": 1_000_000_000_000}
# Bedrock's own names of models; the others are asked for the bench's.
_MODELS = {"bedrock": "anthropic.claude-bench"}


class CannotServe(Exception):
    """This scenario needs what is not there. The message says what."""


@attrs.frozen(kw_only=True)
class World:
    """What was started for a scenario. `mock` None: the providers are simulated, in the router itself."""

    targets: tuple[Target, ...]
    mock: Upstream | None


@contextlib.contextmanager
def world(scenario: Scenario, *, cpus: Placement, scratch: Path, mocked: bool) -> Generator[World]:
    """Both up and answering. Raises CannotServe, CannotCompile, DidNotStart."""
    model = _MODELS.get(scenario.server.type, MODEL)
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(_mock(scenario, model, cpus, scratch)) if mocked else None
        folder = scratch / "server"  # of its own: nothing in the working directory may hide the package
        folder.mkdir(exist_ok=True)
        port, config = free_port(), folder / "infermux.yml"
        settings = configuration(scenario, port=port, upstream=None if mock is None else mock.base_url)
        config.write_text(json.dumps(settings, indent=2))  # JSON is YAML, and needs no quoting rules of ours
        words = [sys.executable, "-P", "-m", "infermux", "serve", "-c", str(config)]
        child = stack.enter_context(running(OWN, words, cpus=cpus.gateway, scratch=folder))
        load = attrs.evolve(scenario.load(), model=model, timeout=scenario.timeout)
        wait_until_it_answers(child, load, local(port), seconds=_STARTS_WITHIN)
        own = Target(name=OWN, url=local(port), model=model, tree=child.session, through=mock is not None)
        yield World(targets=own_and_direct(own, scenario, mock), mock=mock)


def own_and_direct(own: Target, scenario: Scenario, mock: Upstream | None) -> tuple[Target, ...]:
    """The mock itself comes first, where it speaks the scenario's API."""
    if mock is None or scenario.api in _NO_DIRECT:
        return (own,)
    return (attrs.evolve(own, name=DIRECT, url=mock.base_url, tree=None), own)


def _mock(
    scenario: Scenario, model: str, cpus: Placement, scratch: Path
) -> contextlib.AbstractContextManager[Upstream]:
    faulty = scenario.server.faulty
    faults = None
    if faulty is not None:
        faults = Faults(every=faulty.every, status=faulty.status or 0, retry_after=faulty.retry_after)
    return upstream(scenario.pace, cpus=cpus.others, scratch=scratch, model=model, faults=faults)


def configuration(scenario: Scenario, *, port: int, upstream: str | None) -> dict[str, Any]:
    """The router's infermux.yml. `upstream` is the mock's base URL, None: there is none. Raises CannotServe."""
    server = scenario.server
    providers = _simulated(scenario) if upstream is None else _mocked(server, upstream)
    for provider in providers[: 0 if server.limited is None else server.limited.providers]:
        assert server.limited is not None
        limits = provider.get("rate_limits", {})
        provider["rate_limits"] = {**limits, "requests_per_minute": server.limited.requests_per_minute}
    settings = {
        "listen": f"127.0.0.1:{port}",
        "log": {"level": "warn"},
        "ledger": {"url": None},  # nothing of the bench goes into the user's own
        "providers": providers,
    }
    return merged(settings, server.config)


def _names(server: Server) -> Iterator[tuple[int, str]]:
    """Each provider's number, and the one model that it serves."""
    model = _MODELS.get(server.type, MODEL)
    for number in range(server.providers + server.others):
        yield number, model if number < server.providers else f"other-{number}"


def _mocked(server: Server, upstream: str) -> list[dict[str, Any]]:
    """Providers that all are the mock; those that fail ask it below /faulty. Limits are set and never reached."""
    failing = 0 if server.faulty is None else server.faulty.providers
    return [_mock_entry(server, number, model, upstream, fails=number < failing) for number, model in _names(server)]


def _mock_entry(server: Server, number: int, model: str, upstream: str, *, fails: bool) -> dict[str, Any]:
    root = upstream.removesuffix("/v1") + ("/faulty" if fails else "")
    entry: dict[str, Any] = {
        "name": f"mock-{number}",
        "type": server.type,
        "api_key": "bench",
        "base_url": f"{root}/v1",
        "models": [model],
        "health_check": {"method": "models"},
        "rate_limits": _PLENTY,
    }
    if server.type == "bedrock":  # the mock lists no models as Bedrock does
        entry |= {"region": "us-east-1", "base_url": root, "health_check": {"method": "none"}}
    return entry


def _simulated(scenario: Scenario) -> list[dict[str, Any]]:
    """The same without a mock, as far as simulated providers can be that."""
    server = scenario.server
    if server.faulty is not None or server.type != "openai":
        missing = "there is no C compiler (Debian: apt-get install gcc libc6-dev)"
        raise CannotServe(f"it needs the mock upstream, which is written in C: {missing}")
    pace = {"first_token": server.first_token, "tokens_per_second": 1 / max(server.interval, _SHORTEST)}
    if not scenario.stream:
        pace = {"first_token": server.answer_after, "tokens_per_second": 1 / _SHORTEST}
    return [
        {"name": f"simulated-{number}", "type": "simulated", "models": [model], "simulate": pace}
        for number, model in _names(server)
    ]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, anything else is replaced."""
    made: dict[str, Any] = dict(below)
    for key, value in above.items():
        old = made.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        made[key] = merged(cast("Mapping[str, Any]", old), cast("Mapping[str, Any]", value)) if both else value
    return made
