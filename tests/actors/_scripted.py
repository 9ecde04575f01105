"""Providers that do as they are told, and everything a test of the actors needs around them. All waiting is trio's."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import attrs
import trio

from infermux.actors.caller import Caller
from infermux.actors.dispatch import Run
from infermux.actors.fleet import Fleet
from infermux.actors.messages import Health, Reason, Want
from infermux.actors.opening import open_fleet
from infermux.actors.purse_keeper import BudgetStore
from infermux.actors.share import WHOLE, Share
from infermux.config.settings import Config, HealthCheck, ProbeMethod, ProviderSettings, Retry, Routing
from infermux.errors import FailureKind, InfermuxError, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, Stream, Usage
from infermux.providers.ratelimits import Quotas
from infermux.providers.transport import Stoppable
from infermux.secret import Secret
from infermux.shared.client import Shared

USAGE = Usage(prompt_tokens=10, completion_tokens=5)


@attrs.frozen(kw_only=True)
class Step:
    """What one request (or probe) meets: `seconds` later an answer, a stream, a failure, a bug; or nothing at all.

    `chunks` makes it a stream: the first comes with the answer's head, each later one `gap` seconds after the one
    before. `content_at` is the chunk that is the first with content. After the last chunk the stream ends, or `breaks`,
    or stays silent (`stalls`). `quotas` are what the answer's headers say, `response` the id it is kept by.
    """

    seconds: float = 0.0
    failure: UpstreamFailure | None = None
    bug: Exception | None = None
    hangs: bool = False
    chunks: tuple[bytes, ...] | None = None
    gap: float = 0.0
    content_at: int = 0
    breaks: Exception | None = None
    stalls: bool = False
    usage: Usage | None = USAGE
    body: bytes = b'{"choices":[]}'
    malformed_events: int = 0
    last_words: bytes | None = None
    quotas: Quotas | None = None
    response: str | None = None


NO_STAYING = Retry(same_provider=0)
PRIORITY = Routing(strategy="priority")

OK = Step()
HANGS = Step(hangs=True)


def fails(kind: FailureKind, *, seconds: float = 0.0, status: int | None = None, **more: Any) -> Step:
    return Step(seconds=seconds, failure=UpstreamFailure(kind, f"told to fail: {kind.value}", status=status, **more))


def breaking(message: str = "connection reset") -> UpstreamFailure:
    return UpstreamFailure(FailureKind.BROKEN, message)


SERVER_ERROR = fails(FailureKind.SERVER_ERROR, status=500)
RATE_LIMITED = fails(FailureKind.RATE_LIMITED, status=429)
CREDENTIALS = fails(FailureKind.CREDENTIALS, status=401)
NO_MODEL = fails(FailureKind.MODEL_NOT_FOUND, status=404, body=b'{"error":"no such model"}')


class Scripted:
    """An adapter that takes `script` step by step and then stays at `rest`; probes take `probes`, then `probe_rest`.

    `asked` is when each request came, with its call; `probed` when each probe did. `open` counts requests and streams
    that have not ended, `peak` the most at once, `cancelled` those that were left before their end.
    """

    def __init__(self, name: str = "", endpoints: frozenset[Endpoint] = frozenset(Endpoint)) -> None:
        self.name = name
        self.endpoints = endpoints
        self.script: list[Step] = []
        self.rest = OK
        self.probes: list[Step] = []
        self.probe_rest = OK
        self.asked: list[tuple[float, Call]] = []
        self.probed: list[tuple[float, ProbeMethod, str | None]] = []
        self.probed_keys: list[Secret | None] = []
        self.open = self.peak = self.cancelled = 0
        self.closed = False
        self.listed: Sequence[str] = ()
        self.listing_fails = False
        self.streams: list[ScriptedStream] = []
        self.transport = "scripted"

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.asked]

    @property
    def models(self) -> list[str]:
        return [call.model for _, call in self.asked]

    async def send(self, call: Call) -> Answer | Stream:
        self.asked.append((trio.current_time(), call))
        step = self.script.pop(0) if self.script else self.rest
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await trio.sleep(step.seconds)
            if step.quotas is not None and call.heard is not None:
                call.heard(step.quotas)
            if step.response is not None and call.kept is not None:
                call.kept(step.response)
            await _do(attrs.evolve(step, seconds=0.0))
        except BaseException as error:
            self.left(cancelled=isinstance(error, trio.Cancelled))
            raise
        if step.chunks is None:
            self.left(cancelled=False)
            return Answer(200, b"application/json", step.body, step.usage)
        stream = ScriptedStream(self, step, step.chunks)
        self.streams.append(stream)
        return stream

    def left(self, *, cancelled: bool) -> None:
        self.open -= 1
        self.cancelled += cancelled

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        self.probed.append((trio.current_time(), method, model))
        self.probed_keys.append(key)
        step = self.probes.pop(0) if self.probes else self.probe_rest
        await _do(step)
        return step.usage

    async def list_models(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        if self.listing_fails:
            raise breaking()
        return self.listed

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


async def _do(step: Step) -> None:
    await trio.sleep(step.seconds)
    if step.hangs:
        await trio.sleep_forever()
    if step.bug is not None:
        raise step.bug
    if step.failure is not None:
        raise step.failure


class ScriptedStream:
    content_type = b"text/event-stream"
    dropped: tuple[str, ...] = ()

    def __init__(self, adapter: Scripted, step: Step, chunks: tuple[bytes, ...]) -> None:
        self._adapter = adapter
        self._step = step
        self._chunks = chunks
        self._next = 0
        self._ended = False
        self.closed = False
        self.estimated_tokens = 0
        self.malformed_events = step.malformed_events
        self.usage: Usage | None = None

    @property
    def has_content(self) -> bool:
        return self._next > self._step.content_at

    def last_words(self) -> bytes | None:
        return self._step.last_words

    async def receive(self) -> bytes | None:
        assert not self.closed, "read after it was closed"
        at = self._next
        if at < len(self._chunks):
            await trio.sleep(self._step.gap if at else 0)
            self._next += 1
            self.estimated_tokens += 1
            return self._chunks[at]
        await trio.lowlevel.checkpoint()
        if self._step.stalls:
            await trio.sleep_forever()
        self._ended = True
        if self._step.breaks is not None:
            raise self._step.breaks
        self.usage = self._step.usage
        return None

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._adapter.left(cancelled=not self._ended)


def streams(*chunks: bytes, **more: Any) -> Step:
    return Step(chunks=chunks or (b"one", b"two", b"three"), **more)


def provider(name: str, *models: str, probed: bool = False, **more: Any) -> ProviderSettings:
    """A provider of the models (none: open-ended) that is healthy from the start unless it is to be `probed`."""
    more.setdefault("health_check", HealthCheck(disabled=not probed))
    more.setdefault("type", "openai")
    return ProviderSettings(name=name, models=models or None, **more)


@attrs.define(eq=False)
class World:
    """A running fleet and the wires of its providers."""

    fleet: Fleet
    wires: dict[str, Scripted]

    def __getitem__(self, name: str) -> Scripted:
        return self.wires[name]

    def run(
        self,
        model: str = "m",
        *,
        stream: bool = False,
        caller: Caller | None = None,
        timeout: float | None = None,
        **want: Any,
    ) -> Run:
        call = Call(endpoint=Endpoint.CHAT, body=b"{}", model=model, requested_model=model, stream=stream)
        return self.fleet.run(Want(model, **want), call, caller=caller, timeout=timeout)

    async def chat(self, model: str = "m", **more: Any) -> Run:
        """One request to its end; the run says what came of it. Raises what the caller is told."""
        run = self.run(model, **more)
        try:
            answer = await run.begin()
            if not isinstance(answer, Answer):
                await run.pump(Taken())
        finally:
            run.close()
        return run

    async def answered_by(self, model: str = "m", **more: Any) -> str:
        run = await self.chat(model, **more)
        assert run.lease is not None, "an answered run has its lease"
        return run.lease.provider

    async def settled(self) -> None:
        """Let every actor handle what was told to it."""
        for _ in range(10):
            await trio.lowlevel.checkpoint()

    def in_flight(self, name: str) -> int:
        return len(self.fleet.members[name].gate.leases)


@asynccontextmanager
async def world(
    *providers: ProviderSettings,
    script: Mapping[str, Sequence[Step]] | None = None,
    probes: Mapping[str, Sequence[Step]] | None = None,
    wires: Mapping[str, Scripted] | None = None,
    seed: int = 1,
    endpoints: frozenset[Endpoint] = frozenset(Endpoint),
    shared: Shared | None = None,
    share: Share = WHOLE,
    store: BudgetStore | None = None,
    **config: Any,
) -> AsyncGenerator[World]:
    """The actors of these providers, each on a `Scripted` wire; `script` and `probes` are the first steps of each,
    `wires` those that are not to be made here. `shared` is where they share limits with another world, `share`
    what is theirs of one router's. `store` keeps what is spent of budgets.

    Unless `retry` says otherwise no provider is asked twice in one request.
    """
    wires = {settings.name: Scripted(settings.name, endpoints) for settings in providers} | dict(wires or {})
    for name, steps in (script or {}).items():
        wires[name].script = list(steps)
    for name, steps in (probes or {}).items():
        wires[name].probes = list(steps)

    def adapter(settings: ProviderSettings) -> Scripted:
        return wires.setdefault(settings.name, Scripted(settings.name))

    config.setdefault("retry", NO_STAYING)
    made = Config(providers=providers, **config)
    rng = random.Random(seed)
    async with open_fleet(
        made, environ={}, rng=rng, adapters=adapter, shared=shared, share=share, budget_store=store
    ) as fleet:
        yield World(fleet, wires)


def health(w: World, name: str = "a") -> Health:
    return w.fleet.members[name].standing.health


def reason(w: World, name: str = "a") -> Reason | None:
    return w.fleet.members[name].standing.reason


class Person:
    """A caller that can leave."""

    def __init__(self) -> None:
        self.left = False
        self.scope: Stoppable | None = None

    def watch(self, scope: Stoppable | None) -> None:
        self.scope = scope
        if self.left and scope is not None:
            scope.cancel()

    def leave(self) -> None:
        self.left = True
        if self.scope is not None:
            self.scope.cancel()


class Taken:
    """A sink that takes everything; with `seconds` it is slow: each chunk is flushed that long."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.data: list[bytes] = []
        self.at: list[float] = []

    def send_now(self, data: bytes) -> bool:
        self.data.append(data)
        self.at.append(trio.current_time())
        return not self.seconds

    async def flush(self) -> None:
        await trio.sleep(self.seconds)


