"""Several nodes as processes beside one Redis, and what they may have admitted at most and at least."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import msgspec

from infermux.actors.shared_bucket import OF_FAIR_SHARE
from infermux.actors.shared_purse import OF_WHAT_IS_LEFT
from tests.shared._board import Board, Money, Node, Says
from tests.shared._node import Settings
from tests.shared._redis import PATIENCE, RedisServer, redis_server

BLOCKS: Final = 1 / OF_FAIR_SHARE  # minutes' worth of a limit that all nodes together hold in blocks, at most
WITHIN: Final = 0.02  # of the limit of a window: so much may be missing
STARTS_WITHIN: Final = 120.0  # seconds, on a busy machine
TOLD_WITHIN: Final = 1.5  # seconds until what a node has spent is known elsewhere
ROOT: Final = Path(__file__).parents[2]
LIMITS: Final = ((Node.REQUESTS, Node.ASKED), (Node.TOKENS, Node.ASKED_TOKENS))


@attrs.frozen
class Missing:
    """Of one limit in one window: what was admitted, what may have been, and how much of its limit is missing."""

    admitted: int
    allowed: float
    part: float


@attrs.define(eq=False)
class Window:
    """What was admitted since it began. The limit of a window is a full bucket and what is refilled in it.

    Only the first one begins with a full bucket, for the others have it used up before them, nearly.
    """

    began: float
    before: Sequence[int]
    at_first: Sequence[float]  # what may have been there of each limit when it began
    offered: Sequence[int]  # see `Nodes.offered`
    is_first: bool = False
    highest: list[float] = attrs.field(factory=lambda: [-1.0, -1.0])  # over the limits, in minutes' worth of each


@attrs.define(eq=False, kw_only=True)
class Nodes:
    """`requests` and `tokens` are the limits a minute, `budget` that of each row's budget, in micro-dollars."""

    redis: RedisServer
    requests: int
    tokens: int
    budget: int
    callers: int
    pause: float = 0.05  # seconds between two requests of a caller, on average
    database: str | None = None
    board: Board = attrs.field(init=False)
    processes: dict[int, subprocess.Popen[str]] = attrs.field(factory=dict[int, "subprocess.Popen[str]"])
    window: Window = attrs.field(init=False)
    under_way: int | None = None  # micro-dollars that were promised when the budget of this row ran out
    cut_off: dict[int, float] = attrs.field(factory=dict[int, float])  # nodes without Redis while others had it: since
    alone: int = 0  # micro-dollars that nodes may have used beside what the others found in Redis
    shaken: bool = False  # Redis meets a fault in this row
    untold: int = 0  # micro-dollars of killed nodes that nobody else may know of
    _fell_back: dict[int, int] = attrs.field(factory=dict[int, int])  # how often, when that was seen last
    _began: float = 0.0
    _next: int = 0
    _spent: deque[tuple[float, list[int]]] = attrs.field(factory=deque[tuple[float, list[int]]])

    def __attrs_post_init__(self) -> None:
        self.board = Board(self._path)
        self.window = Window(time.monotonic(), [0] * 4, (self.requests, self.tokens), [0] * 3, is_first=True)

    @property
    def _path(self) -> Path:
        return self.redis.folder / "board"

    # Processes.

    def add(self) -> int:
        """Another node; it waits to be told to begin."""
        place, self._next = self._next, self._next + 1
        settings = Settings(
            redis=self.redis.url.reveal(),
            database=self.database,
            board=str(self._path),
            place=place,
            requests=self.requests,
            tokens=self.tokens,
            budget=self.budget,
            callers=self.callers,
            pause=self.pause,
        )
        command = [sys.executable, "-m", "tests.shared._node", msgspec.json.encode(settings).decode()]
        self.processes[place] = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT)
        return place

    def begin(self, *places: int) -> None:
        if not self._began:
            self._began = self.window.began = time.monotonic()
        for place in places:
            self._say(place)

    def kill(self, place: int) -> None:
        """At once, without a word."""
        process = self.processes.pop(place)
        process.kill()
        process.wait()
        self._close(process)
        row = self.board.says[Says.ROW]
        mine = self.board.money(place, row)
        mine[Money.PROMISED] = 0  # its requests have ended with it
        then = next((spent[place] for _, spent in self._spent if place < len(spent)), 0)
        self.untold += mine[Money.SPENT] - then

    def end(self) -> None:
        """Each gives back what it has, and ends."""
        for place in self.processes:
            self._say(place)
        for process in self.processes.values():
            assert process.wait(PATIENCE) == 0
            self._close(process)
        self.processes.clear()

    @staticmethod
    def _close(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        process.stdin.close()

    def _say(self, place: int) -> None:
        stdin = self.processes[place].stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()

    # What is on the board.

    def total(self, number: Node) -> int:
        """Of every node that there was."""
        return sum(self.board.node(place)[number] for place in range(self._next))

    def money(self, number: Money) -> list[int]:
        """Of every node that there was, about the budget of this row."""
        row = self.board.says[Says.ROW]
        return [self.board.money(place, row)[number] for place in range(self._next)]

    def of_living(self, number: Node) -> list[int]:
        return [self.board.node(place)[number] for place in self.processes]

    # Windows.

    def new_window(self) -> None:
        window, found = self.window, self.missing()
        before = [0.0, 0.0] if window.is_first else window.at_first
        left = [max(0.0, was + each.allowed - each.admitted) for was, each in zip(before, found, strict=True)]
        self.window = Window(time.monotonic(), self._admitted(), left, self.offered())
        self.untold, self.under_way = 0, None
        self.alone = 0
        self.shaken = False
        self._spent.clear()

    def missing(self) -> list[Missing]:
        """Of the limit of requests and of that of tokens, in this window until now."""
        window, counts = self.window, self._admitted()
        seconds = time.monotonic() - window.began
        found: list[Missing] = []
        for place, limit in enumerate((self.requests, self.tokens)):
            admitted, asked = (counts[2 * place + at] - window.before[2 * place + at] for at in (0, 1))
            refilled = limit * seconds / 60
            allowed = refilled + limit if window.is_first else refilled
            # What nobody asked for nobody could have been admitted with: a busy machine asks for less.
            found.append(Missing(admitted, allowed, (min(allowed, asked) - admitted) / (limit + refilled)))
        return found

    def look(self) -> None:
        """Nothing is above its limit by more than the blocks, and no budget is overspent."""
        counts, now = self._admitted(), time.monotonic()
        for place, limit in enumerate((self.requests, self.tokens)):
            name, admitted = LIMITS[place][0].name.lower(), counts[2 * place]
            within = admitted - self.window.before[2 * place]
            since = limit * (now - self.window.began) / 60 + self.window.at_first[place]
            over = (within - since) / limit
            self.window.highest[place] = max(self.window.highest[place], over)
            assert over <= BLOCKS, f"{within} {name} admitted in a window, {since:.0f} allowed"
            allowed = limit + limit * (now - self._began) / 60
            assert admitted - allowed <= BLOCKS * limit, f"{admitted} {name} admitted in all, {allowed:.0f} allowed"
        spent, promised = self.money(Money.SPENT), sum(self.money(Money.PROMISED))
        if self.under_way is None and sum(spent) + promised >= self.budget:
            self.under_way = promised
        self._see_who_is_alone(now)
        assert sum(spent) + (0 if self.shaken else promised) <= (most := self.most()), (
            f"${sum(spent) / 1e6} of a budget of ${self.budget / 1e6} spent and ${promised / 1e6} promised, "
            f"${most / 1e6} allowed, ${self.alone / 1e6} of that for nodes without Redis, ${self.untold / 1e6} unknown"
        )
        self._spent.append((now, spent))
        while self._spent[0][0] < now - TOLD_WITHIN:
            self._spent.popleft()

    def most(self) -> int:
        """Of a budget what may be spent, and promised: all of it, and no more. But what a killed node told nobody is
        not known; who has no answers of Redis while others have uses its part of what was left, which they find there
        too; and where Redis meets a fault, nodes go by what they heard last of what others had been promised.
        """
        return self.budget + self.untold + self.alone + ((self.under_way or 0) if self.shaken else 0)

    def _see_who_is_alone(self, now: float) -> None:
        """Those who have lost Redis while others have it, and those for whom it took too long to answer a request."""
        lost = {place for place in self.processes if self.board.node(place)[Node.DEGRADED]}
        lost = set[int]() if len(lost) == len(self.processes) else lost
        before, self.cut_off = self.cut_off, {place: self.cut_off.get(place, now) for place in lost}
        self.alone += sum(self._part(place) for place in lost if place not in before)
        for place in self.processes:
            times = self.board.node(place)[Node.FELL_BACK]
            self.alone += (times - self._fell_back.get(place, 0)) * self._part(place)
            self._fell_back[place] = times

    def _part(self, place: int) -> int:
        """What a node may go on by: its part of seven eighths of what was left when it heard from Redis last."""
        then = sum(self._spent[0][1]) if self._spent else 0
        left = max(0, self.budget - then)
        return -(-(left - left // OF_WHAT_IS_LEFT) // max(1, self.board.node(place)[Node.NODES]))

    def offered(self) -> list[int]:
        """Requests under limits and budgets, round trips to Redis, and how often a node had lost it."""
        asked = 2 * self.total(Node.ASKED) + sum(self.money(Money.ASKED))
        return [asked, self.total(Node.ROUNDS), self.total(Node.OUTAGES)]

    def _admitted(self) -> list[int]:
        return [self.total(number) for pair in LIMITS for number in pair]

    # Waiting, looking all the time.

    def during(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + PATIENCE)

    def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait for so long at most."""
        deadline = time.monotonic() + patience
        while not condition():
            told = {name.name: self.of_living(name) for name in (Node.DEGRADED, Node.NODES)}
            assert time.monotonic() < deadline, f"not within {patience:.0f} s; {told}, {self.missing()}"
            self.look()
            assert all(process.poll() is None for process in self.processes.values()), "a node has ended"
            time.sleep(0.02)
        self.look()

    def until_used_up(self) -> None:
        """Until hardly anything of what may have been admitted is missing, of either limit."""
        self.until(lambda: all(each.part <= WITHIN for each in self.missing()))

    def until_together(self) -> None:
        """Until each, new ones included, knows of all the others and has Redis."""
        count = len(self.processes)
        self.until(lambda: self.of_living(Node.NODES) == [count] * count and not self._is_degraded(), STARTS_WITHIN)

    def _is_degraded(self) -> bool:
        return any(self.of_living(Node.DEGRADED))

    def until_degraded(self) -> None:
        self.until(lambda: all(self.of_living(Node.DEGRADED)))


@contextmanager
def nodes(
    count: int,
    *,
    requests: int,
    tokens: int,
    callers: int,
    pause: float = 0.05,
    budget: int = 10**9,
    database: str | None = None,
) -> Generator[Nodes]:
    """`count` nodes that know of each other, their callers begun."""
    with redis_server() as redis:
        made = Nodes(
            redis=redis,
            requests=requests,
            tokens=tokens,
            callers=callers,
            pause=pause,
            budget=budget,
            database=database,
        )
        try:
            places = [made.add() for _ in range(count)]
            made.until_together()
            made.begin(*places)
            yield made
        finally:
            for place in list(made.processes):
                made.kill(place)
