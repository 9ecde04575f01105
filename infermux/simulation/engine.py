"""Plays requests against a real fleet of actors whose providers are simulated, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from infermux.actors.fleet import Fleet
from infermux.actors.opening import open_fleet
from infermux.actors.requests import request_run
from infermux.config.settings import Config, ProviderSettings
from infermux.errors import CallerLeft, InfermuxError
from infermux.providers.interface import Adapter, Answer, Endpoint, Usage
from infermux.providers.peek_endpoints import beginning
from infermux.providers.prices import cost
from infermux.providers.transport import Stoppable

from .faults import Fault, Pace, pace_of
from .traffic import Request
from .virtual import run_virtually
from .wire import simulated

LEFT = "caller_left"


@attrs.frozen(kw_only=True)
class Scenario:
    """What is played. `paces` has the providers whose pace is not that of their settings."""

    config: Config
    requests: Iterable[Request]
    faults: Sequence[Fault] = ()
    paces: Mapping[str, Pace] = attrs.field(factory=dict[str, Pace])
    seed: int = 0


@attrs.define(eq=False)
class Record:
    """What came of one request. Times in seconds since it came; `code` None: a whole answer.

    `provider` and `model` are those that answered, or broke off: None when nobody began to answer. `data` is what the
    caller got.
    """

    request: Request
    code: str | None = None
    provider: str | None = None
    model: str | None = None
    attempts: int = 0
    latency: float = 0.0
    first_token: float | None = None
    usage: Usage | None = None
    cost: float = 0.0
    data: list[bytes] = attrs.field(factory=list[bytes])


@attrs.frozen(kw_only=True)
class Played:
    """The records in the order in which the requests came, and how long it took, in seconds of the virtual clock."""

    records: Sequence[Record]
    seconds: float


def play(scenario: Scenario) -> Played:
    """Play a scenario to its end. The same scenario comes to the same end, each time and everywhere."""
    return run_virtually(partial(_play, scenario), seed=scenario.seed)


async def _play(scenario: Scenario) -> Played:
    records: list[Record] = []
    adapters = partial(adapter_of, scenario)
    async with open_fleet(
        scenario.config, environ={}, rng=random.Random(f"{scenario.seed} fleet"), adapters=adapters
    ) as fleet:
        async with trio.open_nursery() as nursery:
            for request in scenario.requests:
                await trio.sleep_until(request.at)
                record = Record(request)
                records.append(record)
                nursery.start_soon(send, fleet, record)
        return Played(records=records, seconds=trio.current_time())


def adapter_of(scenario: Scenario, settings: ProviderSettings) -> Adapter:
    """The simulated adapter of one provider of the scenario."""
    return simulated(settings, scenario.paces.get(settings.name, pace_of(settings)), scenario.faults, scenario.seed)


async def send(fleet: Fleet, record: Record, *, keep: bool = False) -> None:
    """Send one request and write down what came of it; `keep`: the answer's bytes as well."""
    caller = _Person()
    after = record.request.leaves_after
    if after is None:
        await _send(fleet, record, caller, keep)
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.leave_after, after)
        await _send(fleet, record, caller, keep)
        nursery.cancel_scope.cancel()


async def _send(fleet: Fleet, record: Record, caller: _Person, keep: bool) -> None:
    began = trio.current_time()
    sink = _Taken(record.data if keep else None)
    affinity = beginning if fleet.config.routing.sticky.key == "prefix" else None
    try:
        run = request_run(
            fleet,
            Endpoint.CHAT,
            record.request.body(),
            caller=caller,
            timeout=record.request.timeout,
            affinity=None if affinity is None else partial(affinity, Endpoint.CHAT),
        )
    except InfermuxError as refused:
        record.code = refused.code
        return
    try:
        answer = await run.begin()
        if isinstance(answer, Answer):
            sink.send_now(answer.body)
        else:
            await run.pump(sink)
    except InfermuxError as error:
        record.code = error.code
    except CallerLeft:
        record.code = LEFT
    finally:
        record.attempts = run.attempts
        if run.lease is not None and (record.code is None or sink.first_at is not None):
            record.provider, record.model = run.lease.provider, run.lease.model
        run.close()
        now = trio.current_time()
        record.latency = now - began
        record.first_token = None if sink.first_at is None else sink.first_at - began
        record.usage = run.usage
        if run.lease is not None and run.lease.price is not None and run.usage is not None:
            record.cost = cost(run.lease.price, run.usage)


class _Person:
    """A caller that can leave."""

    def __init__(self) -> None:
        self.left = False
        self._scope: Stoppable | None = None

    def watch(self, scope: Stoppable | None) -> None:
        self._scope = scope
        if self.left and scope is not None:
            scope.cancel()

    async def leave_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.left = True
        if self._scope is not None:
            self._scope.cancel()


class _Taken:
    """A sink that takes everything at once."""

    def __init__(self, data: list[bytes] | None) -> None:
        self._data = data
        self.first_at: float | None = None

    def send_now(self, data: bytes) -> bool:
        if self.first_at is None:
            self.first_at = trio.current_time()
        if self._data is not None:
            self._data.append(data)
        return True

    async def flush(self) -> None:
        """Nothing is ever held up."""
