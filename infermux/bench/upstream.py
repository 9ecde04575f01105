"""The mock upstream as the runner sees it."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Generator
from pathlib import Path

import attrs
import msgspec

from .process import Child, running, wait_for_line
from .tools import compiled


class _Announcement(msgspec.Struct, frozen=True):
    port: int


class UpstreamStats(msgspec.Struct, frozen=True):
    """Counters since the last reset. `open` chats run now, `aborted` were left, `bad` were not understood.

    `failed` were answered with the fault that was asked for, and are not among `requests`.
    """

    connections: int
    peak_connections: int
    requests: int
    streams: int
    open: int
    peak: int
    aborted: int
    bad: int
    failed: int


@attrs.frozen(kw_only=True)
class Upstream:
    child: Child
    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> UpstreamStats:
        return self._stats("GET", "/stats")

    def reset(self) -> None:
        self._stats("POST", "/stats/reset")

    def _stats(self, method: str, path: str) -> UpstreamStats:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, path)
            return msgspec.json.decode(connection.getresponse().read(), type=UpstreamStats)


@attrs.frozen(kw_only=True)
class Pace:
    """How the mock answers: `tokens` chunks, milliseconds between them, before the first, and before a whole answer."""

    tokens: int = 50
    interval_ms: float = 20.0
    first_ms: float = 0.0
    whole_ms: float = 0.0


@attrs.frozen(kw_only=True)
class Faults:
    """Below /faulty each `every`-th request is answered with `status`, 0: not at all. `retry_after` in seconds."""

    every: int
    status: int
    retry_after: int = 0


@contextlib.contextmanager
def upstream(
    pace: Pace, *, cpus: frozenset[int], scratch: Path, model: str | None = None, faults: Faults | None = None
) -> Generator[Upstream]:
    """A mock upstream on a port of its own. Raises CannotCompile, DidNotStart."""
    options: dict[str, object] = {
        "--tokens": pace.tokens,
        "--interval-ms": pace.interval_ms,
        "--first-ms": pace.first_ms,
        "--whole-ms": pace.whole_ms,
        "--port": 0,
    }
    if model is not None:
        options["--model"] = model
    if faults is not None:
        options |= {"--fail-every": faults.every, "--fail-status": faults.status, "--retry-after": faults.retry_after}
    words = [str(word) for pair in options.items() for word in pair]
    with running("mock", [compiled("mock"), *words], cpus=cpus, scratch=scratch) as child:
        line = wait_for_line(child, seconds=5)
        yield Upstream(child=child, port=msgspec.json.decode(line, type=_Announcement).port)
