"""What is measured: a front is something that answers chat completions with the mock upstream behind it.

A front may be missing (its program is not installed); then it is named as missing, never left out in silence.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import attrs

from infermux.bench.callers import MODEL
from infermux.bench.load import KEY, Load, local, place_of
from infermux.bench.process import Child, DidNotStart, free_port, running

BEFORE = "before"


@attrs.frozen(kw_only=True)
class Command:
    """How to start a front that listens on a given port.

    One that chooses its port itself writes it to `port_file`, as a number, once it listens.
    """

    words: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict[str, str])
    port_file: Path | None = None


@attrs.frozen(kw_only=True)
class Site:
    """What a front is made for: its port, where the upstream is, a folder for its configuration."""

    port: int
    upstream: str
    folder: Path

    @property
    def upstream_address(self) -> str:
        """HOST:PORT of the upstream."""
        return self.upstream.removeprefix("http://").removesuffix("/v1")


@attrs.frozen(kw_only=True)
class Asks:
    """What callers of a front send: a key, and what else it needs. None: as the scenario has it."""

    key: str = attrs.field(default=KEY, repr=False)
    path: str | None = None
    model: str | None = None
    headers: tuple[str, ...] = ()

    def of(self, load: Load) -> Load:
        """The load as this front's callers send it."""
        model = load.model if self.model is None else self.model
        headers = dict(header.split(": ", 1) for header in self.headers)
        return attrs.evolve(load, key=self.key, path=self.path, model=model, headers=headers)


@attrs.frozen(kw_only=True)
class RunningFront:
    """`child` None: the upstream itself. `settles` as in `Front`."""

    name: str
    port: int
    child: Child | None
    asks: Asks = attrs.field(factory=Asks)
    settles: float = 0.0


@attrs.frozen(kw_only=True)
class Front:
    """`command` None: the upstream itself. `missing` says why it cannot run here, None when it can.

    `start_seconds` bounds its start, `warm_up_seconds` is how long it runs before anything counts; `rounds` how many
    rounds it takes part in, for those so slow that more would only cost time. `during` is entered for each round.
    `settles`: the seconds after a round in which it still works for its requests; CPU time is read after them.
    `version` is that of what is installed, "" where it is this checkout's.
    """

    name: str
    command: Callable[[Site], Command] | None
    missing: Callable[[], str | None] = lambda: None
    start_seconds: float = 20.0
    warm_up_seconds: float = 0.5
    rounds: int | None = None
    asks: Callable[[Site], Asks] = lambda _site: Asks()
    during: Callable[[RunningFront], contextlib.AbstractContextManager[None]] = lambda _running: (
        contextlib.nullcontext()
    )
    settles: float = 0.0
    version: Callable[[], str] = lambda: ""


