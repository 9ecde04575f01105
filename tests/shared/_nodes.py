"""Several nodes as processes beside one Redis, and what they may have admitted at most and at least."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import attrs

from infermux.actors.shared_bucket import OF_FAIR_SHARE
from tests.shared._node import NUMBERS, Counts
from tests.shared._redis import PATIENCE, RedisServer, redis_server

MOST_NODES = 32
BLOCKS = 1 / OF_FAIR_SHARE  # minutes' worth of a limit that all nodes together hold in blocks, at most
ROOT = Path(__file__).parents[2]


@attrs.define(eq=False, kw_only=True)
class Nodes:
    """`requests` and `tokens` are the limits a minute; `began` is when the first could have been admitted."""

    redis: RedisServer
    requests: int
    tokens: int
    callers: int
    pause: float = 0.05  # seconds between two requests of a caller, on average
    board: Path = attrs.field(init=False)
    processes: dict[int, subprocess.Popen[str]] = attrs.field(factory=dict[int, "subprocess.Popen[str]"])
    began: float = 0.0
    highest: dict[str, float] = attrs.field(factory=dict[str, float])  # over the limit, in minutes' worth of it
    _next: int = 0

    def __attrs_post_init__(self) -> None:
        self.board = self.redis.folder / "board"
        self.board.write_bytes(bytes(MOST_NODES * NUMBERS.size))

    def add(self) -> int:
        """Another node; it waits to be told to begin."""
        place, self._next = self._next, self._next + 1
        limits = [str(each) for each in (place, self.requests, self.tokens, self.callers, round(self.pause * 1000))]
        command = [sys.executable, "-m", "tests.shared._node", self.redis.url.reveal(), str(self.board), *limits]
        self.processes[place] = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT)
        return place

    def begin(self, *places: int) -> None:
        self.began = self.began or time.monotonic()
        for place in places:
            self._say(place)

    def kill(self, place: int) -> None:
        """At once, without a word."""
        process = self.processes.pop(place)
        process.kill()
        process.wait()
        self._close(process)

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

    def counts(self) -> list[Counts]:
        """Of every node that there was."""
        told = self.board.read_bytes()
        return [Counts(*NUMBERS.unpack_from(told, place * NUMBERS.size)) for place in range(self._next)]

    def alive(self) -> list[Counts]:
        counts = self.counts()
        return [counts[place] for place in self.processes]

    def ratio(self) -> float:
        """What was admitted of the scarcer limit, as a part of what may have been. Above it are blocks at most."""
        before = time.monotonic()
        counts = self.counts()
        after = time.monotonic()
        found: list[float] = []
        for name, limit in (("requests", self.requests), ("tokens", self.tokens)):
            admitted = sum(getattr(each, name) for each in counts)
            allowed = limit + limit * (after - self.began) / 60
            over = (admitted - allowed) / limit
            self.highest[name] = max(self.highest.get(name, -1.0), over)
            assert over <= BLOCKS, f"{admitted} {name} admitted, {allowed:.0f} allowed"
            found.append(admitted / (limit + limit * (before - self.began) / 60))
        return max(found)

    def during(self, seconds: float) -> None:
        """Look for so long that not too much is admitted."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait, looking all the time that not too much is admitted."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s; {self.alive()}"
            self.ratio()
            assert all(process.poll() is None for process in self.processes.values()), "a node has ended"
            time.sleep(0.02)
        self.ratio()

    def until_used_up(self) -> None:
        """Until what was admitted is within 2 % of what may have been."""
        self.until(lambda: self.ratio() >= 0.98)

    def until_together(self) -> None:
        """Until each knows of all the others, and has Redis."""
        count = len(self.processes)
        self.until(lambda: all(each.nodes == count and not each.degraded for each in self.alive()))

    def until_degraded(self) -> None:
        self.until(lambda: all(each.degraded for each in self.alive()))


@contextmanager
def nodes(count: int, *, requests: int, tokens: int, callers: int, pause: float = 0.05) -> Generator[Nodes]:
    """`count` nodes that know of each other, their callers begun."""
    with redis_server() as redis:
        made = Nodes(redis=redis, requests=requests, tokens=tokens, callers=callers, pause=pause)
        try:
            places = [made.add() for _ in range(count)]
            made.until_together()
            made.begin(*places)
            yield made
        finally:
            for place in list(made.processes):
                made.kill(place)
