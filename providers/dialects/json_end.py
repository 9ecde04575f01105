"""Where a JSON value that comes in pieces ends."""

from __future__ import annotations

import re
from typing import Final

_TOKENS: Final = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


class JsonEnd:
    """Sees the end of an object, an array or a text, keeping none of it; numbers and words have no end to be seen.

    It checks nothing: of something that is no JSON it may say anything.
    """

    __slots__ = ("_depth", "_escaped", "_quoted", "seen")

    def __init__(self) -> None:
        self.seen = False
        self._depth = 0
        self._quoted = self._escaped = False

    def feed(self, text: str) -> None:
        """More of the value."""
        start = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        for token in _TOKENS.findall(text, start):
            if token[0] == "\\":
                self._escaped = len(token) == 1
                continue
            if token == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if token in "{[" else -1
            if not self._quoted and self._depth <= 0:
                self.seen = True
