"""The caller's own credential, which `auth.mode: passthrough` lends to a provider that goes without one.

It goes into a header of its one request and nowhere else: prepared heads, which are kept, never hold it. Like our own
it is masked in whatever the provider says about it.
"""

from __future__ import annotations

from collections.abc import Callable

from infermux.config.settings import ProviderSettings

from .classify import secrets_of
from .interface import Call
from .transport import Headers


def lent_header(call: Call, settings: ProviderSettings, credential: Callable[[str], tuple[bytes, bytes]]) -> Headers:
    """The header of what was lent; none for a provider with a credential of its own, whatever it was lent."""
    if not call.lent or not settings.borrows or settings.keys:
        return ()
    return (credential(call.lent.reveal()),)


def secrets_with(call: Call, secrets: tuple[str, ...]) -> tuple[str, ...]:
    """What is to be masked in an answer to `call`: `secrets`, and what was lent."""
    return (*secrets_of((call.lent,), {}), *secrets) if call.lent else secrets
