"""What attacks on a router are made of: plain sockets, a router that is attacked, and whether it is well afterwards."""

import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from tests.e2e._router import HELLO, SAID, Router, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

BODY = json.dumps({"model": "gpt-4o", "messages": HELLO}).encode()
STREAM = json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": True}).encode()


def request(body: bytes = BODY) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body


async def alive(router: Router) -> None:
    """A whole and a streamed answer, a page, and nothing in flight."""
    assert (await router.chat()).json()["choices"][0]["message"]["content"] == SAID
    assert (await router.chat(stream=True)).text.endswith("data: [DONE]\n\n")
    assert (await router.web.get("/v1/models")).status_code == 200
    await router.wait_settled()


@asynccontextmanager
async def attacked(
    way: str = "serve", *, reply: Reply | None = None, header_timeout: str = "10s"
) -> AsyncGenerator[Router]:
    """A router over one upstream, alive before and after."""
    limits = {"header_timeout": header_timeout}
    async with (
        OpenAIUpstream(default=reply) as upstream,
        routing(provider("one", upstream), way=way, limits=limits) as router,
    ):
        yield router
        upstream.default = Reply()
        await alive(router)


async def say(router: Router, data: bytes, *, eof: bool = False, within: float = 3.0) -> bytes:
    """Send `data` on a connection of its own; what is said until the other side closes, or `within` is over."""
    stream = await trio.open_tcp_stream("127.0.0.1", router.port)
    said = b""
    with trio.move_on_after(within):
        try:
            await stream.send_all(data)
            if eof:
                await stream.send_eof()
            async for part in stream:
                said += part
        except trio.BrokenResourceError:
            pass
    await trio.aclose_forcefully(stream)
    return said


def reset(stream: trio.SocketStream) -> None:
    """Close with a RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
