"""What every wire does, each kind by the same tests; and what only sockets do."""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from infermux.providers.arrivals import Arrivals
from infermux.providers.tcp import connect
from infermux.providers.tls_wire import TlsWire
from infermux.providers.wire import SocketWire, Wire, WireBroken, accepted, memory_pair
from tests.providers._tls import Authority

Pair = tuple[Wire, Wire]
MEGABYTE = bytes(range(256)) * 4096


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's."""
    authority = Authority()
    client, server = authority.trust(ssl.create_default_context()), authority.server_context("http/1.1")
    client.set_alpn_protocols(["http/1.1"])
    return client, server


async def tcp() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = await connect("127.0.0.1", listener.getsockname()[1])
        return client, accepted(listener.accept()[0])


async def unix() -> Pair:
    one, other = socket.socketpair()
    return accepted(one), accepted(other)


async def memory() -> Pair:
    return memory_pair()


async def tls(inner: Callable[[], Awaitable[Pair]]) -> Pair:
    (client, server), (trusting, certified) = await inner(), contexts()
    done: list[Wire] = []

    async def answer() -> None:
        done.append(await TlsWire.handshake(server, certified, server_side=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        wire = await TlsWire.handshake(client, trusting, server_hostname="localhost")
    return wire, done[0]


KINDS: dict[str, Callable[[], Awaitable[Pair]]] = {
    "tcp": tcp,
    "unix": unix,
    "memory": memory,
    "tls over tcp": functools.partial(tls, tcp),
    "tls over memory": functools.partial(tls, memory),
}


@pytest.fixture(params=[*KINDS, "tcp, kept", "tls over tcp, kept"])
async def pair(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Pair:
    kind, _, kept = request.param.partition(", ")
    if kept:
        nursery.start_soon(Arrivals().run)
        await trio.testing.wait_all_tasks_blocked()
    return await KINDS[kind]()


async def all_of(wire: Wire, size: int) -> bytes:
    data = b""
    with trio.fail_after(5):
        while len(data) < size:
            data += await wire.receive()
    return data


def fill(wire: Wire) -> int:
    """Send without waiting until nothing more is taken; the number of bytes taken."""
    total = 0
    while (taken := wire.send_now(MEGABYTE)) > 0:
        total += taken
    return total


async def until_broken(act: Callable[[], Awaitable[None]]) -> None:
    while True:
        await act()


def both_closed(*wires: Wire) -> None:
    for wire in wires:
        wire.close()
        wire.close()


async def test_bytes_arrive_in_order_and_the_end_stays_the_end(pair: Pair) -> None:
    one, other = pair
    await one.send(b"hello ")
    assert one.send_now(b"world") == 5
    await one.send(b"")
    assert await all_of(other, 11) == b"hello world"
    one.close()
    with trio.fail_after(1):
        assert await other.receive() == b""
        assert await other.receive() == b""
    assert other.receive_now() == b""
    both_closed(one, other)


async def test_a_large_message_waits_for_its_reader_and_arrives_whole(pair: Pair) -> None:
    one, other = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send, MEGABYTE * 4)
        await trio.sleep(0.005)  # a wait for all to be blocked has no end where arrivals are looked after
        assert await all_of(other, len(MEGABYTE) * 4) == MEGABYTE * 4
    assert one.unsent == 0
    both_closed(one, other)


async def test_a_full_wire_takes_nothing_until_it_is_read(pair: Pair) -> None:
    one, other = pair
    total = fill(one)
    assert total > 0
    assert one.send_now(b"x") == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(all_of, other, total)
        with trio.fail_after(5):
            await one.wait_writable()
            await one.send(b"")
    assert one.send_now(b"x") == 1
    both_closed(one, other)


async def test_receiving_now_tells_nothing_from_the_end(pair: Pair) -> None:
    one, other = pair
    assert other.receive_now() is None
    await one.send(b"abc")
    with trio.fail_after(1):
        await other.wait_readable()
    assert other.receive_now(2) == b"ab"
    assert other.receive_now(2) == b"c"
    assert other.receive_now() is None
    both_closed(one, other)


async def test_an_idle_wire_is_readable_only_when_something_came(pair: Pair) -> None:
    one, other = pair
    assert not one.readable()
    assert not other.readable()
    await one.send(b"abc")
    with trio.fail_after(1):
        await other.wait_readable()
    assert other.readable()
    assert other.readable()
    assert await other.receive(1) == b"a"
    assert other.readable()
    assert await other.receive() == b"bc"
    assert not other.readable()
    one.close()
    with trio.fail_after(1):
        await other.wait_readable()
    assert other.readable()
    assert await other.receive() == b""
    both_closed(one, other)


async def test_a_closed_wire_is_broken(pair: Pair) -> None:
    one, other = pair
    both_closed(one)
    with pytest.raises(WireBroken):
        await one.send(b"x")
    with pytest.raises(WireBroken):
        await one.receive()
    assert one.readable()
    both_closed(other)


@pytest.mark.parametrize("full", [False, True])
async def test_closing_wakes_who_waits(pair: Pair, full: bool) -> None:
    one, other = pair

    async def wait() -> None:
        with pytest.raises(WireBroken):
            await (one.send(MEGABYTE * 16) if full else one.receive())

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.005)  # a wait for all to be blocked has no end where arrivals are looked after
            one.close()
    both_closed(other)


async def test_sending_to_one_who_left_breaks(pair: Pair) -> None:
    one, other = pair
    other.close()
    with trio.fail_after(1), pytest.raises(WireBroken):
        await until_broken(lambda: one.send(MEGABYTE))
    both_closed(one)


async def test_leaving_with_unread_bytes_breaks_the_other_side(pair: Pair) -> None:
    one, other = pair
    await one.send(b"never read")
    with trio.fail_after(1):
        await other.wait_readable()
        other.close()
        await one.wait_readable()
    with trio.fail_after(1), pytest.raises(WireBroken):
        await until_broken(lambda: one.send(b"x"))
    both_closed(one)


async def test_one_direction_can_end_before_the_other(pair: Pair) -> None:
    one, other = pair
    await one.send(b"last")
    one.send_eof()
    assert await all_of(other, 4) == b"last"
    with trio.fail_after(1):
        assert await other.receive() == b""
    await other.send(b"answer")
    assert await all_of(one, 6) == b"answer"
    both_closed(one, other)
    one.send_eof()


async def test_a_cancelled_receive_has_taken_nothing(pair: Pair) -> None:
    one, other = pair
    with trio.CancelScope() as scope:
        scope.cancel()
        await other.receive()
    assert scope.cancelled_caught
    await one.send(b"abc")
    assert await all_of(other, 3) == b"abc"
    both_closed(one, other)


@pytest.mark.parametrize("kind", ["tcp", "memory"])
async def test_a_wire_that_never_waits_lets_others_run(kind: str) -> None:
    one, other = await KINDS[kind]()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(200):
            await one.send(b"x")
            await other.receive()
        nursery.cancel_scope.cancel()
    assert turns > 5
    both_closed(one, other)


async def test_both_directions_work_at_once(pair: Pair) -> None:
    one, other = pair
    async with trio.open_nursery() as nursery:
        for wire, back in ((one, other), (other, one)):
            nursery.start_soon(wire.send, MEGABYTE * 4)
            nursery.start_soon(all_of, back, len(MEGABYTE) * 4)
    both_closed(one, other)


async def test_a_trio_socket_can_be_taken_over() -> None:
    ours, theirs = trio.socket.socketpair()
    wire = accepted(ours)
    assert ours.fileno() == -1
    await theirs.send(b"x")
    assert await wire.receive() == b"x"
    assert "fd=" in repr(wire)
    assert not wire.socket.getblocking()
    theirs.close()
    both_closed(wire)


async def test_small_messages_are_not_delayed() -> None:
    for wire in await tcp():
        assert isinstance(wire, SocketWire)
        assert wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        wire.close()


def test_a_wire_can_be_closed_outside_of_trio() -> None:
    one, other = socket.socketpair()
    both_closed(accepted(one), accepted(other))


async def test_a_reset_in_memory_leaves_what_had_arrived() -> None:
    one, other = memory_pair()
    await one.send(b"abc")
    one.reset()
    assert other.readable()
    assert await other.receive() == b"abc"
    with pytest.raises(WireBroken):
        await other.receive()
    with pytest.raises(WireBroken):
        await other.send(b"x")
    assert "open" in repr(other)
    other.close()
    assert other.closed
    assert "closed" in repr(other)


async def test_memory_runs_on_the_virtual_clock(autojump_clock: trio.testing.MockClock) -> None:
    one, other = memory_pair(capacity=4)

    async def slow_reader() -> None:
        for _ in range(5):
            await trio.sleep(60)
            await other.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow_reader)
        await one.send(b"x" * 20)
        assert trio.current_time() >= 4 * 60


