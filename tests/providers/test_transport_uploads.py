"""Request bodies in pieces, by both ways out, on real sockets."""

from __future__ import annotations

import attrs
import pytest
import trio

from infermux.errors import FailureKind, RequestTimeout, UpstreamFailure
from tests.providers._both import KINDS, POST, build
from tests.providers._upstream import Peer, Script, ok, upstream

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", KINDS)]


@attrs.define(eq=False)
class Pieces:
    """A source of `pieces`; an exception among them is raised. `live`: it cannot begin again."""

    pieces: tuple[bytes | Exception, ...]
    length: int | None = None
    live: bool = False
    at: int = 0
    rewound: int = 0

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        if self.at == len(self.pieces):
            return None
        piece = self.pieces[self.at]
        self.at += 1
        if isinstance(piece, Exception):
            raise piece
        return piece

    def rewind(self) -> bool:
        if self.live and self.at:
            return False
        self.rewound += 1
        self.at = 0
        return True


def reading(said: list[tuple[bytes, bytes]]) -> Script:
    """A script that reads one request to its end, by length or by chunks, and answers."""

    async def script(peer: Peer) -> None:
        while True:
            data = b""
            stream = peer.stream
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(
                (int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: ")), None
            )
            while not body.endswith(b"0\r\n\r\n") if length is None else len(body) < length:
                body += await stream.receive_some()
            said.append((head, body))
            await peer.send(ok(b"done"))

    return script


async def test_a_body_of_known_length_is_sent_as_it_is(kind: str) -> None:
    said: list[tuple[bytes, bytes]] = []
    async with trio.open_nursery() as nursery:
        peer = await upstream(nursery, reading(said))
        transport = build(kind, peer.origin)
        for _ in range(2):
            source = Pieces((b"hello ", b"w" * 100_000, b"orld"), length=100_010)
            response = await transport.send(transport.template(POST, b"/v1/x"), source, [(b"Content-Type", b"a/b")])
            assert await response.read() == b"done"
            response.close()
        assert [body for _, body in said] == [b"hello " + b"w" * 100_000 + b"orld"] * 2
        assert b"\r\ncontent-type: a/b" in said[0][0].lower()
        assert peer.connections == 1, "the connection is kept"
        await transport.aclose()
        nursery.cancel_scope.cancel()


async def test_a_body_of_unknown_length_is_chunked(kind: str) -> None:
    said: list[tuple[bytes, bytes]] = []
    async with trio.open_nursery() as nursery:
        peer = await upstream(nursery, reading(said))
        transport = build(kind, peer.origin)
        for _ in range(2):
            response = await transport.send(transport.template(POST, b"/v1/x"), Pieces((b"hello", b"!")))
            assert await response.read() == b"done"
            response.close()
        head, body = said[1]
        assert body.lower() == b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
        assert b"transfer-encoding: chunked" in head.lower()
        assert b"content-length" not in head.lower()
        assert peer.connections == 1
        await transport.aclose()
        nursery.cancel_scope.cancel()


async def test_what_the_source_raises_comes_out_and_ends_the_connection(kind: str) -> None:
    closed = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.left()
        closed.set()

    async with trio.open_nursery() as nursery:
        peer = await upstream(nursery, script)
        transport = build(kind, peer.origin)
        with pytest.raises(RequestTimeout):
            await transport.send(
                transport.template(POST, b"/v1/x"), Pieces((b"hello", RequestTimeout("slow")), length=9)
            )
        with trio.fail_after(30):
            await closed.wait()
        await transport.aclose()
        nursery.cancel_scope.cancel()


async def test_a_refusal_before_the_bodys_end_is_the_answer(kind: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.receive_some()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await trio.sleep(0.05)

    class Endless(Pieces):
        async def receive(self) -> bytes | None:
            await trio.sleep(0.01)
            return b"x" * 1000

    async with trio.open_nursery() as nursery:
        peer = await upstream(nursery, script)
        transport = build(kind, peer.origin)
        with trio.fail_after(30):
            response = await transport.send(transport.template(POST, b"/v1/x"), Endless((), length=10_000_000))
        assert response.status == 413
        response.close()
        await transport.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("live", [False, True])
async def test_a_kept_connection_that_died_is_replaced_only_if_the_body_can_be_sent_again(
    kind: str, live: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"first"))
        if peer.number == 0:
            await peer.stream.receive_some()  # the next request arrives, and nothing is answered

    async with trio.open_nursery() as nursery:
        peer = await upstream(nursery, script)
        transport = build(kind, peer.origin)
        response = await transport.send(transport.template(POST, b"/v1/x"), b"{}")
        assert await response.read() == b"first"
        response.close()
        source = Pieces((b"hello",), length=5, live=live)
        if live:
            with pytest.raises(UpstreamFailure) as caught:
                await transport.send(transport.template(POST, b"/v1/x"), source)
            assert caught.value.kind is FailureKind.BROKEN
        else:
            response = await transport.send(transport.template(POST, b"/v1/x"), source)
            assert (await response.read(), source.rewound) == (b"first", 1)
            response.close()
        await transport.aclose()
        nursery.cancel_scope.cancel()
