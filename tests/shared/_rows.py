"""The rows of the campaign: how each ends, what it must have kept to, and how they are written down."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from infermux.bench.machine import describe
from tests.conftest import which
from tests.shared._board import Money, Node, Says
from tests.shared._books import Books, Said
from tests.shared._node import PROMISE
from tests.shared._nodes import ROOT, WITHIN, Missing, Nodes

RESULTS: Final = ROOT / "bench" / "results" / "0.1.0-shared"
RUNS_OUT_WITHIN: Final = 120.0  # seconds: a busy machine asks for less
AGREE_WITHIN: Final = 60.0
OF_WHAT_IS_LEFT: Final = 8  # that part of what is left of a budget nodes hold at most: docs/shared-state.md
A_ROUND_TRIP: Final = 50  # requests at full load
COLUMNS: Final = (
    ("what happens", 24),
    ("s", 5),
    ("requests", 9),
    ("missing", 9),
    ("over", 9),
    ("tokens", 9),
    ("missing", 9),
    ("over", 9),
    ("a round trip", 14),
    ("outages", 9),
    ("budget", 10),
    ("unspent", 10),
    ("free", 8),
    ("books differ", 14),
)


@attrs.frozen(kw_only=True)
class Row:
    """Parts are of the limit: of the window's what is missing, of a minute's what is over; dollars else."""

    name: str
    seconds: float
    requests: Missing | None = None
    tokens: Missing | None = None
    over: tuple[float, float] | None = None
    per_round: float = 0.0
    outages: int = 0
    budget: float | None = None
    unspent: float | None = None
    free: float | None = None
    differ: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        limits: list[str] = []
        for each, over in zip((self.requests, self.tokens), self.over or (0.0, 0.0), strict=True):
            limits += ["", "", ""] if each is None else [str(each.admitted), _part(each.part), _part(over)]
        money = ["" if each is None else f"${each:.4f}" for each in (self.budget, self.unspent, self.free, self.differ)]
        return (self.name, f"{self.seconds:.0f}", *limits, f"{self.per_round:.0f}", str(self.outages), *money)

    def __str__(self) -> str:
        return _line(self.cells)


def _part(part: float) -> str:
    return f"{100 * part:.2f} %"


def _line(cells: tuple[str, ...]) -> str:
    first, *others = (cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return cells[0].ljust(len(first)) + "".join(others)


def heading() -> str:
    return _line(tuple(name for name, _ in COLUMNS))


def ends(name: str, running: Nodes, books: Books, began: float) -> Row:
    """After a fault: all is as before, the limits are used up, so is the budget, and everybody agrees on it."""
    before = running.window.offered
    running.until_together()
    running.until_used_up()
    requests, tokens = running.missing()
    over = running.window.highest
    running.until(lambda: _unspent(running) < max(PROMISE, WITHIN * running.budget), RUNS_OUT_WITHIN)
    said = agreed(running, books)
    asked, rounds, outages = (now - was for now, was in zip(running.offered(), before, strict=True))
    free = max(running.money(Money.FREE))
    may_be = may_be_free(running)
    assert free <= may_be, f"${free / 1e6} were free when a request was refused, ${may_be / 1e6} may be"
    return Row(
        name=name,
        seconds=time.monotonic() - began,
        requests=requests,
        tokens=tokens,
        over=(over[0], over[1]),
        per_round=asked / max(rounds, 1),
        outages=outages,
        budget=running.budget / 1e6,
        unspent=(running.budget - said.true) / 1e6,
        free=free / 1e6,
        differ=said.farthest / 1e6,
    )


def may_be_free(running: Nodes) -> int:
    """When a request was refused: what others held in blocks, and what had just come back from promises, or will from
    those of a node that was killed. That is less than the budget: a row whose requests are refused too early fails.
    """
    promised = sum(running.money(Money.MOST_PROMISED))
    may_be = running.budget // OF_WHAT_IS_LEFT + promised
    assert may_be < running.budget, "too small a budget to tell whether it refuses too early: more seconds are needed"
    return may_be


def _unspent(running: Nodes) -> int:
    return running.budget - sum(running.money(Money.SPENT))


def agreed(running: Nodes, books: Books) -> Said:
    """What the ledger, PostgreSQL, Redis and the nodes say, once they agree."""
    last: list[Said | None] = [None]

    def agree() -> bool:
        said = last[0] = books.said()
        return said is not None and not any(running.money(Money.PROMISED)) and said.agree(running.untold)

    try:
        running.until(agree, AGREE_WITHIN)
    except AssertionError as failed:
        told = f"{last[0]}, under way {running.money(Money.PROMISED)}, {running.untold} may be unknown"
        raise AssertionError(f"{told}: {failed}") from failed
    assert last[0] is not None
    return last[0]


def full_load(running: Nodes, seconds: float) -> Row:
    """Limits that nobody reaches, and callers that hardly pause: how many requests there are to a round trip."""
    running.board.says[Says.ROW] += 1
    running.board.says[Says.FULL] = 1
    running.new_window()
    running.during(1.0)  # until each knows what it uses
    began = time.monotonic()
    numbers = (Node.FULL, Node.ROUNDS, Node.OUTAGES)
    before = [running.total(number) for number in numbers]
    running.during(seconds)
    requests, rounds, outages = (running.total(number) - was for number, was in zip(numbers, before, strict=True))
    running.board.says[Says.FULL] = 0
    took = time.monotonic() - began
    beats = (took + 1) * len(running.processes)  # a node tells once a second that it is there, whatever its load
    assert rounds <= requests / A_ROUND_TRIP + beats, f"{rounds} round trips for {requests} requests"
    admitted = Missing(requests, requests, 0.0)
    return Row(name="full load", seconds=took, requests=admitted, per_round=requests / rounds, outages=outages)


def write(rows: list[Row], seconds: float) -> None:
    """Into the folder of results."""
    machine = describe() | {
        "redis": _said("redis-server", "--version"),
        "postgresql": _said("postgres", "--version"),
        "commit": _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds of each fault": f"{seconds:.0f}",
    }
    told: dict[str, Any] = {"machine": machine, "rows": [attrs.asdict(row) for row in rows]}
    RESULTS.with_name(RESULTS.name + ".json").write_text(json.dumps(told, indent=2) + "\n")
    names = [name for name, _ in COLUMNS]
    table = [names, ["---"] * len(names), *([*row.cells] for row in rows)]
    lines = ["# Limits and budgets of four nodes", "", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    RESULTS.with_name(RESULTS.name + ".md").write_text("\n".join(lines) + "\n")


def _said(program: str, *words: str) -> str:
    path = which(program)
    if path is None:
        return "not installed"
    return subprocess.run([path, *words], capture_output=True, text=True, check=False).stdout.strip()
