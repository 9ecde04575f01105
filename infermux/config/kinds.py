"""The kinds of values a configuration has. Each reads a node of the file, and describes itself as JSON Schema.

A kind that cannot read its node says so to the `Reading` and returns BAD; whoever asked goes on with the default, so
that all problems of a file are found in one pass. No message ever shows a value that came from outside the file.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from infermux.secret import Secret

from . import document
from .reading import Literal, Path, Reading, before_colon, near
from .values import decimal, truth, whole

Json = dict[str, Any]


class _Bad(enum.Enum):
    BAD = "bad"


BAD = _Bad.BAD

TEXT_TAGS = frozenset({"str", "timestamp"})  # an unquoted 2024-08-01 is a date to YAML, and text to everybody else
INTERPOLATED = {"$ref": "#/$defs/interpolated"}


class Kind(Protocol):
    """`what` finishes the sentence "must be ..."."""

    @property
    def what(self) -> str: ...

    def read(self, node: document.Node, path: Path, reading: Reading) -> Any:
        """The value, or BAD after a problem was reported."""
        ...

    def schema(self) -> Json: ...

    def show(self, value: Any) -> Any:
        """`value` as it would be written in JSON."""
        ...


def _as_it_is(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _may_hold_a_credential(text: str) -> bool:
    """A URL with user information, or with a query."""
    return "://" in text and ("@" in text or "?" in text)


@attrs.frozen(kw_only=True)
class Value:
    """A scalar. `convert` raises ValueError for what it does not take.

    `hidden`: never shown in a problem. `secret`: hidden, and wrapped in a `Secret`.
    """

    what: str
    convert: Callable[[str], Any]
    tags: frozenset[str]
    json: Json
    nullable: bool = False
    secret: bool = False
    hidden: bool = False
    shown: Callable[[Any], Any] = _as_it_is
    words: tuple[str, ...] = ()

    def read(self, node: document.Node, path: Path, reading: Reading) -> Any:
        if not isinstance(node, document.Scalar):
            reading.problem(path, f"must be {self.what}, not {document.kind_of(node)}", node.line)
            return BAD
        literal = reading.literal(node, path)
        if literal is None:
            return BAD
        if self.nullable and (literal.tag == "null" or (literal.filled and not literal.text)):
            return None
        return self._converted(literal, node.line, path, reading)

    def _converted(self, literal: Literal, line: int, path: Path, reading: Reading) -> Any:
        try:
            if literal.tag not in self.tags and not literal.filled:
                raise ValueError
            value = self.convert(literal.text)
        except ValueError:
            reading.problem(path, self._sentence("must be", literal), line)
            return BAD
        return Secret(value) if self.secret else value

    def _sentence(self, start: str, literal: Literal) -> str:
        sentence = f"{start} {self.what}"
        if self.secret or self.hidden or literal.filled or _may_hold_a_credential(literal.text):
            return sentence
        sentence += f", not {literal.shown}"
        if literal.tag not in self.tags and self.tags == TEXT_TAGS and literal.tag != "null":
            return sentence + "; put it in quotes"
        return sentence + near(literal.text, self.words)

    def schema(self) -> Json:
        json = dict(self.json)
        options = [json] if json == {"type": "string"} else [json, INTERPOLATED]
        if self.nullable:
            options.append({"type": "null"})
        return json if len(options) == 1 else {"anyOf": options}

    def show(self, value: Any) -> Any:
        return None if value is None else self.shown(value)

    def or_null(self) -> Value:
        return attrs.evolve(self, nullable=True, what=f"{self.what}, or null")


@attrs.frozen(kw_only=True)
class ListOf:
    """A list, a tuple to the reader. `at_least` 1: an empty list is refused, with `instead` telling what to do."""

    item: Kind
    what: str
    nullable: bool = False
    at_least: int = 0
    instead: str = ""

    def read(self, node: document.Node, path: Path, reading: Reading) -> Any:
        if isinstance(node, document.Scalar) and node.tag == "null" and self.nullable:
            return None
        if isinstance(node, document.Scalar) and node.tag == "null" and not self.at_least:
            return ()
        if not isinstance(node, document.Sequence):
            reading.problem(path, f"must be {self.what}, not {document.kind_of(node)}", node.line)
            return BAD
        if len(node.items) < self.at_least:
            reading.problem(path, f"must not be an empty list{self.instead}", node.line)
            return BAD
        values: list[Any] = []
        for index, item in enumerate(node.items):
            place = (*path, index)
            reading.at(place, item.line)
            value = self.item.read(item, place, reading)
            if value is not BAD:
                values.append(value)
        return tuple(values)

    def schema(self) -> Json:
        json: Json = {"type": ["array", "null"] if self.nullable or not self.at_least else "array"}
        json["items"] = self.item.schema()
        if self.at_least:
            json["minItems"] = self.at_least
        return json

    def show(self, value: Any) -> Any:
        return None if value is None else [self.item.show(item) for item in value]


@attrs.frozen(kw_only=True)
class MapOf:
    """A mapping with keys of the user's choice. Keys take interpolation too; problems show them as they are written."""

    value: Kind
    what: str
    key: Callable[[str], str] = str
    key_what: str = "text"
    key_json: Json = attrs.field(factory=dict[str, Any])

    def read(self, node: document.Node, path: Path, reading: Reading) -> Any:
        if isinstance(node, document.Scalar) and node.tag == "null":
            return {}
        if not isinstance(node, document.Mapping):
            reading.problem(path, f"must be {self.what}, not {document.kind_of(node)}", node.line)
            return BAD
        reading.faults(node, path)
        values: dict[str, Any] = {}
        for entry in node.entries:
            key = self._key(entry, path, reading)
            place = (*path, entry.key if key is not None else before_colon(entry.key))
            reading.at(place, entry.line)
            value = self.value.read(entry.value, place, reading)
            if key is not None and value is not BAD:
                values[key] = value
        return values

    def _key(self, entry: document.Entry, path: Path, reading: Reading) -> str | None:
        key = reading.key(entry, path)
        if key is None:
            return None
        try:
            if not key:
                raise ValueError
            return self.key(key)
        except ValueError:
            reading.problem((*path, before_colon(entry.key)), f"the key must be {self.key_what}", entry.line)
            return None

    def schema(self) -> Json:
        json: Json = {"type": ["object", "null"], "additionalProperties": self.value.schema()}
        if self.key_json:
            json["propertyNames"] = self.key_json
        return json

    def show(self, value: Any) -> Any:
        return {key: self.value.show(item) for key, item in value.items()}


