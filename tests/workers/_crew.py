"""Workers without processes, that do as a test says, and a crew of them."""

from __future__ import annotations

import errno
import math
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from infermux.config import load_text
from infermux.workers.crew import Crew
from infermux.workers.link import Failed, LinkLost
from infermux.workers.messages import Adopt, Begin, CatchUp, Done, Load, NotLoaded, Now, Obey, Ready, See, Seen, Turn

CONFIG = load_text("workers: 3\nproviders: [{name: a, type: ollama}]\n")
OTHER = load_text("workers: 3\nproviders: [{name: a, type: ollama}]\nrouting: {strategy: random}\n")
READY = Ready(addresses=(("127.0.0.1", 8080),), management_addresses=())
SOON = 0.01

Events = list[tuple[str, int, Any]]
"""What happened, in its order: `begins` and `adopts` with the share, `loads`, `signalled` with which, and where."""


@attrs.define(eq=False)
class FakeLink:
    """The link to a worker that does as it is told."""

    worker: FakeWorker
    lost: trio.Event = attrs.field(factory=trio.Event)
    begun: trio.Event = attrs.field(factory=trio.Event)

    async def ask(self, message: Any) -> Any:
        worker = self.worker
        if worker.dead.is_set() or self.lost.is_set():
            raise LinkLost
        if worker.hangs:
            await worker.dead.wait()
            raise LinkLost
        await trio.sleep(SOON)
        match message:
            case Begin() if worker.fails:
                raise Failed("KeyError")
            case Begin(share=share, words=words):
                worker.words = dict(words)
                worker.config = message.config
                worker.events.append(("begins", worker.place, share))
                self.begun.set()
                return None
            case Now():
                worker.events.append(("now", worker.place, message))
                worker.dies(0)
                raise LinkLost
            case Load(config):
                if worker.holds_back is not None:
                    await worker.holds_back.wait()
                if config.routing == worker.refuses:
                    raise NotLoaded("no")
                worker.config = config
                worker.events.append(("loads", worker.place, config.routing.strategy))
                return Done(told={"changed": True}, lines=())
            case Obey(words):
                worker.words.update(words)
                return None
            case Adopt(share):
                worker.events.append(("adopts", worker.place, share))
                return worker.over
            case See() if worker.fails:
                worker.fails = False
                raise Failed("KeyError")
            case See():
                return Seen(in_flight=worker.place, draining=False, over=worker.over)
            case _:
                raise AssertionError(message)

    async def run(self, handler: Callable[[Any], Awaitable[Any]]) -> None:
        await self.begun.wait()
        if not self.worker.comes_up:
            await trio.sleep_forever()
        if self.worker.slow is not None:
            await self.worker.slow.wait()
        if self.worker.catches_up:
            latest = await handler(CatchUp())
            self.worker.config = latest.config or self.worker.config
            self.worker.words.update(latest.words)
        await handler(READY)
        while True:
            if self.worker.hangs:
                await self.worker.dead.wait()
            await handler(Turn([]))
            with trio.move_on_after(0.5):
                await handler(await self.worker.says.receive())


@attrs.define(eq=False)
class FakeWorker:
    """See `workers.process.Child`. `over`: it has more in flight than its part; `drains`: SIGTERM does not end it.

    `slow` is waited for before it listens, `holds_back` before it answers to a configuration; `refuses` routing.
    """

    place: int
    events: Events
    comes_up: bool = True
    over: bool = False
    hangs: bool = False
    fails: bool = False
    drains: bool = False
    catches_up: bool = False
    slow: trio.Event | None = None
    holds_back: trio.Event | None = None
    config: Any = None
    words: dict[str, str] = attrs.field(factory=dict[str, str])
    told: Any = None
    says: Any = None
    refuses: Any = None
    code: int = 0
    dead: trio.Event = attrs.field(factory=trio.Event)
    listens: trio.Event = attrs.field(factory=trio.Event)
    link: FakeLink = attrs.field(init=False)
    ready: Ready | None = None
    ready_at: float | None = None
    share: Any = None
    late: bool = False
    telling: trio.Lock = attrs.field(factory=trio.Lock)
    is_over: bool = False
    has_told: bool = True
    growing: bool = False
    looked_at: trio.Event | None = None

    def __attrs_post_init__(self) -> None:
        self.link = FakeLink(self)
        self.told, self.says = trio.open_memory_channel[Any](math.inf)

    @property
    def strategy(self) -> str:
        return str(self.config.routing.strategy)

    def signal(self, number: int) -> None:
        self.events.append(("signalled", self.place, number))
        if number != signal.SIGTERM or not self.drains:
            self.dies(-number)

    def dies(self, code: int = 1) -> None:
        self.code = code
        self.dead.set()
        self.link.lost.set()

    async def ended(self) -> int:
        await self.dead.wait()
        return self.code


@attrs.define(eq=False)
class World:
    crew: Crew
    events: Events
    workers: list[FakeWorker]
    nursery: trio.Nursery
    slow_from_now: trio.Event | None = None
    cannot_start: int = 0
    fails_to_begin: int = 0

    def at(self, place: int) -> FakeWorker:
        """The latest one there."""
        return next(each for each in reversed(self.workers) if each.place == place)

    def told(self, *kinds: str) -> Events:
        """What has happened since this was asked last."""
        found = [each for each in self.events if each[0] in kinds]
        self.events.clear()
        return found


async def _no_reload(_dry_run: bool) -> dict[str, object]:
    return {}


@asynccontextmanager
async def world(*, comes_up: Callable[[int], bool] = lambda _: True, workers: int = 3) -> AsyncGenerator[World]:
    """`comes_up`: whether the worker of that number, in the order of starting, ever listens."""
    events: Events = []
    launched: list[FakeWorker] = []

    def launch(place: int, _leader: int, _write: Callable[[bytes], None]) -> Any:
        if made.cannot_start:
            made.cannot_start -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        worker = FakeWorker(place, events, comes_up(len(launched)), slow=made.slow_from_now)
        if made.fails_to_begin:
            made.fails_to_begin -= 1
            worker.fails = True
        launched.append(worker)
        return worker

    async with trio.open_nursery() as nursery:
        made = World(
            Crew(CONFIG if workers == 3 else attrs.evolve(CONFIG, workers=workers), _no_reload, launch),
            events,
            launched,
            nursery,
        )
        yield made
        nursery.cancel_scope.cancel()


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not true():  # noqa: ASYNC110 - the clock is ours
            await trio.sleep(SOON)
