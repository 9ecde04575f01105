"""Which proxy the environment names for a URL, by the conventions curl and the standard library share."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL from `HTTP_PROXY`, `HTTPS_PROXY` or `ALL_PROXY`, None for a direct connection.

    Lower-case names win over upper-case ones. `NO_PROXY` is a list of host names (each with its subdomains, a leading
    dot or `*.` allowed), `host:port`, addresses, networks (`10.0.0.0/8`) or `*`. Under CGI the upper-case
    `HTTP_PROXY` is a request header's value, so it is not looked at (https://httpoxy.org).
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxy = _variable(environ, f"{parts.scheme}_proxy") or _variable(environ, "all_proxy")
    if not proxy or _exempt(host, port, _variable(environ, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    lower = environ.get(name, "")
    if lower or (name == "http_proxy" and "REQUEST_METHOD" in environ):
        return lower.strip()
    return environ.get(name.upper(), "").strip()


def _exempt(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(host, port, entry.strip().lower()) for entry in no_proxy.split(","))


def _matches(host: str, port: int, entry: str) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    address = _address(host)
    if address is not None:
        return _covers(entry, address) or entry in (f"{host}:{port}", f"[{host}]", f"[{host}]:{port}")
    name, colon, number = entry.partition(":")
    if colon and number != str(port):
        return False
    name = name.removeprefix("*").lstrip(".")
    return host == name or host.endswith("." + name)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _covers(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
