"""A load generator in Python: `python -m infermux.bench.generator`, told by one JSON object on stdin.

It does what `c/load.c` does and prints the same lines, and speaks TLS too. One thread of asyncio: its loop waits in
whole milliseconds, and some ten thousand events a second are all it can do; the result says how busy it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import ssl
import sys
import time
from typing import Any

import msgspec

from .answer import Answer, Wrong
from .histogram import Histogram

_TELLS = 0.5
_DELAY = 0.001  # a refused connection is not tried again without a pause


class Told(msgspec.Struct, frozen=True):
    """What is to be done; see `load.Load` and the top of `c/load.c`. `host` is where to connect."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    body: str
    headers: dict[str, str]
    stream: bool
    last: str
    connections: int
    seconds: float
    rate: float
    stagger: float
    requests: int
    timeout: float
    min_events: int

    def request(self) -> bytes:
        body = self.body.encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {self.authority}",
            "Content-Type: application/json",
            "Accept: */*",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


class Run:
    """All connections, and what they counted."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.request = told.request()
        self.last = told.last.encode()
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.tls = ssl.create_default_context() if told.scheme == "https" else None
        self.latency, self.first = Histogram(), Histogram()
        self.errors = dict.fromkeys(Wrong, 0)
        self.issued = self.good = self.busy = self.peak = self.due = 0
        self.events = self.chunks = self.bytes = self.reads = self.reconnects = self.stale = self.bad_status = 0
        self.sample = ""
        self.stopped = False
        self._idle: list[Connection] = []  # the last one first: no more are opened than are needed
        self._all: list[Connection] = []
        self._cpu = time.process_time_ns()
        self.started = self.last_end = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until the time is over, or the requests, and what is under way has ended; or until `stop`."""
        if self.told.rate:
            self._join(self.told.connections)
        teller = asyncio.create_task(self._tell())
        self._start_due()
        await self.ended.wait()
        teller.cancel()
        for connection in self._all:
            connection.close()
        await asyncio.sleep(0)  # in which the sockets are closed

    def _join(self, count: int) -> None:
        joined = [Connection(self) for _ in range(count)]
        self._all += joined
        self._idle.extend(joined)

    def stop(self) -> None:
        self.stopped = True
        self.ended.set()

    def over(self, connection: Connection, wrong: Wrong | None) -> None:
        """A request of `connection` has ended."""
        answer, now = connection.answer, self.loop.time()
        self.busy -= 1
        self.last_end = now
        self.events += answer.events.count
        self.chunks += answer.chunks
        self.bytes += answer.bytes
        if wrong is None:
            self.good += 1
            self.latency.record(now - connection.intended)
            if connection.first:
                self.first.record(connection.first - connection.intended)
        else:
            self._count(wrong, answer)
        self._idle.append(connection)
        if wrong is Wrong.CONNECT:
            self.loop.call_later(_DELAY, self._start_due)
        else:
            self.loop.call_soon(self._start_due)

    def _count(self, wrong: Wrong, answer: Answer) -> None:
        self.errors[wrong] += 1
        if wrong is Wrong.STATUS:
            self.bad_status = answer.status
        self.sample = self.sample or answer.head.partition(b"\r\n\r\n")[0].decode("latin-1")

    def _may_start(self, intended: float) -> bool:
        told = self.told
        return intended < self.started + told.seconds and (told.requests < 0 or self.issued < told.requests)

    def _start_due(self) -> None:
        if self.ended.is_set():
            return
        now = self.loop.time()
        waits = self._start_open(now) if self.told.rate else self._start_closed(now)
        if waits is not None:
            self._wake_at(waits)
        elif not self.busy:
            self.ended.set()

    def _start_open(self, now: float) -> float | None:
        """When the next one is due, None when there is none."""
        while self._may_start(at := self.started + self.due / self.told.rate):
            if at > now:
                return at
            if not self._idle:
                return None  # the end of a request goes on
            self.due += 1
            self._start(at)
        return None

    def _start_closed(self, now: float) -> float | None:
        """When the next connection joins, None when all have."""
        told = self.told
        while len(self._all) < told.connections:
            at = self.started + told.stagger * len(self._all) / told.connections
            if at > now:
                break
            self._join(1)
        else:
            at = None
        while self._idle and self._may_start(now):
            self._start(now)
        return at if self._may_start(now) else None

    def _start(self, intended: float) -> None:
        self.issued += 1
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        self._idle.pop().ask(intended)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(at, self._start_due)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELLS)
            _say({"good": self.good, "failed": sum(self.errors.values())})

    def result(self) -> dict[str, Any]:
        """The object that `c/load.c` prints."""
        return {
            "errors": {wrong.value: count for wrong, count in self.errors.items()},
            "requests": self.issued - self.busy,
            "good": self.good,
            "failed": sum(self.errors.values()),
            "seconds": self.last_end - self.started,
            "events": self.events,
            "chunks": self.chunks,
            "reads": self.reads,
            "bytes": self.bytes,
            "reconnects": self.reconnects,
            "stale": self.stale,
            "peak": self.peak,
            "bad_status": self.bad_status,
            "cpu_ns": time.process_time_ns() - self._cpu,
            "stopped": self.stopped,
            "latency_us": self.latency.latencies(),
            "first_token_us": self.first.latencies(),
            "sample": self.sample,
        }


