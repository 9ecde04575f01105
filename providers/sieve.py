"""Leaves broken events out of a stream that passes through: a client's JSON parser would end the whole answer there.

One that is broken by what is no text alone, half a surrogate pair or bytes that are no UTF-8, is mended: many parsers
take it as it is, none gains by losing it. The decoder does not look into strings that it skips, so UTF-8 is checked
beside it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from .odd_text import mended
from .sse import SseParser

log = logging.getLogger("infermux.providers")

_EVENT_WITH_CR: Final = re.compile(rb"[\s\S]*?(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class _Anything(msgspec.Struct):
    """Any JSON object: its members are skipped, not decoded."""


_decode: Final = msgspec.json.Decoder(_Anything).decode
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Sieve:
    """`left_out` counts the events whose data begins as a JSON object and is none."""

    __slots__ = ("left_out",)

    def __init__(self) -> None:
        self.left_out = 0

    def sound(self, whole: bytes) -> bytes:
        """The whole events in `whole` without the broken ones. What is no JSON by intention goes on."""
        at = 0
        try:
            if not whole.isascii():
                whole.decode()
            while (start := whole.find(b"data:", at)) >= 0:
                at = whole.find(b"\n\n", start)
                at = len(whole) if at < 0 else at
                data = whole[start + 5 : at]
                if data[:2] == b" {" or data.lstrip()[:1] == b"{":
                    _decode(data)
                else:
                    at = start + 5
        except _BROKEN:
            return self._sifted(whole)
        return whole

    def _sifted(self, whole: bytes) -> bytes:
        """The same, slowly and by the standard: data may have several lines, lines may end in CR."""
        kept: list[bytes] = []
        for event in events_of(whole):
            better = readable(event)
            if better is not None:
                kept.append(better)
                continue
            if not self.left_out:
                log.warning("a provider's stream has an event of %d bytes that is cut JSON: it is left out", len(event))
            self.left_out += 1
        return b"".join(kept)


def events_of(whole: bytes) -> Iterator[bytes]:
    """The events in `whole`, each with its end: joined they are `whole`."""
    if b"\r" in whole:
        yield from _EVENT_WITH_CR.findall(whole)
        return
    start = 0
    while (end := whole.find(b"\n\n", start)) >= 0:
        yield whole[start : end + 2]
        start = end + 2


def readable(event: bytes) -> bytes | None:
    """`event` as it is, or mended where it has to be; None where its data begins as a JSON object and is none."""
    if not _is_broken(event):
        return event
    better = mended(event)
    return better if better != event and not _is_broken(better) else None


def _is_broken(event: bytes) -> bool:
    parser = SseParser()
    for _, data in (*parser.feed(event), *parser.flush()):
        if data.lstrip().startswith(b"{"):
            try:
                data.decode()
                _decode(data)
            except _BROKEN:
                return True
    return False
