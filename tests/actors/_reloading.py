"""A fleet whose every wire is kept, so that a test sees which was made for which declaration."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from infermux.actors.fleet import Fleet
from infermux.actors.member import Member
from infermux.actors.opening import open_fleet
from infermux.config.settings import Config, ProviderSettings, Routing
from infermux.errors import InfermuxError
from infermux.providers.interface import Answer
from tests.actors._scripted import PRIORITY, Scripted, Taken, World, streams

SLOW_STREAM = streams(*[b"x"] * 50, gap=1.0)


def config(*providers: ProviderSettings, routing: Routing = PRIORITY, **more: Any) -> Config:
    return Config(providers=providers, routing=routing, **more)


@attrs.define(eq=False)
class Reloading(World):
    """`made` are all wires in the order they were made; `wires` the last of each provider."""

    made: list[Scripted] = attrs.field(factory=list[Scripted])
    fails: set[str] = attrs.field(factory=set[str])  # providers whose wire cannot be made

    def member(self, name: str) -> Member:
        return self.fleet.members[name]

    def wire(self, settings: ProviderSettings) -> Scripted:
        if settings.name in self.fails:
            raise RuntimeError("told to fail")
        wire = self.wires[settings.name] = Scripted(settings.name)
        self.made.append(wire)
        return wire


async def stream_on(w: Reloading, ended: list[object]) -> None:
    """A stream to its end; appends how it ended."""
    run = w.run(stream=True)
    try:
        if not isinstance(await run.begin(), Answer):
            await run.pump(Taken())
        ended.append("whole")
    except InfermuxError as error:
        ended.append(error)
    finally:
        run.close()


@asynccontextmanager
async def reloading(*providers: ProviderSettings, seed: int = 1, **config: Any) -> AsyncGenerator[Reloading]:
    """The actors of these providers."""
    w: Reloading

    def adapter(settings: ProviderSettings) -> Scripted:
        return w.wire(settings)

    w = Reloading(fleet=_NONE, wires={})
    made = Config(providers=providers, **config)
    async with open_fleet(made, environ={}, rng=random.Random(seed), adapters=adapter) as fleet:
        w.fleet = fleet
        yield w


_NONE: Any = None


def shape(fleet: Fleet) -> dict[str, Any]:
    """What of a fleet a configuration decides."""
    return {
        "config": fleet.config,
        "settings": [member.settings for member in fleet.members.values()],
        "order": [(name, member.entry.index) for name, member in fleet.members.items()],
        "catalogue": [(entry.name, entry.index) for entry in fleet.catalogue.entries.values()],
        "names": list(fleet.catalogue.names()),
        "routing": [member.gate.routing for member in fleet.members.values()],
        "gates": [member.gate.settings for member in fleet.members.values()],
        "limits": [
            tuple(None if bucket is None else bucket.capacity for bucket in (member.gate.requests, member.gate.tokens))
            for member in fleet.members.values()
        ],
        "children": sorted(child.name for child in fleet.supervisor.statistics().children),
    }
