"""Events of a stream that differ from an earlier one in their text alone, read by comparing bytes.

Nearly all of a stream is such events. An event that gave one `TextDelta` is kept as what stands before its text and
what stands behind it; bytes that begin and end alike, with a plain string between, are the same JSON but for that
string, so that decoding them again could only tell the text. Everything else is the reader's, and what it says decides
whether the pattern still holds: a reader that has just said more of a text says so of the next event like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .neutral_events import StreamEvent, TextDelta

_PAD: Final = b'"obfuscation":"'
"""OpenAI's: random letters and digits, so that the length of an event does not tell that of its text."""


class TextEvents:
    """`read` what is like the last event that was `noted`. `key` is the member that the text is the value of."""

    __slots__ = ("_after", "_before", "_index", "_key", "_pad", "_squeezed")

    def __init__(self, key: bytes) -> None:
        self._key = b'"%b"' % key
        self._before = b""  # b"": nothing has been noted
        self._index = 0
        self._after = b""  # from the quote that ends the text on, or up to the pad
        self._pad = b""  # what follows the pad
        self._squeezed = False  # whether spaces in `_after` are left out: some providers pad by them

    def read(self, data: bytes) -> TextDelta | None:
        """The text in `data`, a whole read of the stream; None for whatever is not like what was noted."""
        before = self._before
        if not before or not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b'"', start)
        after = data[end:]
        if after != self._after and not self._ends_alike(after):
            return None
        try:
            text = data[start:end].decode()
        except UnicodeDecodeError:
            return None
        # Escapes are the decoder's, and so is whatever a string must not hold as it is.
        if not text or "\\" in text or not text.isprintable():
            return None
        return TextDelta(self._index, text)

    def _ends_alike(self, after: bytes) -> bool:
        if self._squeezed:
            return after.endswith(b"\n\n") and after.replace(b" ", b"") == self._after
        pad, start = self._pad, len(self._after)
        return (
            bool(pad) and after.startswith(self._after) and after.endswith(pad) and after[start : -len(pad)].isalnum()
        )

    def note(self, data: bytes, events: Sequence[StreamEvent]) -> None:
        """The reader made `events` of `data`."""
        event = events[0] if len(events) == 1 else None
        if type(event) is not TextDelta or not data.endswith(b"\n\n"):
            self._before = b""
            return
        if not self._keep(data, event.text) and event.index != self._index:
            self._before = b""
        self._index = event.index

    def _keep(self, data: bytes, text: str) -> bool:
        """Take `data` as the pattern, if it is plain which of its strings is the text.

        Without a backslash a name is written in one way only, and one that is there once is the one that was read.
        """
        at = data.find(self._key)
        if at < 0 or b"\\" in data or b"\r" in data or data.find(self._key, at + 1) >= 0:
            return False
        start = data.find(b'"', at + len(self._key)) + 1
        end = data.find(b'"', start)
        if data[at + len(self._key) : start].strip(b" ") != b':"' or data[start:end] != text.encode():
            return False
        self._before, self._after = data[:start], data[end:]
        squeezed = self._after.replace(b" ", b"")
        self._squeezed = squeezed.count(b"\n") == 2 and not squeezed.strip(b'"}]\n')
        if self._squeezed:
            self._after = squeezed
        self._keep_pad()
        return True

    def _keep_pad(self) -> None:
        self._pad = b""
        start = self._after.find(_PAD) + len(_PAD)
        end = self._after.find(b'"', start)
        if start >= len(_PAD) and self._after[start:end].isalnum():
            self._after, self._pad = self._after[:start], self._after[end:]
