"""A strict, scriptable upstream: OpenAI's, Azure's or Ollama's API, on a real socket of the loopback or in memory.

In a test:

    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(status=500))
        ...                                    # talk to upstream.base_url
        assert upstream.requests[0].json["model"] == "gpt-4o"

By hand: `python -m tests.mocks.openai_upstream --port 9000 --interval 0.02`.

It refuses what the real API refuses (`openai_rules`, `openai_further`), whatever the script says: a step of the script
is used up only by a chat, completion or response request that was acceptable.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import ssl
import sys
import urllib.parse
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import trio

from tests.mocks.inbox import Inbox, close, reset
from tests.mocks.listening import listening
from tests.mocks.memory_net import MemoryNet, MemoryStream
from tests.mocks.openai_answers import Mode, Reply, completion, continued, events
from tests.mocks.openai_further import FURTHER, check_completion, model_of, text_reply
from tests.mocks.openai_rules import Json, Recorded, Refusal, check_chat, check_content_type, decode

__all__ = ["KEY", "OpenAIUpstream", "Recorded", "Reply"]

KEY = "sk-mock-0123456789abcdef"
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
PLAYED = ("/chat/completions", "/completions", "/responses")


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class OpenAIUpstream:
    """The mock; an async context manager. `default` answers when `script` is empty; `further` those of `FURTHER`.

    `net`: it listens there instead of on a socket.
    """

    def __init__(
        self,
        mode: Mode = "openai",
        *,
        keys: Iterable[str] = (KEY,),
        models: Iterable[str] = ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small"),
        prefix: str = "/v1",
        default: Reply | None = None,
        stream_options: bool = True,
        any_model: bool = False,
        api_version: str = "2024-08-01-preview",
        responses: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        port: int = 0,
        net: MemoryNet | None = None,
    ) -> None:
        self.mode: Mode = mode
        self.keys = frozenset(keys)
        self.models = tuple(models)
        self.prefix = prefix
        self.default = default or Reply()
        self.stream_options = stream_options
        self.any_model = any_model
        self.api_version = api_version
        self.responses = responses
        self.further: Reply | None = None
        self.kept: set[str] | None = None  # ids of responses that can be gone on from; None: any can
        self.script: deque[Reply] = deque()
        self.requests: list[Recorded] = []
        self.connections = 0
        self.open_connections = 0
        self.in_flight = 0
        self.peak = 0
        self.port = port
        self._net = net
        self._ssl = ssl_context
        self._serial = itertools.count(1)
        self._idle = trio.Event()
        self._clients: list[_Closable] = []

    @property
    def origin(self) -> str:
        return f"http{'s' if self._ssl else ''}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What a provider of this kind is configured with."""
        return self.origin + (self.prefix if self.mode == "openai" else "")

    @property
    def chats(self) -> list[Recorded]:
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    async def __aenter__(self) -> OpenAIUpstream:
        self._server = listening(self._accept, net=self._net, port=self.port)
        self.port = await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()
        await self._server.__aexit__(None, None, None)  # a failed test is not to come back inside a group

    def serves(self, client: _Closable) -> None:
        """Close `client` before the server ends."""
        self._clients.append(client)

    async def wait_idle(self) -> None:
        """Return when no request is being answered."""
        if self.in_flight:
            self._idle = trio.Event()
            await self._idle.wait()

    def left(self) -> None:
        """A request was answered, or its caller left."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def _accept(self, stream: trio.SocketStream | MemoryStream) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            await _Connection(self, stream, self.connections, self._ssl).serve()
        finally:
            self.open_connections -= 1

    def next_reply(self) -> Reply:
        return self.script.popleft() if self.script else self.default

    def next_id(self) -> str:
        return f"chatcmpl-mock{next(self._serial)}"

    def check(self, request: Recorded) -> Json | Reply | None:
        """What is to be answered at once, or None for an acceptable request of the script's. Raises `Refusal`."""
        path = request.path
        if self.mode == "ollama" and (request.method, path) == ("GET", "/api/tags"):
            return {"models": [{"name": name, "model": name} for name in self.models]}
        if self.mode == "azure":
            return self._check_azure(request)
        self._check_key(request)
        below = path.removeprefix(self.prefix)
        if (request.method, below) == ("GET", "/models"):
            return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
        if request.method != "POST" or (below == "/responses" and not self.responses):
            raise Refusal(404, f"Invalid URL ({request.method} {path})")
        return self._check_post(request, below)

    def _check_post(self, request: Recorded, below: str) -> Reply | None:
        if below in FURTHER:
            self._check_model(model_of(request) or self.models[0])
            answer = FURTHER[below](request)
            return self.further or answer
        if below not in PLAYED:
            raise Refusal(404, f"Invalid URL ({request.method} {request.path})")
        check_content_type(request)
        body = decode(request.body)
        if below == "/completions":
            check_completion(body)
        elif below == "/chat/completions" and self.mode == "openai":
            check_chat(body, stream_options=self.stream_options)
        elif below == "/responses":
            self._check_previous(body.get("previous_response_id"))
        self._check_model(str(body.get("model")))
        return None

    def _check_previous(self, response: object) -> None:
        if response is not None and self.kept is not None and response not in self.kept:
            message = f"Previous response with id '{response}' not found."
            raise Refusal(400, message, code="previous_response_not_found", param="previous_response_id")

    def _check_key(self, request: Recorded) -> None:
        if not self.keys or self.mode == "ollama":
            return
        scheme, _, key = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "You didn't provide an API key.")
        if key not in self.keys:
            raise Refusal(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")

    def _check_azure(self, request: Recorded) -> Reply | None:
        if request.header("api-key") not in self.keys:
            raise Refusal(401, "Access denied due to invalid subscription key or wrong API endpoint.", code="401")
        parts = request.path.split("/")
        below = "/" + "/".join(parts[4:])
        right = parts[1:3] == ["openai", "deployments"] and below in ("/chat/completions", *FURTHER)
        if request.method != "POST" or not right or request.query.get("api-version") != self.api_version:
            raise Refusal(404, "Resource not found", code="404")
        if urllib.parse.unquote(parts[3]) not in self.models:
            raise Refusal(404, "The API deployment for this resource does not exist.", code="DeploymentNotFound")
        if below in FURTHER:
            return FURTHER[below](request)
        check_content_type(request)
        check_chat(decode(request.body), needs_model=False, stream_options=self.stream_options)
        return None

    def _check_model(self, model: str) -> None:
        if self.any_model or model in self.models:
            return
        if self.mode == "ollama":
            raise Refusal(404, f'model "{model}" not found, try pulling it first', type="api_error")
        raise Refusal(404, f"The model `{model}` does not exist.", code="model_not_found")


class _Connection:
    """One connection: how its requests are answered."""

    def __init__(
        self,
        upstream: OpenAIUpstream,
        stream: trio.SocketStream | MemoryStream,
        number: int,
        context: ssl.SSLContext | None,
    ) -> None:
        self._upstream = upstream
        self._socket = stream
        self._stream: trio.abc.Stream = (
            trio.SSLStream(stream, context, server_side=True, https_compatible=True) if context else stream
        )
        self._number = number

    async def serve(self) -> None:
        await Inbox(self._stream, self._number).serve(self._handle)

    async def _handle(self, request: Recorded) -> None:
        upstream = self._upstream
        upstream.requests.append(request)
        upstream.in_flight += 1
        upstream.peak = max(upstream.peak, upstream.in_flight)
        try:
            await self._respond(request)
        finally:
            upstream.left()

    async def _respond(self, request: Recorded) -> None:
        if request.header("host") != f"127.0.0.1:{self._upstream.port}":
            await self._send(request, 400, Refusal(400, "bad Host header").body())
            return
        try:
            answer = self._upstream.check(request)
        except Refusal as refusal:
            await self._send(request, refusal.status, refusal.body())
            return
        if isinstance(answer, dict):
            await self._send(request, 200, json.dumps(answer).encode())
            return
        await self._play(request, answer or self._upstream.next_reply())

    async def _play(self, request: Recorded, reply: Reply) -> None:
        await trio.sleep(reply.delay)
        if reply.hang:
            await trio.sleep_forever()
        if reply.reset:
            reset(self._socket)
        plain = reply.events is not None or reply.body is not None
        body = {} if plain else request.json
        if reply.refuses_prefill and body["messages"][-1]["role"] == "assistant":
            refusal = Refusal(400, "This model does not support assistant message prefill.")
            await self._send(request, 400, refusal.body())
            return
        if reply.continues:
            reply = continued(reply, body)
        if not plain and reply.status == 200 and not request.path.endswith("/chat/completions"):
            reply = text_reply(reply, body, self._upstream.next_id())
        if reply.status != 200 or reply.body is not None:
            error = Refusal(reply.status, f"scripted {reply.status}", type="server_error").body()
            await self._send(request, reply.status, error if reply.body is None else reply.body, reply)
        elif body.get("stream") or reply.events is not None:
            await self._send_events(request, reply, body)
        else:
            await self._send(
                request, 200, completion(reply, body, mode=self._upstream.mode, id_=self._upstream.next_id()), reply
            )

    def _head(self, status: int, content_type: str, reply: Reply | None, framing: str) -> bytes:
        number = len(self._upstream.requests)
        lines = [
            f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
            f"Content-Type: {content_type}",
            f"x-request-id: req_mock_{number}",
            "x-ratelimit-limit-requests: 10000",
            "x-ratelimit-remaining-requests: 9999",
            "x-ratelimit-reset-requests: 6ms",
            framing,
        ]
        if reply is not None:
            lines += [f"{name}: {value}" for name, value in reply.headers]
            if not reply.keep_alive:
                lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _send(self, request: Recorded, status: int, body: bytes, reply: Reply | None = None) -> None:
        kind = (reply.content_type if reply else None) or "application/json"
        head = self._head(status, kind, reply, f"Content-Length: {len(body)}")
        cut = None if reply is None else reply.cut_after if reply.reset_after is None else reply.reset_after
        await self._stream.send_all(head + body[:cut])
        if cut is not None and cut < len(body):
            if reply is not None and reply.reset_after is not None:
                await trio.sleep(0.02)  # a reset discards what the other side has not read yet
                reset(self._socket)
            await close(self._socket)
        request.finished_at = trio.current_time()
        if reply is not None and not reply.keep_alive:
            await close(self._socket)

    async def _send_events(self, request: Recorded, reply: Reply, body: Json) -> None:
        chunked = reply.framing == "chunked"
        framing = "Transfer-Encoding: chunked" if chunked else "Connection: close"
        kind = reply.content_type or "text/event-stream; charset=utf-8"
        await self._stream.send_all(self._head(200, kind, reply, framing))
        made = events(reply, body, mode=self._upstream.mode, id_=self._upstream.next_id())
        for event in made if reply.events is None else reply.events:
            match event:
                case b"CUT":
                    await close(self._socket)
                case b"RESET":
                    await trio.sleep(0.02)
                    reset(self._socket)
                case b"STALL":
                    await trio.sleep(reply.stall_for)
                case b"WAIT":
                    await trio.sleep(reply.interval)
                case _:
                    await self._stream.send_all(b"%x\r\n%b\r\n" % (len(event), event) if chunked else event)
        if chunked:
            await self._stream.send_all(b"0\r\n\r\n")
        request.finished_at = trio.current_time()
        if not chunked or not reply.keep_alive:
            await close(self._socket)


async def _main(arguments: list[str]) -> None:
    options: dict[str, Any] = dict(zip(arguments[::2], arguments[1::2], strict=True))
    mode = options.get("--mode", "openai")
    default = Reply(delay=float(options.get("--delay", "0")), interval=float(options.get("--interval", "0")))
    keys = (options["--key"],) if "--key" in options else ()
    port = int(options.get("--port", "9000"))
    async with OpenAIUpstream(mode, keys=keys, default=default, any_model=True, port=port) as upstream:
        print(upstream.base_url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(_main, sys.argv[1:])
