"""`top`: what a running router does now, as a table that goes on."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Container, Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from . import options
from .asking import NoAnswer, Target, found, target, url_option
from .explain import seconds
from .output import print_json

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

PATH = "/_infermux/overview"
REQUESTS = 15  # rows
WIDEST = 18  # characters of a name: a long one must not push the other columns out
NARROW = 80  # characters a line; with fewer there are fewer columns
PASSING = frozenset({"starting", "cooling_down", "slow_start", "draining", "max_concurrent", "requests_per_minute"})


@click.command()
@options.config
@options.as_json
@url_option
@click.option("--once", is_flag=True, help="Print one table and end.")
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between looks."
)
def top(path: str | None, as_json: bool, url: str | None, once: bool, interval: float) -> None:
    """Show providers and running requests of a running router, live. q or Ctrl+C ends it.

    The router is found as by `reload`. --json prints one overview and ends.
    """
    from rich.console import Console

    router = target(url, path)
    overview = found(router, PATH)
    if as_json:
        print_json(overview)
        return
    console = Console()
    if once or not console.is_terminal:
        console.print(table(overview, router.url, console.width))
        return
    with contextlib.suppress(KeyboardInterrupt):
        _live(console, router, overview, interval)


def _live(console: Any, router: Target, overview: dict[str, Any], interval: float) -> None:
    from rich.live import Live
    from rich.text import Text

    shown: RenderableType = table(overview, router.url, console.width)
    with _keys(), Live(shown, console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while not _quit_within(interval):
            try:
                shown = table(found(router, PATH), router.url, console.width)
            except NoAnswer as gone:
                shown = Text(gone.message, style="red")
            live.update(shown, refresh=True)


@contextlib.contextmanager
def _keys() -> Generator[None]:
    """Keys arrive as they are pressed, and are not shown; where there is no terminal to read from, none do."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _quit_within(interval: float) -> bool:
    """Wait; True as soon as q is pressed."""
    if not sys.stdin.isatty():
        time.sleep(interval)
        return False
    until = time.monotonic() + interval
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            pressed = os.read(sys.stdin.fileno(), 64)
            if not pressed or b"q" in pressed.lower():
                return True
    return False


def table(overview: dict[str, Any], url: str, width: int = NARROW) -> Group:
    """The whole screen, for lines of `width` characters."""
    from rich.console import Group
    from rich.text import Text

    rows = overview["providers"]
    routable = sum(row["routable"] for row in rows)
    state = "draining" if overview["draining"] else "ready" if overview["ready"] else "not ready"
    head = Text.assemble(
        (f"infermux {overview['version']}  ", "bold"),
        (state, "green" if state == "ready" else "red"),
        f"  {routable} of {len(rows)} routable  {overview['in_flight']} in flight\n",
        (f"{url}  {overview['strategy']}", "dim"),
    )
    shown: list[RenderableType] = [head, _providers(overview, narrow=width < NARROW)]
    if overview["requests"]:
        shown.append(_requests(overview["requests"], narrow=width < NARROW))
    else:
        shown.append(Text("nothing is running", style="dim"))
    return Group(*shown)


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[Text]], *, right: Container[str], give: Container[str]
) -> Table:
    """Where there is no room the columns in `give` are cut: the others are as wide as what is in them."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True)
    for index, name in enumerate(heads):
        justify: Literal["left", "right"] = "right" if name in right else "left"
        least = None if name in give else max([len(name), *(row[index].cell_len for row in rows)])
        made.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in rows:
        made.add_row(*row)
    return made


def _providers(overview: dict[str, Any], *, narrow: bool) -> Table:
    from rich.text import Text

    heads = ["PROVIDER", "STATE", "FLIGHT", "ANSWER", "FIRST", "CIRCUIT", "FAILED"]
    rows: list[list[Text]] = []
    for row in overview["providers"]:
        window, ewma = row["circuit"]["window"], row["ewma"]
        failed = f"{window['error_rate']:.0%} of {window['requests']}" if window["requests"] else "-"
        state = "routable" if row["routable"] else row["reason"]
        tone = "green" if row["routable"] else "yellow" if state in PASSING else "dim" if state == "disabled" else "red"
        averages = (seconds(of["seconds"]) if of["samples"] else "-" for of in (ewma["response"], ewma["first_token"]))
        cells = (str(row["in_flight"]), *averages, row["circuit"]["state"], failed)
        rows.append([Text(_cut(row["name"])), Text(state, style=tone), *map(Text, cells)])
    shown = 5 if narrow else len(heads)
    right = ("FLIGHT", "ANSWER", "FIRST", "FAILED")
    return _table(heads[:shown], [row[:shown] for row in rows], right=right, give=("PROVIDER",))


def _requests(rows: list[dict[str, Any]], *, narrow: bool) -> Table:
    from rich.text import Text

    heads = ["REQUEST", "STATE", "AGE", "MODEL", "PROVIDER", "CALLER"]
    shown = 4 if narrow else len(heads)
    made: list[list[Text]] = []
    for row in rows[:REQUESTS]:
        model = row["model"] or row["requested"]
        named = (_cut(name or "-") for name in (model, row["provider"], row["caller"]))
        cells = (row["id"], row["state"], seconds(row["age"]), *named)
        made.append(list(map(Text, cells[:shown])))
    table = _table(heads[:shown], made, right=("AGE",), give=("REQUEST", "MODEL", "PROVIDER", "CALLER"))
    if len(rows) > REQUESTS:
        table.add_row(Text(f"and {len(rows) - REQUESTS} more", style="dim"))
    return table


def _cut(name: str) -> str:
    return name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"
