"""Plays a schedule against a real fleet, and says everything that came out as it must not."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Sequence

import attrs
import msgspec
import trio

from infermux.actors.bucket import TokenBucket
from infermux.actors.fleet import Fleet
from infermux.actors.kit_errors import ActorDied
from infermux.actors.opening import open_fleet
from infermux.actors.provider_messages import Verb
from infermux.config.settings import ProviderSettings, RateLimits
from infermux.errors import NotFound
from infermux.providers.interface import Adapter
from infermux.providers.simulated_request import compose, read_request
from infermux.providers.sse import SseParser
from infermux.simulation.engine import LEFT, Record, send
from infermux.simulation.faults import pace_of
from infermux.simulation.virtual import run_virtually
from infermux.simulation.wire import simulated
from tests.campaign._schedule import Operation, Schedule
from tests.campaign._truth import Truth, Watched, audited, overrun

SETTLE = 3.0  # seconds after the last request and operation in which everything comes to rest
SLACK = 1e-6


@attrs.frozen(kw_only=True)
class Outcome:
    """`wrong` is empty when every invariant held. `digest` is the same whenever the same things happened."""

    wrong: Sequence[str]
    answered: int
    requests: int
    digest: str


def play(schedule: Schedule) -> Outcome:
    """Play it to its end and check it."""
    seen = _Crashes()
    logger = logging.getLogger("infermux")
    was = logger.propagate, logger.level
    logger.addHandler(seen)
    logger.propagate = False
    try:
        with audited() as spent:
            world = _World(schedule, spent)
            run_virtually(world.play, seed=schedule.seed)
    finally:
        logger.removeHandler(seen)
        logger.propagate = was[0]
    records = world.records
    return Outcome(
        wrong=[*world.wrong, *seen.lines],
        answered=sum(record.code is None for record in records),
        requests=len(records),
        digest=_digest(records),
    )


class _Crashes(logging.Handler):
    """Nothing here is told to crash: an error in the log is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self.lines.append(f"logged: {record.getMessage()}{f': {cause!r}' if cause is not None else ''}")


