"""Connecting: to an address of this machine at once, to others when they answer, to a name as ever."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Generator

import pytest
import trio
import trio.testing

from infermux.providers.tcp import connect, connect_here, family_of, is_here
from infermux.providers.wire import SocketWire


@pytest.fixture
def listener() -> Generator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("fe80::1%eth0", None),
        ("localhost", None),
        ("127.1", None),
        ("127.0.0.1\0", None),
        ("", None),
    ],
)
def test_only_a_whole_address_has_a_family(host: str, family: socket.AddressFamily | None) -> None:
    assert family_of(host) is family


async def test_what_listens_here_is_connected_to_without_a_wait(listener: socket.socket) -> None:
    with trio.testing.assert_no_checkpoints():
        wire = await connect("127.0.0.1", port_of(listener))
    there, _ = listener.accept()
    with there:
        assert wire.send_now(b"hello") == 5
        assert there.recv(5) == b"hello"
    wire.close()


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("10.0.0.1", False), ("localhost", False)],
)
def test_what_is_here(host: str, here: bool) -> None:
    assert is_here(host) is here


async def test_what_is_here_is_connected_to_or_refuses_at_once(listener: socket.socket) -> None:
    wire = connect_here("127.0.0.1", port_of(listener))
    assert wire is not None
    wire.close()
    answered = await filled(listener)
    assert connect_here("127.0.0.1", port_of(listener)) is None  # it would have to be waited for
    for each in answered:
        each.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        connect_here("127.0.0.1", port_of_closed())


def port_of_closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as briefly:
        return port_of(briefly)


async def test_a_name_is_resolved(listener: socket.socket) -> None:
    wire = await connect("localhost", port_of(listener))
    assert isinstance(wire, SocketWire)
    wire.close()


async def test_who_refuses_is_an_error_with_its_number(listener: socket.socket) -> None:
    port = port_of(listener)
    listener.close()
    with pytest.raises(ConnectionRefusedError) as refused:
        await connect("127.0.0.1", port)
    assert refused.value.errno == errno.ECONNREFUSED
    assert refused.value.strerror == "Connection refused"


async def filled(listener: socket.socket) -> list[SocketWire]:
    """Connections up to the one that is not answered, whose wait is cancelled: those of this machine take no time."""
    listener.listen(0)
    answered: list[SocketWire] = []
    while True:
        with trio.move_on_after(0.05) as scope:
            answered.append(await connect("127.0.0.1", port_of(listener)))
        if scope.cancelled_caught:
            return answered


async def test_a_wait_that_is_cancelled_leaves_no_socket(listener: socket.socket) -> None:
    answered = await filled(listener)
    assert answered
    for wire in answered:
        wire.close()
    gc.collect()  # a socket that was left open would warn here, which is an error


@pytest.mark.slow
async def test_who_answers_later_is_waited_for(listener: socket.socket) -> None:
    answered = await filled(listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_connect_and_close, port_of(listener))
        await trio.testing.wait_all_tasks_blocked()
        listener.setblocking(False)
        while nursery.child_tasks:  # the system asks again after a second
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                await trio.sleep(0.02)
    for wire in answered:
        wire.close()


async def _connect_and_close(port: int) -> None:
    with trio.fail_after(30):
        (await connect("127.0.0.1", port)).close()
