"""Ports that several processes will listen on: taken before any of them does, so that all get the same one."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import attrs

from infermux.config.settings import Config
from infermux.config.values import Address, address


@contextmanager
def fixed(config: Config) -> Generator[Config]:
    """`config` with ports in the place of 0, held until the block is left: sockets that are bound, and do not listen.

    They get no connections. Raises OSError where somebody else listens there already.
    """
    with ExitStack() as held:
        listen = _held(config.listen, held)
        management = None if config.management_listen is None else _held(config.management_listen, held)
        yield attrs.evolve(config, listen=listen, management_listen=management)


def _held(text: str, held: ExitStack) -> str:
    where = address(text)
    port = where.port
    try:
        found = socket.getaddrinfo(where.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, bound in found:
            port = _hold(family, str(bound[0]), port, held)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {text}: {error.strerror}") from error
    return str(Address(where.host, port))


def _hold(family: int, host: str, port: int, held: ExitStack) -> int:
    """Take a port; which one that is."""
    if port:
        _refuse_taken(family, host, port)
    sock = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    return int(sock.getsockname()[1])


def _refuse_taken(family: int, host: str, port: int) -> None:
    """Another router with workers would share its port with us, and neither would notice. Raises OSError."""
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        alone.bind((host, port))
