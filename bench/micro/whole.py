"""Whole requests in-process: from the bytes that a caller sent to the bytes it is answered with, without the kernel.

The express lane and the express transport run as they do in the server, over wires whose other side is always ready:
parsing, access, routing, lease, adapter, outcome and record are all in it; trio's loop, sockets and epoll are not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from infermux.bench.callers import CHAT, MODEL
from infermux.config import load_text
from infermux.config.settings import Config, LogSettings, ProviderSettings
from infermux.database.keys import KeyFile
from infermux.database.place import Place
from infermux.database.store import Store
from infermux.http.application import Application, open_application
from infermux.http.connection import Connection, Lane
from infermux.http.framing import ParsedHead
from infermux.http.inference import is_inference
from infermux.keys import new_key
from infermux.log_lines import Lines
from infermux.logs import LineFormatter
from infermux.providers.express import ExpressTransport
from infermux.providers.interface import Adapter
from infermux.providers.openai import Dialect, OpenAI, bearer, targets_below
from infermux.providers.transport import Origin
from infermux.providers.wire import Wire

from .bodies import chat_events
from .case import Act, Case
from .driving import step
from .steps import ALLOWS
from .wires import CallerWire, ProviderWire

EVENTS: Final = 50  # of a stream
_URL: Final = "http://127.0.0.1:1/v1"
_ANSWER: Final = msgspec.json.encode(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "The fox. " * 60}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 350, "completion_tokens": 48, "total_tokens": 398},
    }
)


def _whole() -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)
    return [head + _ANSWER]


def _stream() -> list[bytes]:
    """A read for each event, and one for what ends the answer."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":350,"completion_tokens":50,"total_tokens":400}}\n\n'
    end = _chunk(stop) + _chunk(usage) + _chunk(b"data: [DONE]\n\n") + _chunk(b"")
    return [head, *[_chunk(event) for event in chat_events(EVENTS)], end]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextmanager
def _logged(settings: LogSettings, path: Path) -> Generator[None]:
    """What is logged goes into a file, as it goes to stderr in a server."""
    log = logging.getLogger("infermux")
    with path.open("w") as file:
        lines = Lines(file)
        lines.setFormatter(LineFormatter(settings))
        former = log.level, log.propagate
        log.addHandler(lines)
        log.propagate = False
        log.setLevel(logging.INFO if settings.level == "info" else logging.WARNING)
        try:
            yield
        finally:
            log.removeHandler(lines)
            log.level, log.propagate = former
            lines.close()


def _config(more: Mapping[str, object]) -> Config:
    provider = {
        "name": "p0",
        "type": "openai",
        "models": [MODEL],
        "api_key": "bench",
        "base_url": _URL,
        "health_check": {"disabled": True},
        "rate_limits": {"requests_per_minute": 1_000_000_000, "tokens_per_minute": 1_000_000_000_000},
    }
    settings = {"providers": [provider], "ledger": {"url": None}, "log": {"level": "warn"}, **more}
    return load_text(msgspec.json.encode(settings).decode(), source="<config>", environ={})


def _everything(folder: Path) -> tuple[Config, str]:
    """All that may be on, and the key that callers send. As the scenarios `operated-*` have it."""
    key, stored = new_key(name="bench", allows=ALLOWS, now=time.time())
    url = f"sqlite:///{folder / 'ledger.db'}"
    KeyFile(Store(Place.of(url))).add(stored)
    config = _config(
        {
            "auth": {"mode": "keys"},
            "ledger": {"url": url},
            "log": {"level": "info", "format": "json"},
            "budgets": [{"limit_usd": 1e6, "period": "month"}, {"caller": "*", "limit_usd": 1e6, "period": "day"}],
            "pricing": {"p0": {MODEL: {"input_per_million": 2.5, "output_per_million": 10.0}}},
        }
    )
    return config, key.reveal()


def _adapter(reads: Sequence[bytes], settings: ProviderSettings) -> Adapter:
    async def dial(_: Origin) -> Wire:
        return ProviderWire(reads)

    targets = targets_below(_URL)
    dialect = Dialect(base_url=_URL, target=targets, models=b"/v1/models", credential=bearer, responses=True)
    return OpenAI(settings, dialect, ExpressTransport(Origin.of(_URL), dial=dial))


class _Nowhere:
    """In place of hypercorn, which has nothing to do here."""

    async def answer(self, connection: Connection, head: ParsedHead) -> bool:
        raise AssertionError(f"{head.target!r} is no inference")

    async def take_http2(self, connection: Connection) -> None:
        raise AssertionError("nobody speaks HTTP/2 here")


@asynccontextmanager
async def serving(*, stream: bool, everything: bool) -> AsyncGenerator[Act]:
    """One connection to a router with one provider. The operation is a whole request on it."""
    with TemporaryDirectory(prefix="infermux-micro-") as name:
        folder = Path(name)
        config, key = _everything(folder) if everything else (_config({}), "bench")
        reads = _stream() if stream else _whole()
        with _logged(config.log, folder / "log"):
            async with open_application(config, environ={}, adapters=partial(_adapter, reads)) as application:
                act, connection = _connected(application, stream=stream, key=key)
                try:
                    yield act
                finally:
                    connection.close()
                    connection.lane.watch.close()


def _connected(application: Application, *, stream: bool, key: str) -> tuple[Act, Connection]:
    lane = Lane(handler=application.inference, is_inference=is_inference, elsewhere=_Nowhere())
    wire = CallerWire()
    connection = Connection(lane, wire)
    running: Any = connection.serve()
    body = CHAT.body(stream=stream, prompt_bytes=1500)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    step(running)

    def act() -> None:
        wire.ask(request)
        step(running)

    act()
    answer = b"".join(wire.writes)
    end = b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else _ANSWER
    if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(end)):
        raise RuntimeError(f"the router answered {answer[:500]!r}")
    return act, connection


def _case(*, stream: bool, everything: bool) -> Case:
    def opened() -> AbstractAsyncContextManager[Act]:
        return serving(stream=stream, everything=everything)

    what = f"stream of {EVENTS} events, an event" if stream else "request"
    switched = "everything on" if everything else "everything off"
    return Case(name=f"whole {what}, {switched}", open=opened, per=EVENTS if stream else 1)


CASES: Final = tuple(
    _case(stream=stream, everything=everything) for stream in (False, True) for everything in (False, True)
)