async def consume(run: Run, reads: bool) -> None:
    """Take a stream to its end, by reading or by being pumped to."""
    if not reads:
        await run.pump(Taken())
        return
    while await run.receive() is not None:
        pass


async def nothing_is_left(w: World) -> None:
    """No lease, request or stream of any provider is open."""
    await w.settled()
    for name, wire in w.wires.items():
        assert (w.in_flight(name), wire.open) == (0, 0), f"{name}: {w.in_flight(name)} leases, {wire.open} requests"
        assert all(stream.closed for stream in wire.streams), f"{name}: a stream was not closed"


def two(**more: Any) -> tuple[ProviderSettings, ProviderSettings]:
    """Providers a and b of the model m."""
    return provider("a", "m", **more), provider("b", "m", **more)


def three(**more: Any) -> list[ProviderSettings]:
    """Providers a, b and c of the model m."""
    return [provider(name, "m", **more) for name in "abc"]


async def asked_in_order(w: World, model: str = "m", **more: Any) -> str:
    """Who is asked, one after the other, when everybody takes a second to fail."""
    for wire in w.wires.values():
        wire.rest = Step(seconds=1.0, failure=SERVER_ERROR.failure)
        wire.asked.clear()
    with suppress(InfermuxError):
        await w.chat(model, **more)
    order = sorted((at, name) for name, wire in w.wires.items() for at in wire.times)
    return "".join(name for _, name in order)


def crash(world_: World, name: str) -> None:
    """Make a provider's actor crash at its next wake-up, by a message it cannot handle."""
    world_.fleet.members[name].ref.tell(Poison())


class Poison:
    """Matching this against anything is a crash."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError("poison")
