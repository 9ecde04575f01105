"""The search of the canaries finds what it is to find: each form of each secret, planted."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable

import pytest

from tests.security._canaries import canary, leaks

SECRET = canary("a planted secret")
HEAD, TAIL = SECRET.value.split("-x/+")[0], SECRET.value.split("-x/+")[1]
PLANTED: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "in JSON": lambda secret: json.dumps({"a": secret}),
    "slashes as PHP writes them": lambda secret: secret.replace("/", "\\/"),
    "every letter escaped": lambda secret: "".join(f"\\u{ord(char):04X}" for char in secret),
    "in a URL": lambda secret: urllib.parse.quote(secret, safe=""),
    "every letter percent-encoded": lambda secret: "".join(f"%{ord(char):02X}" for char in secret),
    "cut after its beginning": lambda secret: secret[:20] + "…",
    "only its end": lambda secret: "…" + secret[-18:],
    "in a repr": lambda secret: repr({"key": secret.encode()}),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64 with a user": lambda secret: base64.b64encode(f"user:{secret}".encode()).decode(),
    "base64 with another user": lambda secret: base64.b64encode(f"users:{secret}".encode()).decode(),
    "hexadecimal": lambda secret: secret.encode().hex(),
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_secret_is_found_in_every_form(how: str) -> None:
    text = "a line before\n" + PLANTED[how](SECRET.value) + "\na line after"
    found = leaks({"stderr": text.encode()}, [SECRET])
    assert found, how
    assert {leak.canary for leak in found} == {"a planted secret"}


def test_a_secret_is_found_among_bytes_that_are_no_text() -> None:
    assert leaks({"ledger.db": bytes(range(256)) + SECRET.value.encode() + b"\xff"}, [SECRET])


def test_what_is_no_secret_is_not_found() -> None:
    hashes = bytes(range(256)) * 50 + json.dumps(PLANTED, default=repr).encode()
    assert leaks({"stderr": hashes}, [SECRET, canary("another")]) == []


def test_a_secret_may_be_where_it_belongs_and_nowhere_else() -> None:
    mine = canary("an answer", may_be_in=("answer ",))
    data = mine.value.encode()
    assert leaks({"answer 1": data}, [mine]) == []
    assert [leak.artefact for leak in leaks({"answer 1": data, "stdout": data}, [mine])] == ["stdout"] * 2


def test_different_places_have_different_secrets() -> None:
    assert leaks({"stdout": canary("one").value.encode()}, [canary("two")]) == []
