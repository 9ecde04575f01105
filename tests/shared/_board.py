"""What nodes tell a campaign, in a file that all have mapped: known to the last number when one of them is killed."""

from __future__ import annotations

import mmap
from enum import IntEnum, auto
from pathlib import Path
from typing import Final

MOST_NODES: Final = 32
MOST_ROWS: Final = 16


class Says(IntEnum):
    """The numbers at the beginning, by which nodes are told what to do."""

    ROW = 0  # which budget is used
    FULL = auto()  # 1: limits and budgets that are not scarce, and callers that hardly pause


class Node(IntEnum):
    """The numbers of a node."""

    ASKED = 0  # requests under the limit of requests, and how many of them were admitted
    REQUESTS = auto()
    ASKED_TOKENS = auto()  # tokens of requests under the limit of tokens, and those of admitted ones
    TOKENS = auto()
    FULL = auto()  # requests under limits that are not scarce, all admitted
    ROUNDS = auto()  # round trips to Redis
    DEGRADED = auto()
    NODES = auto()  # that it knows of
    OUTAGES = auto()
    FELL_BACK = auto()  # how often a budget went on by its part of what was left, as Redis took too long to answer


class Money(IntEnum):
    """The numbers of a node's dealings with the budget of one row; micro-dollars."""

    ASKED = 0
    ADMITTED = auto()
    SPENT = auto()
    PROMISED = auto()
    MOST_PROMISED = auto()  # at one time
    SHOWN = auto()  # spent by all, as the node shows it
    FREE = auto()  # the most that nobody had spent or been promised when it refused, with Redis there


_NODE: Final = len(Node) + MOST_ROWS * len(Money)


class Board:
    """The numbers of all nodes. Each is written by one process, and read by any."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * (len(Says) + MOST_NODES * _NODE)))
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 0)
        self.says = memoryview(self._mapped).cast("q")

    def node(self, place: int) -> memoryview:
        begin = len(Says) + place * _NODE
        return self.says[begin : begin + len(Node)]

    def money(self, place: int, row: int) -> memoryview:
        begin = len(Says) + place * _NODE + len(Node) + row * len(Money)
        return self.says[begin : begin + len(Money)]