async def test_tls_agrees_on_a_protocol() -> None:
    one, other = await tls(memory)
    assert isinstance(one, TlsWire)
    assert one.alpn == "http/1.1"
    assert "TLSv1" in repr(one)
    both_closed(one, other)


async def test_a_failed_handshake_closes_the_wire_and_names_the_reason() -> None:
    client, server = memory_pair()
    _, certified = contexts()

    async def answer() -> None:
        with pytest.raises((ssl.SSLError, WireBroken)):
            await TlsWire.handshake(server, certified, server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with pytest.raises(ssl.SSLCertVerificationError):
            await TlsWire.handshake(client, ssl.create_default_context(), server_hostname="localhost")
    assert client.closed
    assert server.closed


async def test_tls_that_ends_without_saying_goodbye_is_broken() -> None:
    client, server = memory_pair()

    async def reuse() -> Pair:
        return client, server

    one, other = await tls(reuse)
    assert not one.readable()  # reads the session tickets: unread bytes would make closing a reset
    await one.send(b"abc")
    client.close()
    assert await other.receive() == b"abc"
    with pytest.raises(WireBroken, match="TLS"):
        await other.receive()
    assert other.readable()
    both_closed(one, other)


async def test_what_is_not_tls_is_broken_tls() -> None:
    client, server = memory_pair()

    async def reuse() -> Pair:
        return client, server

    one, other = await tls(reuse)
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(WireBroken, match="TLS"):
        await other.receive()
    both_closed(one, other)


async def test_tls_keeps_ciphertext_that_does_not_fit_until_it_does() -> None:
    client, server = memory_pair(capacity=20_000)

    async def reuse() -> Pair:
        return client, server

    one, other = await tls(reuse)
    assert one.send_now(b"x" * 50_000) == 50_000
    assert one.unsent > 20_000
    assert one.send_now(b"y") == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send, b"")
        assert await all_of(other, 50_000) == b"x" * 50_000
    assert one.unsent == 0
    both_closed(one, other)


async def test_what_had_come_over_tls_is_read_though_nothing_can_be_sent_any_more() -> None:
    """As over bare TCP: a refusal of an upload, from one who closed without reading the rest."""

    async def narrow() -> Pair:
        return memory_pair(capacity=20_000)

    one, other = await tls(narrow)
    assert not one.readable()  # reads the session tickets
    assert one.send_now(b"x" * 50_000) == 50_000
    await other.send(b"refused")
    other.close()
    assert one.unsent
    with pytest.raises(WireBroken):
        one.send_now(b"y")
    assert await one.receive() == b"refused"
    one.close()


async def test_what_tls_has_decrypted_is_given_out_whole() -> None:
    """No descriptor tells of what would stay: whoever polls would wait for more, and the end would be in it."""

    async def roomy() -> Pair:
        return memory_pair(capacity=200_000)

    one, other = await tls(roomy)
    record = b"x" * 16_384
    for _ in range(7):
        assert one.send_now(record) == len(record)
    assert one.send_now(b"the end") == 7
    got = b""
    while len(got) < 7 * len(record):  # what came together may end within a record
        got += await other.receive()
    assert got.endswith(b"the end")
    assert other.receive_now() is None
    both_closed(one, other)
