"""Who may come in: keys, and the rule on Host and Origin that keeps other people's web pages out."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable

import attrs

from infermux.config.settings import Config
from infermux.errors import Forbidden, Unauthorized
from infermux.secret import Secret

from .exchange import Head

_BEARER = b"bearer "
KEPT_HOSTS = 64


def given_key(head: Head) -> bytes | None:
    """The key a caller sent: `Authorization: Bearer KEY` or `x-api-key: KEY`."""
    authorization = head.get(b"authorization")
    if authorization is not None and authorization[:7].lower() == _BEARER:
        return authorization[7:].strip()
    return head.get(b"x-api-key")


def check_key(head: Head, wanted: Secret) -> None:
    """Raises Unauthorized unless the caller sent `wanted`; compared in constant time."""
    given = given_key(head)
    if given is None:
        raise Unauthorized("this router asks for a key: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`")
    if not hmac.compare_digest(given, wanted.reveal().encode()):
        raise Unauthorized("the key that was sent is not this router's")


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, without brackets."""
    text = authority.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


@attrs.frozen
class HostRule:
    """Refuses requests that a foreign web page made a browser send (DNS rebinding, CSRF).

    Allowed hosts: loopback names, the listen addresses, `management_hosts`; any IP literal where a listen address is a
    wildcard, since a name is what rebinding needs. An `Origin` must be the host the request was sent to.
    """

    hosts: frozenset[str]
    any_address: bool
    _seen: set[bytes] = attrs.field(factory=set, eq=False, repr=False)  # Host values that were allowed, bounded

    @classmethod
    def made(cls, config: Config, listens: Iterable[str]) -> HostRule:
        """`listens` are the hosts listened on."""
        named = [host_name(host) for host in listens]
        hosts = frozenset([*named, *(host_name(host) for host in config.management_hosts)])
        return cls(hosts, any(name in ("", "0.0.0.0", "::", "*") for name in named))  # noqa: S104 - compared, not bound

    def check(self, head: Head) -> None:
        """Raises Forbidden, naming what was wrong and how to allow it."""
        host = head.get(b"host") or b""
        if host not in self._seen:
            self._check_host(host)
        origin = head.get(b"origin")
        if origin is not None and not _is_same(origin.decode("latin-1"), host.decode("latin-1")):
            raise Forbidden(
                "requests from other web origins are refused; call the router from a program, not from a web page"
            )

    def _check_host(self, host: bytes) -> None:
        authority = host.decode("latin-1")
        if not self.allows(host_name(authority)):
            raise Forbidden(
                f"the Host {authority[:100]!r} is not this router's address; "
                "call it by its listen address, or add the name to `management_hosts`"
            )
        if len(self._seen) < KEPT_HOSTS:
            self._seen.add(host)

    def allows(self, host: str) -> bool:
        """Whether a request for `host` is for us."""
        if host in self.hosts or host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or self.any_address


def _is_same(origin: str, authority: str) -> bool:
    scheme, found, rest = origin.partition("://")
    return bool(found) and scheme in ("http", "https") and rest.lower() == authority.strip().lower()


def needs_host_rule(config: Config) -> bool:
    """The inference paths are under the rule where no key keeps strangers out."""
    return config.auth.mode.lets_anybody_in