@attrs.frozen(kw_only=True)
class Raw:
    """Any JSON value, with its strings interpolated: what goes on to a provider as it is."""

    what: str = "a value"
    scalar_only: bool = False

    def read(self, node: document.Node, path: Path, reading: Reading) -> Any:
        if isinstance(node, document.Scalar):
            literal = reading.literal(node, path)
            return BAD if literal is None else self._plain(literal, node.line, path, reading)
        if self.scalar_only:
            reading.problem(path, f"must be {self.what}, not {document.kind_of(node)}", node.line)
            return BAD
        if isinstance(node, document.Sequence):
            values = [self.read(item, (*path, index), reading) for index, item in enumerate(node.items)]
            return BAD if BAD in values else values
        reading.faults(node, path)
        fields = {entry.key: self.read(entry.value, (*path, entry.key), reading) for entry in node.entries}
        return BAD if BAD in fields.values() else fields

    def _plain(self, literal: Literal, line: int, path: Path, reading: Reading) -> Any:
        if literal.filled or literal.tag in TEXT_TAGS:
            return literal.text
        if literal.tag == "null":
            return None
        try:
            return _PLAIN[literal.tag](literal.text)
        except (KeyError, ValueError):
            reading.problem(path, "must be a plain value: put it in quotes, or write the number in decimal", line)
            return BAD

    def schema(self) -> Json:
        return {"type": ["string", "number", "boolean", "null"]} if self.scalar_only else {}

    def show(self, value: Any) -> Any:
        return value


def _number(text: str) -> int | float:
    try:
        return whole(text)
    except ValueError:
        return decimal(text)


_PLAIN: Mapping[str, Callable[[str], Any]] = {"int": _number, "float": _number, "bool": truth}


def text(what: str, convert: Callable[[str], Any] | None = None, *, pattern: str | None = None) -> Value:
    """A string that is not empty, further checked by `convert`."""

    def checked(value: str) -> Any:
        if not value:
            raise ValueError(value)
        return value if convert is None else convert(value)

    json: Json = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}
    return Value(what=what, convert=checked, tags=TEXT_TAGS, json=json)


def one_of(words: Sequence[str], convert: Callable[[str], Any] = str) -> Value:
    """One of a few words."""

    def checked(value: str) -> Any:
        if value not in words:
            raise ValueError(value)
        return convert(value)

    what = " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return Value(
        what=what,
        convert=checked,
        tags=TEXT_TAGS,
        json={"enum": [*words]},
        shown=lambda value: value.value if isinstance(value, enum.Enum) else value,
        words=tuple(words),
    )
