"""Certificates in files: tried when the configuration is checked, so that no server starts to find them unusable."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl  # 10 ms, wanted only where files are named


def load_chain(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    """Give a server's `context` its certificate. Raises OSError (ssl.SSLError is one); never asks for a password."""
    key = None if key_file is None else os.path.expanduser(key_file)
    context.load_cert_chain(os.path.expanduser(cert_file), key, password="")


def chain_problem(cert_file: str, key_file: str) -> tuple[str, str] | None:
    """Which of the two keys is wrong, and what is; None when a server can use them."""
    import ssl

    for key, path in (("cert_file", cert_file), ("key_file", key_file)):
        why = _unreadable(path)
        if why is not None:
            return key, why
    try:
        load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert_file, key_file)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return "key_file", "is not the key of the certificate in cert_file"
        return "cert_file", "cannot be used with key_file: both must be PEM files, the key without a password"
    return None


def authorities_problem(ca_file: str) -> str | None:
    """Why `ca_file` cannot be used as the authorities to trust; None when it can."""
    import ssl

    why = _unreadable(ca_file)
    if why is not None:
        return why
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(os.path.expanduser(ca_file))
    except ssl.SSLError:
        return "must be a PEM file with certificates"
    return None


def _unreadable(path: str) -> str | None:
    try:
        with open(os.path.expanduser(path), "rb"):
            return None
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'not a usable path'}"
