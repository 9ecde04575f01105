"""The load generator as the runner sees it: what to send, how, and what came of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path

import attrs
import msgspec

from .callers import CHAT, MODEL, Caller
from .machine import pinned
from .tools import compiled

# Some peers refuse to start without a key, and refuse weak ones; it is worth nothing beyond this run.
KEY = f"sk-{secrets.token_urlsafe(32)}"
_TICK = 0.1


class Latencies(msgspec.Struct, frozen=True):
    """Microseconds."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class LoadResult(msgspec.Struct, frozen=True):
    """What the load generator printed. `errors` counts by kind, `seconds` ends with the last response.

    `sample` is the head of the first response that was not right, `bad_status` the last status other than 200.
    """

    requests: int
    good: int
    failed: int
    seconds: float
    events: int
    chunks: int
    reads: int
    bytes: int
    reconnects: int
    stale: int
    peak: int
    bad_status: int
    errors: dict[str, int]
    latency_us: Latencies
    first_token_us: Latencies
    sample: str = ""

    @property
    def success(self) -> float:
        """The share of requests that were answered right; 0 when there were none."""
        return self.good / self.requests if self.requests else 0.0


@attrs.frozen(kw_only=True)
class Load:
    """What to send. `rate` 0: closed loop over `connections`, which join over `stagger` seconds.

    Otherwise `rate` requests per second in an open loop. Ends after `seconds` or `requests` (-1: no such bound).
    `path` in the place of the caller's; `headers` beside the usual ones, as "Name: value".
    """

    caller: Caller = CHAT
    model: str = MODEL
    stream: bool = False
    connections: int = 16
    seconds: float = 3.0
    rate: float = 0.0
    stagger: float = 0.0
    requests: int = -1
    timeout: float = 10.0
    min_events: int = 1
    prompt_bytes: int = 1500
    key: str = attrs.field(default=KEY, repr=False)
    path: str | None = None
    headers: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        return self.caller.body(stream=self.stream, prompt_bytes=self.prompt_bytes, model=self.model)

    @property
    def sent_path(self) -> str:
        return self.caller.path if self.path is None else self.path

    @property
    def sent_headers(self) -> tuple[str, ...]:
        return (f"Authorization: Bearer {self.key}", *self.headers)


def run_load(
    load: Load, port: int, *, cpus: frozenset[int], scratch: Path, on_tick: Callable[[], None] = lambda: None
) -> tuple[LoadResult, int]:
    """One run against 127.0.0.1:port, to its end, and the CPU nanoseconds it used. `on_tick`: ten times a second."""
    body = scratch / "body.json"
    body.write_bytes(load.body)
    before = os.times()
    with _started([str(compiled("load")), *_words(load, port, body)], cpus=cpus) as process:
        limit = time.monotonic() + load.seconds + 2 * load.timeout + 30
        while process.poll() is None and time.monotonic() < limit:
            on_tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)
        output, _ = process.communicate(timeout=5)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return msgspec.json.decode(output, type=LoadResult), int(used * 1e9)


@contextlib.contextmanager
def _started(command: list[str], *, cpus: frozenset[int]) -> Generator[subprocess.Popen[bytes]]:
    with pinned(cpus):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _words(load: Load, port: int, body: Path) -> list[str]:
    options = {
        "--port": port,
        "--path": load.sent_path,
        "--body": body,
        "--mode": "stream" if load.stream else "whole",
        "--last": load.caller.last,
        "--connections": load.connections,
        "--seconds": load.seconds,
        "--rate": load.rate,
        "--stagger": load.stagger,
        "--requests": load.requests,
        "--timeout": load.timeout,
        "--min-events": load.min_events,
    }
    headers = [word for header in load.sent_headers for word in ("--header", header)]
    return [*(str(word) for pair in options.items() for word in pair), *headers]
