"""Whose credential a provider is called with."""

from __future__ import annotations

from .settings import ProviderSettings
from .types import HOSTED_TYPES

_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_CREDENTIAL_WORDS = ("key", "token", "secret", "auth")


def carries_credentials(provider: ProviderSettings) -> bool:
    """Whether requests to it are made in our name: a key, or extra headers or variables, which may be one."""
    return bool(provider.keys) or any(map(_is_credential, (*provider.headers, *provider.env)))


def _is_credential(header: str) -> bool:
    word = header.lower()
    return word in _CREDENTIAL_HEADERS or any(part in word for part in _CREDENTIAL_WORDS)


def goes_without(provider: ProviderSettings) -> bool:
    """Whether it is of a type that takes a credential and has none of its own.

    Bedrock's own may be the machine's, which `auth.mode: passthrough` must not lend to whoever calls.
    """
    takes = provider.type in HOSTED_TYPES or provider.type == "bedrock"
    return takes and not carries_credentials(provider)
