"""Connecting by TCP. An address needs neither a resolver nor a race: most of what connecting costs falls away."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Final

import trio

from .wire import SocketWire, accepted

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, errno.EINTR})
_STANDS: Final = frozenset({0, errno.EISCONN})


def connect_here(host: str, port: int) -> SocketWire | None:
    """Connect to an address of this machine itself, which takes no wait; None where it would take one after all.

    Raises OSError.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        code = _begun(sock, host, port)
        if code in _STANDS:
            return SocketWire(sock)
        sock.close()
        if code not in _UNDER_WAY:
            raise _failed(code)
        return None
    except BaseException:
        sock.close()
        raise


async def connect(host: str, port: int) -> SocketWire:
    """Connect to an address at once, to a name by trying all of its addresses as RFC 8305 has it.

    Raises OSError; what it opened is closed then, as it is when it is cancelled.
    """
    family = family_of(host)
    if family is None:
        stream = await trio.open_tcp_stream(host, port)
        return accepted(stream.socket)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        code = _begun(sock, host, port)
        if code in _UNDER_WAY:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code not in _STANDS:
            raise _failed(code)
        return SocketWire(sock)
    except BaseException:
        sock.close()
        raise


def _begun(sock: socket.socket, host: str, port: int) -> int:
    """How far it came: the number of an error, or 0 where it stands."""
    sock.setblocking(False)
    code = sock.connect_ex((host, port))
    # Asked a second time the system says whether it stands by now, as on this machine it does: connect(2).
    return sock.connect_ex((host, port)) if code in _UNDER_WAY else code


def _failed(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def is_here(host: str) -> bool:
    """Whether it is an address of this machine for itself."""
    return family_of(host) is not None and ipaddress.ip_address(host).is_loopback


def family_of(host: str) -> socket.AddressFamily | None:
    """Of an address; None for a name, and for an address with a zone, which the system's resolver reads."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family
    return None
