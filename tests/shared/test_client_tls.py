"""The client at a Redis behind TLS, or a bare one: whom it gives the password, and which."""

from __future__ import annotations

import gc
import re
import ssl
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme

from infermux.secret import Secret
from infermux.shared.client import Redis, Session, StateUnavailable
from infermux.shared.scripts import Call
from infermux.shared.trust import Trust
from tests.shared._redis import RedisServer, free_ports, redis_server

pytestmark = pytest.mark.slow

SHARED_STATE = Path(__file__).parents[2] / "docs" / "shared-state.md"


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


USER = "in:fermux", "p@s/s#?%"  # in a URL, each escaped
WHO = "in%3Afermux:p%40s%2Fs%23%3F%25"


@attrs.frozen
class Places:
    """A Redis with a port for everybody, one behind TLS for `localhost`, and a user as the documentation has it."""

    server: RedisServer
    bare: int
    tls: int
    authority: Path


@pytest.fixture
def places(tmp_path: Path) -> Generator[Places]:
    authority: Any = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    documented = re.search(r"ACL SETUSER infermux on >PASSWORD (.+)", SHARED_STATE.read_text())
    assert documented is not None
    (tmp_path / "users").write_text(f"user default off\nuser {USER[0]} on >{USER[1]} {documented[1]}\n")
    bare, tls = free_ports(2)
    options = {
        "port": bare,
        "tls-port": tls,
        "tls-cert-file": tmp_path / "certificate.pem",
        "tls-key-file": tmp_path / "key.pem",
        "tls-ca-cert-file": tmp_path / "authority.pem",
        "tls-auth-clients": "optional",
        "aclfile": tmp_path / "users",
    }
    with redis_server("", *(str(part) for name, value in options.items() for part in (f"--{name}", value))) as server:
        yield Places(server, bare, tls, tmp_path / "authority.pem")


async def trouble_at(url: str) -> str:
    """What a client says that is told `url`; nothing where it can do all that it has to."""

    async def all_of_it(session: Session) -> None:
        keys = [f"infermux:{{{name}}}" for name in ("nodes", "epoch", "number")]
        await session.run([Call("beat", keys, ("n", 5000, "e", 0))])
        await session.read("infermux:{hash}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.listen, "infermux:news", print)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()

    try:
        await Redis(url=Secret(url)).use(all_of_it)
    except StateUnavailable as trouble:
        return str(trouble)
    return ""


@pytest.mark.needs("redis-server")
async def test_a_server_is_reached_by_the_name_in_its_certificate_and_by_no_other(places: Places) -> None:
    tls, trusted = places.tls, f"ssl_ca_certs={places.authority}"
    for scheme in ("rediss", "valkeys"):
        assert await trouble_at(f"{scheme}://{WHO}@localhost:{tls}/0?{trusted}") == ""
    folder = places.authority.parent
    own = f"ssl_certfile={folder}/certificate.pem&ssl_keyfile={folder}/key.pem"
    assert await trouble_at(f"rediss://{WHO}@localhost:{tls}/0?{trusted}&{own}") == ""
    assert "not valid for '127.0.0.1'" in await trouble_at(f"rediss://{WHO}@127.0.0.1:{tls}/0?{trusted}")
    assert await trouble_at(f"rediss://{WHO}@127.0.0.1:{tls}/0?{trusted}&ssl_check_hostname=false") == ""
    assert "certificate verify failed" in await trouble_at(f"rediss://{WHO}@localhost:{tls}/0")
    gone = f"{folder}/gone.pem"
    for option in ("ssl_ca_certs", "ssl_certfile"):
        said = await trouble_at(f"rediss://{WHO}@localhost:{tls}/0?{option}={gone}")
        assert said == f"OSError: {option} {gone}: No such file or directory"
    for wrong in (f"rediss://{WHO}@localhost:{places.bare}/0?{trusted}", f"redis://{WHO}@localhost:{tls}/0"):
        assert "Error" in await trouble_at(wrong)  # the one does not answer, the other hangs up


@pytest.mark.needs("redis-server")
async def test_what_it_is_asked_for_is_in_the_database_of_the_url(places: Places) -> None:
    assert await trouble_at(f"redis://{WHO}@127.0.0.1:{places.bare}/2") == ""
    login = ("--no-auth-warning", "--user", USER[0], "--pass", USER[1])
    found = [places.server.ask(*login, "-n", number, "get", "infermux:{epoch}") for number in ("0", "2")]
    assert found == ["", "e"]
    assert "invalid username-password" in await trouble_at(f"redis://in%3Afermux:no@127.0.0.1:{places.bare}/2")
    assert "out of range" in await trouble_at(f"redis://{WHO}@127.0.0.1:{places.bare}/99")
    assert "Connection refused" in await trouble_at(f"redis://{WHO}@127.0.0.1:{free_ports(1)[0]}/0")
    assert "No such file" in await trouble_at(f"unix://{places.server.folder}/gone.sock")


async def test_a_context_is_kept_until_its_files_change(tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    authority: Any = trustme.CA()
    file.write_bytes(authority.cert_pem.bytes())
    trust = Trust(f"rediss://localhost?ssl_ca_certs={file}")
    first = await trust.context()
    assert first is not None
    assert first is await trust.context()
    assert [each["subject"] for each in first.get_ca_certs()] == [each["issuer"] for each in first.get_ca_certs()]
    other: Any = trustme.CA()
    file.write_bytes(other.cert_pem.bytes() + authority.cert_pem.bytes())
    second = await trust.context()
    assert second is not None
    assert (len(first.get_ca_certs()), len(second.get_ca_certs())) == (1, 2)  # these, and none of the system's
    assert await Trust("redis://localhost").context() is None
