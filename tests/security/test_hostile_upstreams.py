"""Providers that lie: about lengths, encodings and whose answer it is. No caller gets what is another's, or a bomb."""

from __future__ import annotations

import gzip
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import pytest
import trio

from tests.e2e._router import Router, provider, routing
from tests.mocks.openai_answers import Reply, completion

pytestmark = pytest.mark.slow

GOOD: Final = completion(Reply(tokens=("good",)), {"model": "gpt-4o"}, mode="openai", id_="x")
POISON: Final = completion(Reply(tokens=("poison",)), {"model": "gpt-4o"}, mode="openai", id_="x")
BOMB: Final = gzip.compress(bytes(30 * 2**20))


def answer(body: bytes = GOOD, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer as bytes; `length` is what it says of its length."""
    said = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {said}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@attrs.frozen
class Step:
    """What one request is answered, and what comes `pause` seconds later without having been asked for."""

    said: bytes
    afterwards: bytes = b""
    pause: float = 0.05


@asynccontextmanager
async def lying(*steps: Step, **more: Any) -> AsyncGenerator[Router]:
    """A router over a provider that says the steps in turn, then good answers."""
    script = list(steps)

    async def babble(peer: trio.SocketStream) -> None:
        try:
            while await peer.receive_some():
                step = script.pop(0) if script else Step(answer())
                await peer.send_all(step.said)
                if step.afterwards:
                    await trio.sleep(step.pause)
                    await peer.send_all(step.afterwards)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, babble, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        once = {"max_attempts": 1}
        async with routing(provider("one", url, timeout="1s", **more), retry=once) as router:
            yield router
        nursery.cancel_scope.cancel()


async def said_by(router: Router, count: int = 3) -> Sequence[str]:
    """What `count` callers get, one after the other."""
    found: list[str] = []
    for _ in range(count):
        got = await router.chat()
        found.append(got.json()["choices"][0]["message"]["content"] if got.status_code == 200 else str(got.status_code))
    return found


STRAYS: Final = {
    "with the answer": Step(answer() + answer(POISON)),
    "in the body's place": Step(answer(length=len(GOOD)) + answer(POISON)),
    "while the connection idles": Step(answer(), answer(POISON)),
    "half of it": Step(answer(), answer(POISON)[:40]),
    "after an answer without a body": Step(b"HTTP/1.1 204 No Content\r\n\r\n" + answer(POISON)),
    "after a refusal": Step(answer(b"{}", status="400 Bad Request"), answer(POISON)),
    "after an informational one": Step(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer() + answer(POISON)),
}


@pytest.mark.parametrize("how", STRAYS)
async def test_an_answer_that_nobody_asked_for_reaches_nobody(how: str) -> None:
    async with lying(STRAYS[how]) as router:
        first = await said_by(router, 1)
        await trio.sleep(0.1)
        assert "poison" not in [*first, *await said_by(router)]
        assert (await said_by(router, 1)) == ["good"]


async def test_a_length_that_lies_spoils_its_own_answer_only() -> None:
    for length in (len(GOOD) - 5, len(GOOD) + 5):
        async with lying(Step(answer(length=length))) as router:
            assert await said_by(router) == ["502" if length < len(GOOD) else "504", "good", "good"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x-anything"])
async def test_a_compressed_answer_is_refused_and_never_unpacked(coding: str) -> None:
    refusal = Step(answer(BOMB, f"Content-Encoding: {coding}", status="400 Bad Request"))
    async with lying(Step(answer(BOMB, f"Content-Encoding: {coding}")), refusal) as router:
        assert (await said_by(router, 1)) == ["502"]
        got = await router.chat()
        assert got.status_code == 400
        assert len(got.content) < 100_000
        assert "content-encoding" not in got.headers
        assert (await said_by(router, 1)) == ["good"]


async def test_headers_of_a_provider_do_not_reach_the_caller() -> None:
    hostile = (
        "Set-Cookie: session=evil",
        "Connection: keep-alive, X-Evil",
        "X-Evil: 1",
        "X-Infermux-Provider: evil",
        "X-Request-Id: evil",
        "Server: evil",
        "Location: http://evil.example/",
        "Access-Control-Allow-Origin: *",
        "Strict-Transport-Security: max-age=1",
        "Retry-After: 99999",
        "X-Long: " + "x" * 20_000,
    )
    for status in ("200 OK", "400 Bad Request", "500 Oh"):
        async with lying(Step(answer(GOOD, *hostile, status=status))) as router:
            got = await router.chat()
            assert "evil" not in str(got.headers)
            assert len(str(got.headers)) < 2_000
            ours = {"content-type", "content-length", "date", "server", "x-request-id", "retry-after"}
            assert {name for name in got.headers if not name.startswith("x-infermux-")} <= ours
