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
FORGOTTEN = 3_600_000


@attrs.define
class Limit:
    level: int
    base: int
    at: int
    nodes: dict[str, tuple[int, int]] = attrs.field(factory=dict[str, tuple[int, int]])  # granted, number


class Held(NamedTuple):
    """What a node has of a purse, by the call of that number, and with which store."""

    granted: int
    number: int
    spent: int
    at: int
    store: str


@attrs.define
class Purse:
    """`lent` is what only a store told, for each."""

    nodes: dict[str, Held] = attrs.field(factory=dict[str, "Held"])
    lent: dict[str, int] = attrs.field(factory=dict[str, int])
    sweep: int = 0

    @property
    def spent(self) -> int:
        return sum(held.spent for held in self.nodes.values()) + sum(self.lent.values())

    @property
    def total(self) -> int:
        return sum(held.granted for held in self.nodes.values()) + sum(self.lent.values())

    @property
    def book(self) -> str:
        lines = [f"n {name} {held.granted} {held.spent} {held.store}" for name, held in self.nodes.items()]
        return "\n".join([*lines, *(f"s {amount} {store}" for store, amount in self.lent.items())])

    def others(self, node: str, store: str) -> int:
        """What is spent with that store without that node."""
        told = [held.spent for name, held in self.nodes.items() if held.store == store and name != node]
        return sum(told) + self.lent.get(store, 0)

    def settle(self, store: str, amount: int) -> None:
        had = self.lent.get(store, 0)
        self.lent[store] = had - min(had, max(0, amount))

    def write_back(self, book: str, now: int, *, all_lost: bool) -> None:
        for line in book.split("\n"):
            kind, *words = line.split(" ", 4 if line.startswith("n") else 2)
            if kind == "n":
                name, granted, spent, store = words[0], int(words[1]), int(words[2]), words[3]
                there = self.nodes.get(name, Held(int(granted), 0, 0, now, store))
                if not all_lost:
                    self.settle(store, spent - there.spent)
                self.nodes[name] = there._replace(granted=max(there.granted, spent), spent=max(there.spent, spent))
            else:
                self.lent.setdefault(words[1], int(words[0]))

    def look(self, now: int, there: Mapping[str, int]) -> None:
        """Those that are gone hold nothing."""
        for name, found in list(self.nodes.items()):
            self.nodes[name] = held = found._replace(at=min(found.at, now))
            if now - held.at > GONE and (name.rpartition(".")[0] or name) not in there:
                if now - held.at > FORGOTTEN:
                    del self.nodes[name]
                    self.lent[held.store] = self.lent.get(held.store, 0) + held.spent
                else:
                    self.nodes[name] = held._replace(granted=held.spent)


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
                return self.purse(call.keys[0], args[0], [int(each) for each in args[1:-2]], *args[-2:])
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

    def purse(self, key: str, node: str, args: Sequence[int], store: str, book: str) -> list[Any]:
        number, limit, used, want, need, known, spending, booked, _keep, theirs, kept = args
        found, restored, now = self.purses.get(key), 0, self.clock()
        purse = Purse() if found is None else attrs.evolve(found, nodes=dict(found.nodes), lent=dict(found.lent))
        mine = purse.nodes.get(node)
        if mine is not None and number <= mine.number:
            return [mine.granted, purse.total, purse.spent, 0, purse.others(node, store), purse.book]
        if book and (mine is None or mine.spent < booked):
            restored = 1
            purse.write_back(book, now, all_lost=found is None)
        mine = purse.nodes.get(node, Held(known, 0, 0, 0, store))
        before = min(booked, mine.spent) if mine.store == store else 0
        purse.settle(store, min(kept, spending) - before)
        restored |= mine.granted < known
        granted = max(mine.granted, known, used)
        purse.nodes[node] = Held(granted, number, max(mine.spent, spending), now, store)
        if not now - 2 * GONE <= purse.sweep <= now + 2 * GONE:
            purse.sweep = now + GONE
        elif purse.sweep <= now:
            purse.sweep = now + SWEEP_EVERY
            purse.look(now, self.nodes)
        if theirs >= 0 and (lacking := theirs - purse.others(node, store)) > 0:
            purse.lent[store] = purse.lent.get(store, 0) + lacking
        free, goal = max(0, limit - purse.total), used + want
        if need > want and used + need - granted <= free:
            goal = used + need
        granted += min(goal - granted, free)
        purse.nodes[node] = purse.nodes[node]._replace(granted=granted)
        self.purses[key] = purse
        return [granted, purse.total, purse.spent, int(restored), purse.others(node, store), purse.book]

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
    loses_answers: bool = False  # what it is told is done
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
        if self.loses_answers:
            raise StateUnavailable("the connection is lost")
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
