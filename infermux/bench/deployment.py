"""A deployment that is there already: where it is, what the load will cost, whose processes it is."""

from __future__ import annotations

import ipaddress
import math
import socket

import attrs

from . import accounting
from .accounting import Tree
from .figures import DIRECT
from .load import place_of
from .rounds import Target
from .scenario import Scenario

CHARACTERS_PER_TOKEN = 4
FEW = 100  # requests a round of a closed loop sends to what costs money, where nobody said how many


@attrs.frozen(kw_only=True)
class Deployment:
    """`direct` is what stands behind it, asked in turns with it; `pid` a process of its, where that cannot be seen."""

    url: str
    model: str
    key: str | None = attrs.field(default=None, repr=False)
    direct: str | None = None
    direct_model: str | None = None
    direct_key: str | None = attrs.field(default=None, repr=False)
    pid: int | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url,) if self.direct is None else (self.direct, self.url)

    @property
    def is_local(self) -> bool:
        """Whether all that is asked is on this machine."""
        return all(map(is_loopback, self.urls))

    def targets(self) -> tuple[Target, ...]:
        """Direct comes first. Each is warmed up by the one request before the load only: it may cost money."""
        own = Target(
            name="server",
            url=self.url,
            key=self.key,
            model=self.model,
            tree=self._tree(),
            through=False,
            warm_up_seconds=0.0,
        )
        if self.direct is None:
            return (own,)
        behind = attrs.evolve(
            own, name=DIRECT, url=self.direct, key=self.direct_key, model=self.direct_model or self.model, tree=None
        )
        return (behind, own)

    def _tree(self) -> Tree | None:
        if self.pid is not None:
            return frozenset({self.pid})
        return accounting.listeners(place_of(self.url).port) or None if is_loopback(self.url) else None


def is_loopback(url: str) -> bool:
    """Whether every address of its host is this machine's own."""
    place = place_of(url)
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def load_alone(scenario: Scenario) -> Scenario:
    """For a deployment: its providers, faults and limits are its own, and the title does not say otherwise."""
    if scenario.is_plain:
        return scenario
    return attrs.evolve(scenario, title=f"{scenario.title} (the load alone: the server is as it is)")


@attrs.frozen(kw_only=True)
class Cost:
    """At most so many."""

    requests: int
    tokens_in: int
    tokens_out: int


def bounded(scenario: Scenario) -> Scenario:
    """A closed loop has no bound but time; for what costs money it gets one."""
    return scenario if scenario.rate or scenario.requests else attrs.evolve(scenario, requests=FEW)


def cost(scenario: Scenario, *, targets: int) -> Cost:
    """Of all rounds of all targets, with the one request before them, for a scenario that is `bounded`."""
    load = scenario.load(exact=False)
    bounds = [math.ceil(load.rate * load.seconds)] if load.rate else []
    bounds += [load.requests] if load.requests >= 0 else []
    requests = (min(bounds) * scenario.rounds + 1) * targets
    tokens_in = math.ceil(len(load.body) / CHARACTERS_PER_TOKEN)
    tokens_out = 0 if scenario.api == "embeddings" else scenario.tokens
    return Cost(requests=requests, tokens_in=requests * tokens_in, tokens_out=requests * tokens_out)
