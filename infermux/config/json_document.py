"""A JSON text as the tree of `document`, which knows its lines and which keys are there twice."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Any

import attrs

from infermux.errors import ConfigError, Problem

from . import document
from .document import Entry, Fault, Mapping, Node, Scalar, Sequence

_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"[^\s,\]}]+")
_DECODER = json.JSONDecoder()
_TAGS = {"true": "bool", "false": "bool", "null": "null"}


def parse(text: str, *, source: str) -> Node:
    """The tree of `text`. Duplicate keys are noted in their mapping, the first one counts. Raises ConfigError."""
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = f"is not valid JSON: {error.msg}, column {error.colno}"
        raise ConfigError([Problem(source, error.lineno, "(file)", message)]) from None
    except (RecursionError, ValueError):
        message = "is not valid JSON, or nested too deep"
        raise ConfigError([Problem(source, 1, "(file)", message)]) from None
    return _Composer(text, source).node(0)


def _no_constant(word: str) -> Any:
    raise ValueError(word)


@attrs.define(eq=False)
class _Composer:
    """Walks over a text that is known to be JSON."""

    text: str
    source: str
    _at: int = 0
    _ends: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ends = [match.start() for match in re.finditer("\n", self.text)]

    def node(self, depth: int) -> Node:
        first, line = self._peek(), self._line()
        if depth > document.DEEPEST:
            message = f"is nested more than {document.DEEPEST} levels deep"
            raise ConfigError([Problem(self.source, line, "(file)", message)])
        if first == "{":
            return self._mapping(line, depth)
        if first == "[":
            return self._sequence(line, depth)
        if first == '"':
            return Scalar(self._string(), "str", line)
        match = _WORD.match(self.text, self._at)
        assert match is not None
        self._at = match.end()
        word = match.group()
        return Scalar(word, _TAGS.get(word) or ("int" if word.lstrip("-").isdigit() else "float"), line)

    def _mapping(self, line: int, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        faults: list[Fault] = []
        while not self._closed("}"):
            self._peek()
            place, key = self._line(), self._string()
            self._peek()
            self._at += 1  # the colon
            entry = Entry(key, place, self.node(depth + 1))
            first = entries.setdefault(key, entry)
            if first is not entry:
                faults.append(Fault(place, key, f"is there twice, first on line {first.line}"))
        return Mapping(tuple(entries.values()), line, tuple(faults))

    def _sequence(self, line: int, depth: int) -> Sequence:
        items: list[Node] = []
        while not self._closed("]"):
            items.append(self.node(depth + 1))
        return Sequence(tuple(items), line)

    def _closed(self, bracket: str) -> bool:
        """Step over a bracket that opens, a comma, or the `bracket` that closes; True for that one."""
        found = self._peek()
        if found in "[{,":
            self._at += 1
            found = self._peek()
        if found != bracket:
            return False
        self._at += 1
        return True

    def _string(self) -> str:
        text, self._at = _DECODER.raw_decode(self.text, self._at)
        return str(text)

    def _peek(self) -> str:
        match = _SPACE.match(self.text, self._at)
        assert match is not None
        self._at = match.end()
        return self.text[self._at]

    def _line(self) -> int:
        return bisect_right(self._ends, self._at) + 1
