"""The ASGI binding by its messages, on virtual time; what it shares with the express lane is in test_both_bindings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from infermux.config.settings import LimitSettings
from infermux.http.asgi_exchange import SMALL_PART, AsgiApp, add_part, head_of, inference_app
from infermux.http.exchange import CallerLeft, Exchange, Handler
from tests.http._serving import INFERENCE, echo, is_inference

LIMITS = LimitSettings(max_body_bytes=1000, header_timeout=10.0, write_timeout=60.0)


def scope(**changes: Any) -> dict[str, Any]:
    basis: dict[str, Any] = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "path": INFERENCE.decode(),
        "raw_path": INFERENCE,
        "query_string": b"a=b",
        "headers": [(b"X-A", b"1")],
        "client": ("10.0.0.1", 5),
    }
    return basis | changes


@attrs.define(eq=False)
class Server:
    """The server's side of one request."""

    sent: list[Any] = attrs.field(factory=list[Any])
    blocks: bool = False
    to_app: trio.MemorySendChannel[Any] = attrs.field(init=False)
    from_server: trio.MemoryReceiveChannel[Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.to_app, self.from_server = trio.open_memory_channel[Any](100)

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self.blocks:
            await trio.sleep_forever()
        self.sent.append(message)

    def body(self, data: bytes, *, more: bool = False) -> None:
        self.to_app.send_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self.to_app.send_nowait({"type": "http.disconnect"})

    async def run(self, app: AsgiApp, **changes: Any) -> None:
        await app(scope(**changes), self.from_server.receive, self.send)


async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("not for the application")


def app_of(handler: Handler, **options: Any) -> AsgiApp:
    return inference_app(handler, is_inference, nothing, limits=lambda: LIMITS, **options)


def test_the_head_is_as_the_express_lane_has_it() -> None:
    head = head_of(scope())
    assert (head.method, head.path, head.query) == (b"POST", INFERENCE, b"a=b")
    assert (head.headers, head.client) == ([(b"x-a", b"1")], ("10.0.0.1", 5))


def test_a_server_without_raw_paths_and_clients_will_do() -> None:
    head = head_of(scope(raw_path=None, client=None))
    assert (head.path, head.client) == (INFERENCE, None)


async def test_what_is_not_inference_goes_to_the_application() -> None:
    seen: list[str] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(scope["type"])

    app = inference_app(echo, is_inference, application, limits=lambda: LIMITS)
    for changes in ({"raw_path": b"/v1/models"}, {"type": "lifespan"}, {"type": "websocket"}):
        await Server().run(app, **changes)
    assert seen == ["http", "lifespan", "websocket"]


async def test_pieces_taken_together_leave_together(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [(b"X-A", b"1"), (b"Connection", b"close")])
        assert not exchange.send_now(b"one,")
        assert not exchange.send_now(b"two")
        await exchange.flush()
        await exchange.flush()
        exchange.send_now(b"three")
        await exchange.finish()

    server = Server()
    await server.run(app_of(handler))
    assert server.sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]},
        {"type": "http.response.body", "body": b"one,two", "more_body": True},
        {"type": "http.response.body", "body": b"three", "more_body": False},
    ]


async def test_a_body_that_stops_coming_is_a_request_timeout(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    server.body(b"abc", more=True)
    await server.run(app_of(echo))
    assert trio.current_time() == pytest.approx(10, abs=0.1)
    assert server.sent[0]["status"] == 408


async def test_tiny_parts_of_a_body_are_put_together(autojump_clock: trio.testing.MockClock) -> None:
    parts: list[bytes | bytearray] = []
    for _ in range(100_000):
        add_part(parts, b"ab")
    assert b"".join(parts) == b"ab" * 100_000
    assert len(parts) < 10
    large = b"x" * SMALL_PART
    add_part(parts, large)
    assert parts[-1] is large  # not copied
    server = Server()
    for part in (b"a", b"", b"bc"):
        server.body(part, more=True)
    server.body(b"d")
    await server.run(app_of(echo))
    assert server.sent[-1]["body"] == b"4"


@pytest.mark.parametrize(("version", "length", "said"), [("1.1", b"5", True), ("1.1", b"0", False), ("2", b"5", False)])
async def test_who_is_refused_before_its_body_is_read_is_told_that_the_connection_ends(
    autojump_clock: trio.testing.MockClock, version: str, length: bytes, said: bool
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(401, [], b"no")

    server = Server()
    await server.run(app_of(refuse), http_version=version, headers=[(b"content-length", length)])
    assert ((b"connection", b"close") in server.sent[0]["headers"]) is said


async def test_a_steady_body_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()

    async def upload() -> None:
        for _ in range(2):
            await trio.sleep(4.9)
            server.body(b"x" * 500, more=True)
        server.body(b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await server.run(app_of(echo))
    assert server.sent[-1]["body"] == b"1000"


async def test_a_server_that_takes_nothing_is_a_caller_that_left(autojump_clock: trio.testing.MockClock) -> None:
    outcome: list[bool] = []

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        with pytest.raises(CallerLeft):
            await exchange.flush()
        outcome.append(exchange.left and exchange.stalled)

    server = Server(blocks=True)
    await server.run(app_of(handler))
    assert outcome == [True]
    assert trio.current_time() == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize("act", ["respond", "flush", "finish"])
async def test_nothing_can_be_told_to_a_caller_that_left(act: str, autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await trio.sleep(1)
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "respond": lambda: exchange.respond(200, [], b""),
            "flush": exchange.flush,
            "finish": exchange.finish,
        }
        if act != "respond":
            exchange.start(200, [])
        with pytest.raises(CallerLeft):
            await acts[act]()
        with pytest.raises(CallerLeft):
            await exchange.body()

    server = Server()
    server.leave()
    await server.run(app_of(handler))
    assert server.sent == []


async def test_a_body_that_was_whole_before_the_caller_left_can_be_read(autojump_clock: trio.testing.MockClock) -> None:
    bodies: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        await trio.sleep(1)
        assert exchange.left
        bodies.append(await exchange.body())

    server = Server()
    server.body(b"ab", more=True)
    server.body(b"c")
    server.leave()
    await server.run(app_of(handler))
    assert bodies == [b"abc"]


async def test_shutting_down_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [], str(exchange.shutting_down).encode())

    server = Server()
    await server.run(app_of(handler, is_shutting_down=lambda: True))
    assert server.sent[-1]["body"] == b"True"
