"""Where Redis is: the URLs that `state.url` takes."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

_TCP: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
# Of the options that the client takes in a URL, those that name a file or an account; how long to wait is our business.
_OPTIONS: Final = frozenset({"db", "client_name", "ssl_keyfile", "ssl_certfile", "ssl_check_hostname", "ssl_ca_certs"})


def check_url(url: str) -> None:
    """Raises ValueError where `url` is none of redis://, rediss://, valkey://, valkeys:// with a host, or unix://."""
    parts = urlsplit(url)
    _ = parts.port  # it may be no number
    unknown = set(parse_qs(parts.query, strict_parsing=bool(parts.query))) - _OPTIONS
    if parts.scheme in _TCP:
        fine = bool(parts.hostname) and (parts.path in {"", "/"} or parts.path[1:].isdecimal())
    else:
        fine = parts.scheme == "unix" and len(parts.path) > 1
    if unknown or not fine or parts.fragment:
        raise ValueError("no URL of Redis")


def client_url(url: str) -> str:
    """As the client library has it: it knows two of the schemes, and unix://."""
    scheme, colon, rest = url.partition("://")
    return f"{_TCP.get(scheme, scheme)}{colon}{rest}"


def place_of(url: str) -> str:
    """`url` without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
