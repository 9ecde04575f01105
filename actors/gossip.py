"""What nodes tell each other of providers: circuits that opened and closed, cool-downs, health.

What is told are states, not events: the last of each kind and provider is kept in Redis, so that who comes later learns
it, and who missed it finds it with the next heartbeat. Times are told by Redis's clock.

What was heard is not told on, and only what has become of a provider here is told: a node that cannot reach one says so
once, and others that can neither lose it nor ask after it each time the two of them look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import attrs
import msgspec

from infermux.shared.scripts import Call

from .gate import Gate
from .messages import Circuit, Health
from .provider_messages import LimitsChanged, LookAgain
from .ref import Ref
from .supply import Supply

KEEP: Final = 3_600_000  # ms
LEAST_REST: Final = 0.5  # seconds of a cool-down that are worth telling
_BAD: Final = frozenset({Health.UNHEALTHY, Health.CONFIG_ERROR})
_TAKEN_FOR_GRANTED: Final = frozenset({"closed", Health.HEALTHY.value})  # where nothing was told


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one kind (circuit, rest, health) of one provider, told by `node` at `at`.

    `until` is when it ends by itself; 0: it does not. Both are seconds of Redis's clock.
    """

    node: str
    state: str
    at: float
    until: float = 0.0
    why: str = ""


class Routed(Protocol):
    """A provider as far as gossip is concerned."""

    @property
    def gate(self) -> Gate: ...

    @property
    def ref(self) -> Ref[Any]: ...


@attrs.define(eq=False)
class Gossip:
    """One node's part in it. `member` finds a provider by name; `supply` has Redis's clock and the keys."""

    supply: Supply
    member: Callable[[str], Routed | None]
    number: int = -1  # of the news that were read last
    told: int = 0
    heard: int = 0
    _known: dict[str, Fact] = attrs.field(factory=dict[str, Fact])  # told or heard last, by provider/kind
    _verdicts: dict[str, object] = attrs.field(factory=dict[str, object])  # told last, by provider/kind
    _looked: dict[tuple[str, bool], float] = attrs.field(
        factory=dict[tuple[str, bool], float]
    )  # on hearsay, by up or down
    _dirty: dict[str, None] = attrs.field(factory=dict[str, None])
    _epoch: str = ""

    @property
    def keys(self) -> tuple[str, str]:
        return self.supply.key("news"), self.supply.key("news", "number")

    @property
    def channel(self) -> str:
        return self.supply.key("news", "channel")

    @property
    def is_behind(self) -> bool:
        """There are news that were not read."""
        return self.number != self.supply.news

    def note(self, provider: str) -> None:
        """Something of it may have changed."""
        if provider not in self._dirty:
            self._dirty[provider] = None
            self.supply.wanted.set()

    def published(self, number: str) -> None:
        """There is news of that number."""
        self.supply.news = int(number)
        self.supply.wanted.set()

    # Telling.

    def call(self, now: float) -> Call | None:
        """What is to be told now, if there is anything."""
        if self._epoch != self.supply.epoch:  # Redis has lost what it was told
            self._epoch = self.supply.epoch
            facts = [(field, fact) for field, fact in self._known.items() if fact.node == self.supply.node]
        else:
            facts = []
        dirty, self._dirty = self._dirty, {}
        for name in dirty:
            member = self.member(name)
            if member is not None:
                facts.extend(self._changed(name, member.gate, now))
        if not facts:
            return None
        self._known.update(facts)
        self.told += len(facts)
        pairs = [text for field, fact in facts for text in (field, msgspec.json.encode(fact).decode())]
        return Call("tell", self.keys, (self.channel, KEEP, *pairs))

    def _changed(self, name: str, gate: Gate, now: float) -> Iterable[tuple[str, Fact]]:
        for kind, state, until, why, verdict in _states(gate, now):
            field = f"{name}/{kind}"
            last = self._known.get(field)
            ahead = self.supply.clock_ahead
            ends = until + ahead if until else 0.0
            if verdict is None:
                new = last is None or ends > last.until + LEAST_REST
            elif new := self._verdicts.get(field) != verdict:
                self._verdicts[field] = verdict
            if new and (last is not None or state not in _TAKEN_FOR_GRANTED):
                yield field, Fact(self.supply.node, state, now + ahead, ends, why)

    # Hearing.

    def hear(self, kept: Mapping[str, str], number: int, now: float) -> None:
        """All news that Redis has, as of that number."""
        self.number = number
        for field, text in kept.items():
            try:
                fact = msgspec.json.decode(text, type=Fact)
            except msgspec.DecodeError:  # of another version, or by another hand
                continue
            last = self._known.get(field)
            if fact.node == self.supply.node or (last is not None and fact.at <= last.at):
                continue
            self._known[field] = fact
            name, _, kind = field.rpartition("/")
            member = self.member(name)
            if member is not None:
                self.heard += 1
                self._take(name, member, kind, fact, now)

    def _take(self, name: str, member: Routed, kind: str, fact: Fact, now: float) -> None:
        gate, until = member.gate, fact.until - self.supply.clock_ahead
        why = f"{fact.why or fact.state}, says another node"
        match kind, fact.state:
            case "circuit", "open" if until > now:
                # Whoever opened it probes first: the others come later, unless they hear what came of it.
                if gate.breaker.hear_open(now, until + gate.settings.circuit_breaker.probe_timeout, why):
                    self._verdicts[f"{name}/circuit"] = gate.breaker.verdicts
            case "circuit", "closed":
                if gate.breaker.hear_closed(now, why):
                    self._verdicts[f"{name}/circuit"] = gate.breaker.verdicts
                    gate.slow_start.begin(now)
            case "rest", _ if until > now:
                gate.cooldown.hear(until)
            case "health", _:
                self._take_health(name, member, fact, now, why)
            case _:
                pass
        member.ref.deliver(LimitsChanged())  # what is published of it is old

    def _take_health(self, name: str, member: Routed, fact: Fact, now: float, why: str) -> None:
        """Look for ourselves where it is news, once per interval of our checks; until then what is bad is not used."""
        health, interval = member.gate.health, member.gate.settings.health_check.interval
        bad = next((each for each in _BAD if each.value == fact.state), None)
        up = bad is None
        if up is health.passes or (not up and health.seen_since(fact.at - self.supply.clock_ahead)):
            return
        if now < self._looked.get((name, up), -math.inf) + interval:
            return
        self._looked[name, up] = now
        if bad is not None:
            health.hear_bad(bad, now, why)
        member.ref.deliver(LookAgain(up=up))


def _states(gate: Gate, now: float) -> Iterable[tuple[str, str, float, str, object]]:
    """Kind, state, when it ends by itself (0: it does not), why, and our verdict (None: any later end is news)."""
    breaker, health = gate.breaker, gate.health
    circuit = breaker.state(now)
    # Without a verdict nothing was found out here: a node that has just come would close what is open elsewhere.
    if circuit is not Circuit.HALF_OPEN and breaker.verdicts:
        why = breaker.transitions[-1].why if breaker.transitions else ""
        yield "circuit", circuit.value, breaker.blocked_until(now), why, breaker.verdicts
    rest = gate.cooldown.blocked_until(now)
    if rest > now + LEAST_REST:
        yield "rest", "until", rest, "rate limited", None
    if health.own in _BAD or health.own is Health.HEALTHY:
        why = health.last_error or "" if health.own is health.health else ""
        yield "health", health.own.value, 0.0, why, health.own