class Connection:
    """A place for one request at a time, over a link that is opened anew when it was closed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._link: _Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._asking = self._retried = False
        self.answer = Answer(run.last)
        self.intended = self.first = 0.0

    def ask(self, intended: float) -> None:
        """Send the request. `Run.over` is told when it has ended, whatever its end."""
        run = self._run
        self.intended, self.first = intended, 0.0
        self.answer = Answer(run.last)
        self._asking, self._retried = True, False
        self._timeout = run.loop.call_later(run.told.timeout, self._end, Wrong.TIMEOUT)
        self._send()

    def received(self, link: _Link, data: bytes) -> None:
        if link is not self._link:
            return
        if not self._asking:
            self._drop()  # an answer nobody asked for
            return
        self._run.reads += 1
        answer = self.answer
        if not answer.take(data):
            self._end(Wrong.FRAMING)
            return
        if not self.first and answer.events.count:
            self.first = self._run.loop.time()
        if answer.complete:
            self._judge()

    def lost(self, link: _Link) -> None:
        """Its link was closed, by us or by the server."""
        if link is not self._link:
            return
        self._link = None
        if not self._asking:
            return
        if self.answer.closed():
            self._judge()
        elif link.used and not self._retried and not self.answer.head:
            # Closed while it was idle: no fault of the server. Once more on a fresh connection, as clients do.
            self._run.stale += 1
            self._retried = True
            self._send()
        else:
            self._end(Wrong.CLOSED)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._asking = False
        self._drop()

    def _judge(self) -> None:
        told = self._run.told
        self._end(self.answer.right(stream=told.stream, least=told.min_events))

    def _send(self) -> None:
        if self._link is None:
            self._opening = self._run.loop.create_task(self._open())
        else:
            self._link.send(self._run.request)

    async def _open(self) -> None:
        told = self._run.told
        try:
            _, link = await self._run.loop.create_connection(
                lambda: _Link(self), told.host, told.port, ssl=self._run.tls
            )
        except OSError as error:
            self._run.sample = self._run.sample or str(error)
            self._opening = None
            self._end(Wrong.CONNECT)
        else:
            self._link = link
            link.send(self._run.request)

    def _end(self, wrong: Wrong | None) -> None:
        self._asking = False
        if self._timeout is not None:
            self._timeout.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if wrong is not None or not self.answer.keep_alive:
            self._run.reconnects += wrong is None
            self._drop()
        elif self._link is not None:
            self._link.used = True
        self._run.over(self, wrong)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.abort()


class _Link(asyncio.Protocol):
    """One TCP or TLS connection. `used`: a request was answered on it."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._lost = False
        self.used = False

    def send(self, data: bytes) -> None:
        """Also on one that the server has closed meanwhile: then `lost` follows."""
        if self._lost:
            self._owner.lost(self)
        elif self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._owner.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._lost = True
        self._owner.lost(self)


def _say(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


async def counted(words: bytes) -> dict[str, Any]:
    """Do what `words` tell; what came of it. SIGINT and SIGTERM end it early."""
    run = Run(msgspec.json.decode(words, type=Told))
    for number in (signal.SIGINT, signal.SIGTERM):
        run.loop.add_signal_handler(number, run.stop)
    await run.run()
    return run.result()


def main() -> None:
    """Read what to do, do it, say what came of it."""
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _say(asyncio.run(counted(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