def version_in(venv: Path, distribution: str) -> str:
    """The version of a distribution in another environment of Python."""
    found = sorted(venv.glob(f"lib/python*/site-packages/{distribution}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").removeprefix(f"{distribution}-") if found else "not installed"


@contextlib.contextmanager
def started(front: Front, *, upstream_port: int, cpus: frozenset[int], scratch: Path) -> Generator[RunningFront]:
    """The front, answering chat requests. Raises `DidNotStart`."""
    if front.command is None:
        yield RunningFront(name=front.name, port=upstream_port, child=None)
        return
    folder = scratch / f"front-{front.name}"  # a bare "infermux" in the working directory could hide the package
    folder.mkdir(exist_ok=True)
    site = Site(port=free_port(), upstream=f"http://127.0.0.1:{upstream_port}/v1", folder=folder)
    command = front.command(site)
    with running(front.name, command.words, cpus=cpus, scratch=folder, env=command.env) as child:
        deadline = time.monotonic() + front.start_seconds
        port = site.port if command.port_file is None else _written(command.port_file, child, deadline)
        up = RunningFront(name=front.name, port=port, child=child, asks=front.asks(site), settles=front.settles)
        _wait_until_it_answers(up, child, deadline)
        yield up


def _written(port_file: Path, child: Child, deadline: float) -> int:
    while time.monotonic() < deadline:
        child.check_alive()
        if port_file.exists() and (text := port_file.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.05)
    raise DidNotStart(f"{child.name} did not say where it listens: {child.last_output()}")


def _wait_until_it_answers(front: RunningFront, child: Child, deadline: float) -> None:
    """Until a chat request through the front is answered with 200."""
    answer = "nothing listens"
    while time.monotonic() < deadline:
        child.check_alive()
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = _chat(front)
            if status == 200:
                return
            answer = f"status {status}, {text[:300]}"
        time.sleep(0.1)
    raise DidNotStart(f"{child.name} gave no answer in time ({answer}): {child.last_output()}")


def _chat(front: RunningFront) -> tuple[int, str]:
    load = front.asks.of(Load(prompt_bytes=0))
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=5)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json", **load.sent_headers}
        connection.request("POST", place_of(local(front.port)).path_of(load), load.body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")


# infermux, on both of its bindings. Limits are set and never reached, so the buckets are used.


def infermux_config(site: Site, *, providers: int = 1, more: Mapping[str, object] | None = None) -> Path:
    """An infermux.yml with `providers` providers, all of them the mock, and `more` in the place of what it has."""
    entries = [
        {"name": f"mock-{number}", "type": "openai", "models": [MODEL], "health_check": {"method": "models"}}
        for number in range(providers)
    ]
    return _config(site, entries, more or {})


def _config(site: Site, providers: Sequence[Mapping[str, object]], more: Mapping[str, object]) -> Path:
    """An infermux.yml with these providers, completed by what all have."""
    same = {
        "api_key": "bench",
        "base_url": site.upstream,
        "rate_limits": {"requests_per_minute": 1_000_000_000, "tokens_per_minute": 1_000_000_000_000},
    }
    entries = [{**same, **provider} for provider in providers]
    config = site.folder / "infermux.yml"
    # JSON is YAML, and needs no quoting rules of ours.
    settings = {
        "listen": f"127.0.0.1:{site.port}",
        "log": {"level": "warn"},
        "ledger": {"url": None},  # as before there was one, and not the user's own
        "providers": entries,
        **more,
    }
    config.write_text(json.dumps(settings, indent=2))
    return config


def _infermux(site: Site) -> Command:
    return serve(infermux_config(site))


def serve(config: Path) -> Command:
    """The command line's server, of this checkout."""
    return Command(words=(sys.executable, "-m", "infermux", "serve", "-c", str(config)))


def earlier(checkout: Path) -> Front:
    """The infermux of another checkout, such as a worktree of an earlier commit, under the same interpreter."""
    env = {"PYTHONPATH": str(checkout)}

    knows_ledger = (checkout / "infermux" / "database").is_dir()

    def command(site: Site) -> Command:
        made = infermux_config(site)
        if not knows_ledger:
            made.write_text(json.dumps({k: v for k, v in json.loads(made.read_text()).items() if k != "ledger"}))
        return attrs.evolve(serve(made), env=env)

    def missing() -> str | None:
        words = [sys.executable, "-c", "import infermux; print(infermux.__file__)"]
        found = subprocess.run(words, env={**os.environ, **env}, cwd="/", capture_output=True, text=True, check=False)
        inside = found.returncode == 0 and Path(found.stdout.strip()).is_relative_to(checkout)
        return None if inside else f"there is no infermux in {checkout}"

    return Front(name=BEFORE, command=command, missing=missing)


MODELS = {"openai": MODEL, "anthropic": "bench-anthropic", "bedrock": "bench-bedrock"}
"""The model that a provider of each type serves; the provider is chosen by it."""


def _every_dialect(site: Site) -> Command:
    providers: list[dict[str, object]] = [
        {"name": kind, "type": kind, "models": [model], "health_check": {"method": "models"}}
        for kind, model in MODELS.items()
    ]
    providers[-1] |= {"region": "us-east-1", "base_url": site.upstream.removesuffix("/v1")}
    providers[-1] |= {"health_check": {"method": "none"}}  # the mock lists no models as Bedrock does
    return serve(_config(site, providers, {}))


EVERY_DIALECT = Front(name="infermux", command=_every_dialect)


def _asgi(site: Site) -> Command:
    words = (sys.executable, "-m", "hypercorn", "-k", "trio", "--backlog", "4096", "-b", f"127.0.0.1:{site.port}")
    env = {"INFERMUX_CONFIG": str(infermux_config(site))}
    return Command(words=(*words, "infermux.http.asgi:app"), env=env)


def _module_missing(name: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        return None if found else f"there is no module {name}"

    return missing


DIRECT = Front(name="direct", command=None)
INFERMUX = Front(name="infermux", command=_infermux, missing=_module_missing("infermux.__main__"))
ASGI = Front(name="asgi", command=_asgi, missing=_module_missing("infermux.http.asgi"))