class _World:
    def __init__(self, schedule: Schedule, spent: dict[TokenBucket, int]) -> None:
        self.schedule = schedule
        self.records: list[Record] = []
        self.truths: dict[str, Truth] = {}
        self.wrong: list[str] = []
        self._spent = spent
        self._buckets: dict[str, set[TokenBucket]] = {}
        self._limits: dict[str, list[RateLimits]] = {}
        self._fleet: Fleet | None = None

    async def play(self) -> None:
        schedule = self.schedule
        before = trio.lowlevel.current_statistics().tasks_living
        rng = random.Random(f"{schedule.seed} fleet")
        async with open_fleet(schedule.config, environ={}, rng=rng, adapters=self._adapter) as fleet:
            self._fleet = fleet
            self._note_buckets()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._operate, fleet)
                for request in schedule.requests:
                    await trio.sleep_until(request.at)
                    record = Record(request)
                    self.records.append(record)
                    nursery.start_soon(self._one, fleet, record)
            await trio.sleep(SETTLE)
            self._check_fleet(fleet)
        after = trio.lowlevel.current_statistics().tasks_living
        if after != before:
            self.wrong.append(f"{after - before} tasks are left")
        for truth in self.truths.values():
            self._check_tokens(truth)
        for record in self.records:
            self._check_record(record)

    def _adapter(self, settings: ProviderSettings) -> Adapter:
        truth = self.truths.setdefault(settings.name, Truth(settings.name))
        self._limits.setdefault(settings.name, []).append(settings.rate_limits)
        inner = simulated(settings, pace_of(settings), self.schedule.faults, self.schedule.seed)
        return Watched(inner, truth, settings, self._look)

    def _look(self, name: str) -> list[str]:
        """What a provider's gate shows at the moment of a send."""
        member = self._fleet.members.get(name) if self._fleet is not None else None
        probes = sum(lease.probe for lease in member.gate.leases) if member is not None else 0
        return [f"{name} has {probes} half-open probes at once"] if probes > 1 else []

    def _note_buckets(self) -> None:
        assert self._fleet is not None
        for name, member in self._fleet.members.items():
            if member.gate.tokens is not None:
                self._buckets.setdefault(name, set()).add(member.gate.tokens)

    async def _one(self, fleet: Fleet, record: Record) -> None:
        try:
            await send(fleet, record, keep=True)
        except Exception as crash:
            record.code = f"crash {type(crash).__name__}"
            self.wrong.append(f"a request at {record.request.at:.3f} ended with {crash!r}")

    async def _operate(self, fleet: Fleet) -> None:
        async with trio.open_nursery() as nursery:
            for operation in self.schedule.operations:
                await trio.sleep_until(operation.at)
                nursery.start_soon(self._carry_out, fleet, operation)

    async def _carry_out(self, fleet: Fleet, operation: Operation) -> None:
        name = operation.provider
        try:
            match operation.what:
                case "add":
                    assert operation.settings is not None
                    await fleet.add(operation.settings)
                case "remove":
                    await fleet.remove(name, grace=operation.grace)
                case "reload":
                    assert operation.config is not None
                    await fleet.reload(operation.config)
                case verb:
                    await fleet.command(name, Verb(verb))
        except (NotFound, ActorDied):
            pass  # it is not there, or went while it was asked
        except ValueError as refused:
            if operation.what != "add":
                self.wrong.append(f"{operation} was refused: {refused}")
        except Exception as crash:
            self.wrong.append(f"{operation} ended with {crash!r}")
        self._note_buckets()

    # What must hold at the end.

    def _check_fleet(self, fleet: Fleet) -> None:
        for name, member in fleet.members.items():
            if member.gate.leases:
                self.wrong.append(f"{name} has {len(member.gate.leases)} leases left")
        for name, truth in self.truths.items():
            self.wrong.extend(truth.wrong)
            if truth.open or any(each.tokens is None for each in truth.tries):
                self.wrong.append(f"{name} has {truth.open} requests open at the end")
            self._check_limits(truth)

    def _check_limits(self, truth: Truth) -> None:
        """A provider that was taken out and came back begins anew, so only those that were there all the time."""
        limits = {each.requests_per_minute for each in self._limits[truth.name]}
        if len(limits) > 1 or truth.name in self._departed():
            return
        for limit in limits:
            if limit is not None and (by := overrun(truth.sent, limit)):
                self.wrong.append(f"{truth.name} got {by:.3f} requests more than its limit of {limit} a minute")

    def _check_tokens(self, truth: Truth) -> None:
        """What the buckets have lent and not got back is what was truly used, once the last probe has ended as well."""
        if any(each.tokens_per_minute is None for each in self._limits[truth.name]):
            return  # there was not always a bucket
        spent = sum(self._spent.get(bucket, 0) for bucket in self._buckets.get(truth.name, ()))
        if spent != truth.tokens:
            self.wrong.append(f"{truth.name}'s token bucket has spent {spent}, and {truth.tokens} were used")

    def _departed(self) -> set[str]:
        """Everybody who was taken out at some time, or may have been."""
        gone = {operation.provider for operation in self.schedule.operations if operation.what == "remove"}
        for operation in self.schedule.operations:
            if operation.config is not None:
                gone |= self._limits.keys() - {each.name for each in operation.config.providers}
        return gone

    def _check_record(self, record: Record) -> None:
        request = record.request
        told = f"the request at {request.at:.3f} ({record.code or 'whole'} after {record.latency:.3f} s)"
        data = b"".join(record.data)
        if record.code is None:
            said, expected = _said(data, request.stream), self._expected(record)
            if said != expected:
                self.wrong.append(f"{told} was told {said!r} where {record.provider} says {expected!r}")
        elif b"[DONE]" in data:
            self.wrong.append(f"{told} failed behind a clean end")
        if record.latency > self._bound(record) + SLACK:
            self.wrong.append(f"{told} took longer than {self._bound(record):.3f} s")

    def _bound(self, record: Record) -> float:
        """The caller's own; else twice the longest timeout to the first token, and as long as a stream may take."""
        request = record.request
        if request.leaves_after is not None and record.code == LEFT:
            return request.leaves_after
        if request.timeout is not None:
            return request.timeout
        first_token = 2 * 4.0 + 1.5  # the longest `timeout` there is, and the wait for a first probe
        return first_token + (10.0 if request.stream else 0.0)

    def _expected(self, record: Record) -> tuple[str, str]:
        tokens, reason = compose(read_request(record.request.body()), record.provider or "", 0)
        return "".join(tokens), reason


def _said(data: bytes, stream: bool) -> tuple[str, str]:
    """Text and finish reason of an answer; a stream without its `[DONE]` has the reason `cut`."""
    if not stream:
        (choice,) = msgspec.json.decode(data)["choices"]
        return choice["message"]["content"], choice["finish_reason"]
    text: list[str] = []
    reason, done = "", False
    for event in SseParser().feed(data):
        if event.data == b"[DONE]":
            done = True
            continue
        for choice in msgspec.json.decode(event.data)["choices"]:
            text.append(choice["delta"].get("content") or "")
            reason = choice["finish_reason"] or reason
    return "".join(text), reason if done else "cut"


def _digest(records: Sequence[Record]) -> str:
    rows = [(r.code, r.provider, r.attempts, repr(r.latency), repr(r.first_token)) for r in records]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
