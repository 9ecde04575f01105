"""The client at a Redis behind TLS, or a bare one: whom it gives the password, and which."""

from __future__ import annotations

import gc
import ssl
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from infermux.secret import Secret
from infermux.shared.client import Redis, Session, StateUnavailable
from infermux.shared.scripts import Call

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def streams_left() -> Generator[None]:
    """The library leaves streams of anyio's unclosed where it cannot connect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


async def nothing_more(session: Session) -> None:
    await session.run([Call("beat", ("nodes", "epoch", "number"), ("n", 5000, "e", 0))])


async def what_arrives(context: ssl.SSLContext | None, url: str) -> bytes:
    """All that a server that never answers is sent by a client that is told `url`, with the server's PORT."""
    arrived = bytearray()

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            while some := await stream.receive_some(4096):
                arrived.extend(some)
        except trio.BrokenResourceError:
            pass  # no handshake, or gone without a word

    async with trio.open_nursery() as nursery:
        if context is None:
            listeners: list[Any] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        else:
            listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        bare = listeners[0] if context is None else listeners[0].transport_listener
        port = bare.socket.getsockname()[1]
        with pytest.raises(StateUnavailable):
            await Redis(url=Secret(url.replace("PORT", str(port)))).use(nothing_more)
        nursery.cancel_scope.cancel()
    return bytes(arrived)


def server_of(authority: Any, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_the_password_goes_to_nobody_whose_certificate_is_for_another_host(tmp_path: Path) -> None:
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    url = f"rediss://infermux:open-sesame@127.0.0.1:PORT/0?ssl_ca_certs={file}"
    assert b"open-sesame" in await what_arrives(server_of(authority, "127.0.0.1"), url)
    other = server_of(authority, "redis.example.org")
    assert await what_arrives(other, url) == b""
    assert b"open-sesame" in await what_arrives(other, f"{url}&ssl_check_hostname=false")


async def test_user_and_password_may_have_any_character_that_is_escaped() -> None:
    arrived = await what_arrives(None, "redis://in%3Afermux:p%40s%2Fs%23%3F%25@127.0.0.1:PORT/0")
    assert b"in:fermux" in arrived
    assert b"p@s/s#?%" in arrived
