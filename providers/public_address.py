"""Which addresses are out on the public internet, so that a caller may name them and the router go there.

Everything that is not plainly public is refused: what reaches the router's own machine, its network, its cloud's
metadata service, or an IPv4 address hidden in an IPv6 one. Sources: the IANA special-purpose address registries
(https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry), RFC 6890, RFC 6052.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

import trio

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOOKUPS: Final = trio.CapacityLimiter(8)  # a name server that does not answer must not hold trio's own threads

_REFUSED_4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, some of them globally reachable; a cloud's metadata is here too
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
        "168.63.129.16/32",  # Azure's host, metadata included, under a public address
    )
)
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED_6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether `address` is unicast and globally reachable. IPv4-mapped addresses are not, whatever they map."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in net for net in _REFUSED_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:  # what a network without IPv4 has in its place
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _GLOBAL_6 and address.is_global and not any(address in net for net in _REFUSED_6)


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of `host`, in the order to try them. Raises OSError or UnicodeError for a name that has none."""
    found = await trio.to_thread.run_sync(_look_up, host, port, abandon_on_cancel=True, limiter=_LOOKUPS)
    return list(dict.fromkeys(found))


def _look_up(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
