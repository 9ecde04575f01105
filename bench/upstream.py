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
    """Counters since the last reset. `open` chats run now, `aborted` were left, `bad` were not understood."""

    connections: int
    peak_connections: int
    requests: int
    streams: int
    open: int
    peak: int
    aborted: int
    bad: int


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
    """How a stream of the mock runs: `tokens` chunks, milliseconds between them and before the first."""

    tokens: int = 50
    interval_ms: float = 20.0
    first_ms: float = 0.0


@contextlib.contextmanager
def upstream(pace: Pace, *, cpus: frozenset[int], scratch: Path) -> Generator[Upstream]:
    """A mock upstream on a port of its own."""
    options = {"--tokens": pace.tokens, "--interval-ms": pace.interval_ms, "--first-ms": pace.first_ms, "--port": 0}
    words = [str(word) for pair in options.items() for word in pair]
    with running("mock", [compiled("mock"), *words], cpus=cpus, scratch=scratch) as child:
        line = wait_for_line(child, seconds=5)
        yield Upstream(child=child, port=msgspec.json.decode(line, type=_Announcement).port)
