"""The wall for people: `make faults`."""

from __future__ import annotations

import logging
import sys

from rich.console import Console
from rich.table import Table

from tests.e2e.faults._memory import virtually
from tests.e2e.faults._runs import Run, wrong
from tests.e2e.faults._sockets import by_sockets
from tests.e2e.faults._table import LATE, RESCUES, SCALE, WALL


def in_words(run: Run) -> str:
    """What the caller saw."""
    result = run.result
    if result.code is None:
        return "the whole answer"
    tokens = len(result.said.split())
    if result.status == 200:
        return f"{tokens} tokens, then the error {result.code}"
    return f"{result.status} {result.code}"


def main() -> int:
    logging.disable(logging.CRITICAL)  # what goes wrong here is in the table
    console = Console(width=max(150, Console().width))
    failed = 0
    for rescue in RESCUES:
        runs = virtually(WALL, rescue=rescue)
        quick = {(run.case.name, run.stream): run for run in by_sockets(WALL, rescue=rescue)}
        table = Table(title=f"Faults, rescue: {'continue' if rescue else 'none'}", title_justify="left")
        for column in ("fault", "asked for", "what the caller saw", "attempts", "seconds", f"sockets, x{SCALE:g}", ""):
            table.add_column(column, justify="right" if column[:3] in {"sec", "soc"} else "left")
        for run in runs:
            other = quick[run.case.name, run.stream]
            found = [*wrong(run), *wrong(other, scale=SCALE, late=LATE)]
            failed += bool(found)
            table.add_row(
                run.case.name,
                "stream" if run.stream else "whole",
                in_words(run),
                " + ".join(str(count) for count in run.attempts),
                f"{run.result.seconds:.2f}",
                f"{other.result.seconds:.2f}",
                "[red]" + "; ".join(found) if found else "ok",
            )
        console.print(table)
    console.print(f"[red]{failed} are not as they must be" if failed else "all as they must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
