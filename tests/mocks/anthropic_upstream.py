"""A strict, scriptable upstream on a real socket of the loopback: Anthropic's Messages API.

In a test:

    async with AnthropicUpstream() as upstream:
        upstream.script.append(Reply(status=529))
        ...                                    # talk to upstream.base_url
        assert upstream.messages[0].json["max_tokens"] == 1024

It refuses what the real API refuses (`anthropic_rules`), whatever the script says: a step of the script is used up only
by a request for a message that was acceptable. By hand: `python -m tests.mocks.anthropic_upstream --port 9001`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections import deque
from collections.abc import Iterable
from typing import Protocol

import trio

from tests.mocks.anthropic_answers import Reply, Tool, Usage, events, message
from tests.mocks.anthropic_connection import Connection
from tests.mocks.anthropic_rules import VERSIONS, Refusal, check_messages, decode, refuse
from tests.mocks.listening import listening
from tests.mocks.memory_net import MemoryNet, MemoryStream
from tests.mocks.openai_rules import Json, Recorded

__all__ = ["KEY", "MODELS", "AnthropicUpstream", "Recorded", "Reply", "Tool", "Usage"]

KEY = "sk-ant-mock-0123456789abcdef"
MODELS = ("claude-haiku-4-5", "claude-opus-4-5", "claude-3-5-haiku-latest")
PAGE = 2
"""Models a page has, so that a listing needs more than one."""


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class AnthropicUpstream:
    """The mock; an async context manager. `default` answers when `script` is empty. `net`: it listens there."""

    def __init__(
        self,
        *,
        keys: Iterable[str] = (KEY,),
        models: Iterable[str] = MODELS,
        default: Reply | None = None,
        any_model: bool = False,
        port: int = 0,
        net: MemoryNet | None = None,
    ) -> None:
        self.keys = frozenset(keys)
        self.models = tuple(models)
        self.default = default or Reply()
        self.any_model = any_model
        self.script: deque[Reply] = deque()
        self.requests: list[Recorded] = []
        self.connections = 0
        self.open_connections = 0
        self.in_flight = 0
        self.port = port
        self._net = net
        self._serial = itertools.count(1)
        self._idle = trio.Event()
        self._clients: list[_Closable] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[Recorded]:
        """The requests for messages, acceptable or not."""
        return [request for request in self.requests if request.path == "/v1/messages"]

    async def __aenter__(self) -> AnthropicUpstream:
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

    def came(self, request: Recorded) -> None:
        self.requests.append(request)
        self.in_flight += 1

    def left(self) -> None:
        """A request was answered, or its caller left."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def _accept(self, stream: trio.SocketStream | MemoryStream) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            await Connection(self, stream, self.connections).serve()
        finally:
            self.open_connections -= 1

    def next_reply(self) -> Reply:
        return self.script.popleft() if self.script else self.default

    def whole(self, reply: Reply, request: Json) -> bytes:
        return json.dumps(message(reply, request, next(self._serial))).encode()

    def events(self, reply: Reply, request: Json) -> Iterable[bytes]:
        return events(reply, request, next(self._serial))

    def check(self, request: Recorded) -> Json | None:
        """What is to be answered at once, or None for an acceptable request for a message. Raises `Refusal`."""
        if request.header("host") != f"127.0.0.1:{self.port}":
            raise refuse("bad Host header")
        self._check_head(request)
        match request.method, request.path:
            case "GET", "/v1/models":
                return self._models(request)
            case "POST", "/v1/messages":
                self._check_body(request, counting=False)
                return None
            case "POST", "/v1/messages/count_tokens":
                body = self._check_body(request, counting=True)
                return {"input_tokens": len(json.dumps(body["messages"])) // 4}
            case method, path:
                raise Refusal(404, f"Not Found ({method} {path})")

    def _check_head(self, request: Recorded) -> None:
        key = request.header("x-api-key")
        if key is None:  # the SDK sends it so
            key = (request.header("authorization") or "").removeprefix("Bearer ") or None
        if self.keys and key is None:
            raise Refusal(401, "x-api-key header is required")
        if self.keys and key not in self.keys:
            raise Refusal(401, "invalid x-api-key")
        versions = [value for name, value in request.headers if name.lower() == "anthropic-version"]
        if not versions:
            raise refuse("anthropic-version: header is required")
        if len(versions) != 1 or versions[0] not in VERSIONS:
            raise refuse(f'anthropic-version: "{", ".join(versions)}" is not a valid version')

    def _check_body(self, request: Recorded, *, counting: bool) -> Json:
        if (request.header("content-type") or "").partition(";")[0].strip() != "application/json":
            raise refuse("Content-Type: must be application/json")
        body = decode(request.body)
        version = request.header("anthropic-version") or ""
        check_messages(body, betas=betas_of(request), counting=counting, version=version)
        if not (self.any_model or body["model"] in self.models):
            raise Refusal(404, f"model: {body['model']}")
        return body

    def _models(self, request: Recorded) -> Json:
        after = request.query.get("after_id")
        start = self.models.index(after) + 1 if after in self.models else 0
        page = self.models[start : start + PAGE]
        data = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"} for name in page
        ]
        more = start + PAGE < len(self.models)
        return {"data": data, "has_more": more, "first_id": page[0], "last_id": page[-1]}


def betas_of(request: Recorded) -> list[str]:
    """The betas that a request names, in however many headers."""
    values = [value for name, value in request.headers if name.lower() == "anthropic-beta"]
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


async def _main(arguments: list[str]) -> None:
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    default = Reply(delay=float(options.get("--delay", "0")), interval=float(options.get("--interval", "0")))
    keys = (options["--key"],) if "--key" in options else ()
    port = int(options.get("--port", "9001"))
    async with AnthropicUpstream(keys=keys, default=default, any_model=True, port=port) as upstream:
        print(upstream.base_url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(_main, sys.argv[1:])
