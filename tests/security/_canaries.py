"""Secrets that are recognised wherever they come out, and the search for them.

A canary's value has a head and a tail of hexadecimal digits that occur nowhere else. Either of them is a find: what is
cut, escaped as in JSON or encoded as in a URL still has one of them. Encodings that leave no letter in its place
(base64 at each of its three offsets, hexadecimal, every letter escaped) are looked for by themselves.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

import attrs

_SHOWN = 120  # bytes around a find


@attrs.frozen
class Canary:
    """One secret, of which `head` and `tail` are looked for. `may_be_in`: beginnings of names of artefacts."""

    name: str
    value: str
    head: str
    tail: str
    may_be_in: tuple[str, ...] = ()

    def belongs_in(self, artefact: str) -> bool:
        return artefact.startswith(self.may_be_in) if self.may_be_in else False


@attrs.frozen
class Leak:
    """A canary that was found, in the form `form`; `around` is what stands there."""

    canary: str
    artefact: str
    form: str
    around: str

    def __str__(self) -> str:
        return f"{self.canary} ({self.form}) in {self.artefact}: {self.around}"


def canary(name: str, *, template: str = "{head}-x/+{tail}==", may_be_in: Iterable[str] = ()) -> Canary:
    """A canary for the place `name`, the same in every run. `template` has to hold `{head}` and `{tail}`."""
    digits = blake2b(name.encode(), digest_size=14).hexdigest()
    head, tail = f"cnry{digits[:14]}", digits[14:]
    return Canary(name, template.format(head=head, tail=tail), head, tail, tuple(may_be_in))


def made(name: str, value: str) -> Canary:
    """One for a secret that somebody else has made, and that begins and ends as no other does."""
    return Canary(name, value, value[:18], value[-14:])


def forms(wanted: Canary) -> Iterator[tuple[str, bytes]]:
    """What to look for, in lower case, by the name of the form."""
    head, tail = wanted.head.lower(), wanted.tail.lower()
    yield "its beginning", head.encode()
    yield "its end", tail.encode()
    for part, text in (("beginning", wanted.head), ("end", wanted.tail)):
        for offset in range(3):
            yield f"base64 of its {part}", _base64(text.encode(), offset)
        yield f"hexadecimal of its {part}", binascii.hexlify(text.encode())
        yield f"\\u escapes of its {part}", "".join(f"\\u{ord(char):04x}" for char in text).encode()
        yield f"percent escapes of its {part}", "".join(f"%{ord(char):02x}" for char in text).encode()


def _base64(text: bytes, offset: int) -> bytes:
    """What of base64 does not depend on what stands around `text`, when it begins `offset` bytes into three."""
    whole = base64.b64encode(b"\0" * offset + text)
    start = (offset * 8 + 5) // 6
    end = (offset + len(text)) * 8 // 6
    return whole[start:end].lower()


def leaks(artefacts: Mapping[str, bytes], canaries: Iterable[Canary]) -> list[Leak]:
    """Every canary in every artefact in which it does not belong, each form once."""
    found: list[Leak] = []
    lowered = {name: data.lower() for name, data in artefacts.items()}
    for wanted in canaries:
        looked_for = list(forms(wanted))
        for name, data in lowered.items():
            if wanted.belongs_in(name):
                continue
            for form, mark in looked_for:
                at = data.find(mark)
                if at >= 0:
                    around = artefacts[name][max(0, at - _SHOWN) : at + len(mark) + _SHOWN]
                    found.append(Leak(wanted.name, name, form, around.decode("utf-8", "backslashreplace")))
    return found


def escaped(value: str) -> tuple[str, ...]:
    """Ways in which a provider may write the credential it was sent."""
    return value, value.replace("/", "\\/"), urllib.parse.quote(value, safe="")
