"""Redis as far as limits know it, in memory: the scripts' arithmetic in Python, by a clock of the test's own.

tests/shared/test_scripts.py compares it with the scripts in a real Redis, so what runs on it is worth something.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import trio

from infermux.shared.client import Session, StateUnavailable
from infermux.shared.scripts import Call

TOKEN = 60_000
SKEW = GONE = 5000
SWEEP_EVERY = 1000


@attrs.define
class Limit:
    level: int
    base: int
    at: int
    nodes: dict[str, tuple[int, int]] = attrs.field(factory=dict[str, tuple[int, int]])  # granted, number


class Stored(NamedTuple):
    """What of a purse the nodes of one store have spent, and what of it only the store has told."""

    spent: int
    lent: int


class Held(NamedTuple):
    """What a node has of a purse, by the call of that number."""

    granted: int
    number: int
    spending: int
    at: int


@attrs.define
class Purse:
    total: int
    base: int
    based: int
    version: int
    spent: int
    stores: dict[str, Stored] = attrs.field(factory=dict[str, "Stored"])
    sweep: int = 0
    swept: bool = False
    nodes: dict[str, Held] = attrs.field(factory=dict[str, "Held"])

    def look(self, now: int, there: Mapping[str, int]) -> None:
        """Those that are gone hold nothing."""
        for name, held in list(self.nodes.items()):
            if now - held.at > GONE and name.rpartition(".")[0] not in there:
                self.nodes[name] = held._replace(granted=held.spending)
        self.total = self.spent + sum(held.granted - held.spending for held in self.nodes.values())


@attrs.define(eq=False)
class Mirror:
    """What Redis keeps. `clock` tells its time in ms."""

    clock: Callable[[], int]
    limits: dict[str, Limit] = attrs.field(factory=dict[str, Limit])
    purses: dict[str, Purse] = attrs.field(factory=dict[str, Purse])
    nodes: dict[str, int] = attrs.field(factory=dict[str, int])
    hashes: dict[str, dict[str, str]] = attrs.field(factory=dict[str, dict[str, str]])
    over: set[str] = attrs.field(factory=set[str])
    leaving: dict[str, str] = attrs.field(factory=dict[str, str])
    epoch: str = ""
    news: int = 0
    published: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])

    def flush(self) -> None:
        for kept in (self.limits, self.purses, self.nodes, self.over, self.hashes):
            kept.clear()
        self.epoch, self.news = "", 0

    def call(self, call: Call) -> list[Any]:
        args = [str(each) for each in call.args]
        match call.script:
            case "limit":
                return self.limit(call.keys[0], args[0], [int(each) for each in args[1:]])
            case "purse":
                return self.purse(call.keys[0], args[0], [int(each) for each in args[1:-1]], args[-1])
            case "beat":
                node, gone, epoch, leaves, over, ends = args
                return self.beat(node, int(gone), epoch, leaves=leaves == "1", over=over == "1", ends=ends)
            case _:
                return self.tell(call.keys[0], args)

    def limit(self, key: str, node: str, args: Sequence[int]) -> list[Any]:
        number, limit, used, want, need, known, seen, seen_at = args
        now, full = self.clock(), limit * TOKEN
        told = full if seen_at < 0 else min(full, seen + limit * max(0, now - seen_at))
        found, restored = self.limits.get(key), 0
        if found is None:
            found, restored = Limit(told, told, now), int(seen_at >= 0)
            is_new = True
        else:
            last_at = now if found.at > now + SKEW else found.at
            is_new, at = False, max(now, last_at)
            refill = limit * (at - last_at)
            found = Limit(min(full, found.level + refill), min(full, found.base + refill), at, dict(found.nodes))
        granted = known
        last = found.nodes.get(node)
        if last is not None:
            granted, last_number = last
            if number <= last_number:
                return [granted, found.level, now, 0]
            if granted < known:
                found.level -= (known - granted) * TOKEN
                granted, restored = known, 1
        elif not is_new and seen_at >= 0 and told < found.base:
            found.level -= found.base - told
            found.base, restored = told, 1
        target = used + want
        if target <= granted and used + need <= granted:
            found.level = min(full, found.level + (granted - target) * TOKEN)
            granted = target
        else:
            if used > granted:
                found.level -= (used - granted) * TOKEN
                granted = used
            given = _given(max(0, found.level // TOKEN), target - granted, want, need, used - granted)
            found.level -= given * TOKEN
            granted += given
        found.nodes[node] = granted, number
        self.limits[key] = found
        return [granted, found.level, now, restored]

    def purse(self, key: str, node: str, args: Sequence[int], store: str) -> list[Any]:
        number, limit, used, want, need, known, seen, version, spending, booked, spent_seen = args[:11]
        _keep, kept, own, stored_seen = args[11:]
        found, restored, now = self.purses.get(key), 0, self.clock()
        if found is None:
            purse, restored = Purse(seen, seen, version, max(version, 0), spent_seen), int(version >= 0)
        else:
            purse = attrs.evolve(found, nodes=dict(found.nodes), stores=dict(found.stores))
        stored, lent = purse.stores.get(store, (0, 0))
        if found is None and version < 0:
            stored, lent = spent_seen, max(0, spent_seen - booked)
        granted, in_spent = known, booked
        last = purse.nodes.get(node)
        if last is not None:
            granted, in_spent = last.granted, last.spending
            if number <= last.number:
                return [granted, purse.total, purse.version, purse.spent, 0, stored]
            if granted < known:
                purse.total += known - granted
                granted, restored = known, 1
        elif found is not None and version > purse.based:
            purse.total += max(0, seen - purse.base)
            purse.spent = max(purse.spent, spent_seen)
            purse.base, purse.based = max(seen, purse.base), version
            purse.version, restored = max(purse.version, version), 1
        elif found is not None and version < 0 and booked > 0:
            more = max(0, spent_seen - stored)
            purse.total, purse.spent, stored = purse.total + more, purse.spent + more, stored + more
            lent = max(0, lent + more - booked)
        if last is None and version >= 0:
            stored = max(stored, stored_seen)
        if purse.swept and last is None:
            purse.total += granted - in_spent
        purse.spent += spending - in_spent
        told = Stored(stored + spending - in_spent, lent)
        purse.stores[store] = _settle_store(purse, told, kept, min(own, spending) - in_spent)
        purse.nodes[node] = Held(granted, number, spending, now)
        if not now - 2 * GONE <= purse.sweep <= now + 2 * GONE:
            purse.sweep = now + GONE
        elif purse.sweep <= now:
            purse.look(now, self.nodes)
            purse.sweep, purse.swept = now + SWEEP_EVERY, True
        if used > granted:
            purse.total += used - granted
            granted = used
        free, goal = max(0, limit - purse.total), used + want
        if need > want and used + need - granted <= free:
            goal = used + need
        given = min(goal - granted, free)
        purse.total += given
        granted += given
        purse.version += 1
        purse.nodes[node] = Held(granted, number, spending, now)
        self.purses[key] = purse
        return [granted, purse.total, purse.version, purse.spent, restored, purse.stores[store].spent]

    def beat(self, node: str, gone: int, epoch: str, *, leaves: bool, over: bool, ends: str) -> list[Any]:
        now = self.clock()
        self.epoch = self.epoch or epoch
        if leaves:
            self.nodes.pop(node, None)
        else:
            self.nodes[node] = now
        self.over = self.over | {node} if over else self.over - {node}
        self.leaving[node] = f" {ends}" if ends else ""
        self.nodes = {name: min(at, now) for name, at in self.nodes.items() if now - at <= gone}
        names = [name + self.leaving[name] for name in self.nodes]
        return [now, self.epoch, self.news, int(bool((self.over & set(self.nodes)) - {node})), *names]

    def tell(self, key: str, args: Sequence[str]) -> list[Any]:
        kept = self.hashes.setdefault(key, {})
        for field, text in zip(args[2::2], args[3::2], strict=True):
            if text:
                kept[field] = text
            else:
                kept.pop(field, None)
        self.news += 1
        self.published.append((args[0], str(self.news)))
        return [self.clock(), self.news]


def _settle_store(purse: Purse, stored: Stored, kept: int, new_of_own: int) -> Stored:
    """The store has `kept` of all; the node tells so much of its own that the store may have told before."""
    more = -min(stored.lent, max(0, new_of_own))
    more += max(0, kept - (stored.spent + more))
    purse.total, purse.spent = purse.total + more, purse.spent + more
    return Stored(stored.spent + more, stored.lent + more)


def _given(free: int, rest: int, want: int, need: int, beyond: int) -> int:
    if need > want and beyond + need <= free:
        rest = beyond + need
    return min(max(0, rest), free)


def trio_ms() -> int:
    """trio's clock, virtual or not, as Redis's; somewhere in its life."""
    return 1_700_000_000_000 + int(trio.current_time() * 1000)


@attrs.define(eq=False)
class FakeShared:
    """A `Shared` over a mirror. `delay` seconds an answer takes; `gone`: nothing is answered, and sessions break."""

    mirror: Mirror = attrs.field(factory=lambda: Mirror(trio_ms))
    delay: float = 0.0005
    rounds: int = 0
    _gone: trio.Event = attrs.field(factory=trio.Event)
    _hung: bool = False
    listeners: list[tuple[str, Callable[[str], None]]] = attrs.field(factory=list[tuple[str, Callable[[str], None]]])

    @property
    def place(self) -> str:
        return "redis://fake"

    def go(self) -> None:
        """Redis dies: what is under way breaks."""
        self._gone.set()

    def come(self) -> None:
        self._gone = trio.Event()

    async def use(self, work: Callable[[Session], Awaitable[None]]) -> None:
        if self._gone.is_set():
            raise StateUnavailable("nobody listens there")
        await work(self)

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        with trio.move_on_after(self.delay):
            await self._gone.wait()
        if self._gone.is_set():
            raise StateUnavailable("the connection is lost")
        self.rounds += 1
        answers = [self.mirror.call(call) for call in calls]
        told, self.mirror.published = self.mirror.published, []
        for channel, text in told:
            for listens, heard in list(self.listeners):
                if listens == channel:
                    heard(text)
        return answers

    async def read(self, key: str) -> Mapping[str, str]:
        await trio.sleep(self.delay)
        return dict(self.mirror.hashes.get(key, {}))

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        self.listeners.append((channel, heard))
        try:
            await self._gone.wait()
        finally:
            self.listeners.remove((channel, heard))
        raise StateUnavailable("the connection is lost")


def ceil_tokens(parts: int) -> int:
    return math.ceil(parts / TOKEN)
