"""How long a start takes: `import infermux`, and `infermux serve` with ten providers until it answers."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
from pathlib import Path

import attrs

from infermux.bench.figures import Spread
from infermux.bench.machine import Placement, pinned
from infermux.bench.process import Child, DidNotStart, clean_environment, free_port, running
from infermux.bench.upstream import Pace, upstream

from .fronts import INFERMUX, Site, infermux_config

PROVIDERS = 10
_IMPORT = "import time; begun = time.perf_counter(); import {module}; print(time.perf_counter() - begun)"


@attrs.frozen(kw_only=True)
class Startup:
    """Milliseconds. `ready` None: `infermux serve` did not start, `problem` says why."""

    trio: Spread
    infermux: Spread
    ready: Spread | None
    problem: str | None = None


def measure(*, cpus: Placement, scratch: Path, rounds: int = 7) -> Startup:
    """Every round in fresh processes."""
    folder = scratch / "startup"
    folder.mkdir(exist_ok=True)
    imports: dict[str, list[float]] = {"trio": [], "infermux": []}
    for _ in range(rounds + 1):  # the first one compiles and fills the page cache
        for module, found in imports.items():
            found.append(_import_ms(module, cpus, folder))
    ready, problem = _ready(cpus, folder, rounds)
    return Startup(
        trio=_spread(imports["trio"][1:]), infermux=_spread(imports["infermux"][1:]), ready=ready, problem=problem
    )


def _spread(values: list[float]) -> Spread:
    found = Spread.of(values)
    assert found is not None
    return found


def _import_ms(module: str, cpus: Placement, scratch: Path) -> float:
    with pinned(cpus.gateway):
        command = [sys.executable, "-c", _IMPORT.format(module=module)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=scratch, env=clean_environment()
        )
    return float(result.stdout) * 1000


def _ready(cpus: Placement, scratch: Path, rounds: int) -> tuple[Spread | None, str | None]:
    problem = INFERMUX.missing()
    if problem is not None:
        return None, problem
    found: list[float] = []
    try:
        with upstream(Pace(), cpus=cpus.others, scratch=scratch) as mock:
            for _ in range(rounds):
                site = Site(port=free_port(), upstream=mock.base_url, folder=scratch)
                found.append(_ready_ms(site, cpus))
    except DidNotStart as failed:
        return None, str(failed)
    return Spread.of(found), None


def _ready_ms(site: Site, cpus: Placement) -> float:
    config = infermux_config(site, providers=PROVIDERS)
    words = (sys.executable, "-m", "infermux", "serve", "-c", str(config))
    begun = time.perf_counter()
    with running("infermux-start", words, cpus=cpus.gateway, scratch=site.folder) as child:
        _wait_for_health(child, site.port)
        return (time.perf_counter() - begun) * 1000


def _wait_for_health(child: Child, port: int, *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        child.check_alive()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _health(port) == 200:
                return
        time.sleep(0.002)
    raise DidNotStart(f"/_infermux/health was not answered within {seconds:g} s: {child.last_output()}")


def _health(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection):
        connection.request("GET", "/_infermux/health")
        return connection.getresponse().status


def markdown(startup: Startup) -> str:
    ready = f"not measured: {startup.problem}" if startup.ready is None else f"{startup.ready.text(0)} ms"
    return "\n".join(
        [
            "### import: how long a start takes",
            "",
            "| what | median (range) |",
            "|---|---|",
            f"| `import trio` | {startup.trio.text(0)} ms |",
            f"| `import infermux` | {startup.infermux.text(0)} ms |",
            f"| `infermux serve` with {PROVIDERS} providers, to the first answer | {ready} |",
            "",
        ]
    )
