"""Where the time of a request goes: `python -m bench.profile`, from the root of the repository.

`infermux serve` with everything on answers a steady load while py-spy (https://github.com/benfrederickson/py-spy) looks
at its stack some hundred times a second, C code included. Each sample counts for the innermost
frame whose file or function says which part of the program it is; the CPU time per request or event, measured of the
same process by the operating system, is divided by these shares. What comes out is a table in Markdown.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from infermux.bench.machine import Placement, pinned, placement
from infermux.bench.scenario import Scenario
from infermux.bench.tools import compiled
from infermux.bench.upstream import upstream

from . import operated
from .rounds import Bench
from .scenarios import SCENARIOS

RATE: Final = 250  # samples a second
SECONDS: Final = 12.0
KINDS: Final = ("whole-16", "stream-16", "stream-16-aligned")

PARTS: Final[tuple[tuple[str, str], ...]] = (
    ("kernel: send", r"^(__)?(libc_)?send|^sendto|sock_send|<built-in.*send"),
    ("kernel: receive", r"^(__)?(libc_)?recv|sock_recv"),
    ("kernel: epoll", r"epoll_(p?wait|ctl)|select_epoll"),
    (
        "ledger, log, metrics, books",
        r"actors/(ledger|journal|draft|record|decisions|purse|treasury|statement)|"
        r"http/(metrics|observing|request_log|traces|live_|overview|history|events)|database/|sqlalchemy|sqlite|"
        r"infermux/(logs|log_lines)|logging/|structlog",
    ),
    ("admission: key, budgets, limits", r"http/(access|admission)|actors/(keys|key_)|infermux/keys|actors/identity"),
    (
        "routing and lease",
        r"actors/(router|field|picker|ranking|strateg|catalogue|plan|preferences|suitab|provider|gate|"
        r"obstacles|outcomes|breaker|bucket|window|averages|ewma|penalty|lease|health|cooldown|learned|slow_start|"
        r"concurrency|keyring|budget|leasing|queue)",
    ),
    ("the kit: mailbox, ask, reply", r"actors/(actor|mailbox|ref|reply|kit|supervisor)"),
    ("reading the request", r"providers/peek|http/intake|actors/requests|http/passthrough"),
    ("the run: attempt, deadline, pump", r"actors/|http/(inference|caching|rules|errors)"),
    ("caller's side: head, framing, answer", r"http/"),
    ("provider's side: pool, send, parse, scan", r"providers/|httptools"),
    ("trio: loop, wake-ups, scopes", r"trio/|outcome[/.]"),
)
"""What a part is called, and what the files or functions of its frames look like. The first that matches counts."""
_WAITS: Final = re.compile(r"acquire_lock|cond_timedwait|cond_wait|take_gil")
"""Frames of threads that wait for one another: py-spy takes them for busy where it reads C frames too."""
OTHER: Final = "the rest of Python"
_PATTERNS: Final = [(name, re.compile(pattern)) for name, pattern in PARTS]
_FRAME: Final = re.compile(r"^(?P<function>.*) \((?P<file>.*?)(:\d+)?\)$")


@attrs.frozen(kw_only=True)
class Profile:
    """One kind of load. `cpu_us` per request or event, `shares` by part."""

    scenario: Scenario
    cpu_us: float
    samples: int
    shares: dict[str, float]


def part_of(frames: Sequence[str]) -> str:
    """The part that a stack belongs to; the outermost frame comes first."""
    for frame in reversed(frames):
        found = _FRAME.match(frame)
        text = frame if found is None else f"{found['file']} {found['function']}"
        function = frame if found is None else found["function"]
        for name, pattern in _PATTERNS:
            if pattern.search(function if name.startswith("kernel") else text):
                return name
    return OTHER


def shares(lines: Iterable[str]) -> tuple[int, dict[str, float]]:
    """Samples, and the share of each part, from stacks as py-spy's format `raw` has them: `a;b;c COUNT`."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if stack and count.isdigit() and not any(_WAITS.search(frame) for frame in frames[-4:]):
            found[part_of(frames)] += int(count)
    total = found.total()
    return total, {name: found[name] / total for name, _ in (*PARTS, (OTHER, "")) if found[name]}


def measure(kind: str, *, cpus: Placement, scratch: Path, spy: str) -> Profile:
    """Raises RuntimeError where the server does not come up, or py-spy may not look at it."""
    scenario = attrs.evolve(SCENARIOS[kind], name=f"profile-{kind}")
    missing: dict[str, str] = {}
    scratch = scratch / kind
    scratch.mkdir()
    with ExitStack() as stack:
        mock = stack.enter_context(upstream(scenario.pace, cpus=cpus.others, scratch=scratch))
        bench = Bench(scenario=scenario, mock=mock, cpus=cpus, scratch=scratch, say=lambda _: None)
        running = bench.start(operated.ON, stack, missing)
        if running is None or running.child is None:
            raise RuntimeError("; ".join(missing.values()))
        load = scenario.load(seconds=SECONDS)
        bench.run(running, attrs.evolve(load, seconds=1.0))
        measured = bench.measure(running, attrs.evolve(load, seconds=3.0), "plain")
        raw = scratch / "stacks"
        command = [spy, "record", "--native", "--full-filenames", "--format", "raw", "--rate", str(RATE)]
        command += ["--duration", str(int(SECONDS) - 2), "--output", str(raw), "--pid", str(running.child.popen.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watching:
            bench.run(running, load)
            said, _ = watching.communicate(timeout=60)
        if watching.returncode or not raw.exists():
            raise RuntimeError(f"py-spy: {said[-500:]}")
        samples, found = shares(raw.read_text().splitlines())
    cpu_us = measured.cpu_us(scenario.unit)
    if cpu_us is None:
        raise RuntimeError(f"{kind}: nothing was answered")
    return Profile(scenario=scenario, cpu_us=cpu_us, samples=samples, shares=found)


def markdown(profiles: Sequence[Profile]) -> str:
    """A column for each kind of load."""
    names = [name for name, _ in (*PARTS, (OTHER, "")) if any(name in each.shares for each in profiles)]
    lines = ["| part | " + " | ".join(f"{each.scenario.name.removeprefix('profile-')}" for each in profiles) + " |"]
    lines += ["|---" * (len(profiles) + 1) + "|"]
    for name in names:
        cells = [
            f"{each.shares.get(name, 0) * each.cpu_us:.1f} µs, {each.shares.get(name, 0):.0%}" for each in profiles
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    totals = [f"{each.cpu_us:.1f} µs per {each.scenario.unit}, {each.samples} samples" for each in profiles]
    lines.append("| all | " + " | ".join(totals) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 where it cannot be measured here, with the reason."""
    parser = argparse.ArgumentParser(prog="bench.profile", description="Where the CPU time of a request goes.")
    parser.add_argument("--kind", choices=KINDS, action="append", help="some of the loads")
    options = parser.parse_args(words)
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if spy is None:
        print("py-spy is not installed: it comes with the development environment", file=sys.stderr)
        return 1
    cpus = placement()
    try:
        for tool in ("mock", "load"):
            compiled(tool)
        with tempfile.TemporaryDirectory(prefix="infermux-profile-") as folder, pinned(cpus.others):
            found = [measure(kind, cpus=cpus, scratch=Path(folder), spy=spy) for kind in options.kind or KINDS]
    except RuntimeError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
