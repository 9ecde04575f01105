"""A YAML text as a tree that knows its lines, with everything refused that a configuration has no use for.

Bounded: a file of 8 MiB, 64 levels, and 500 000 values once every alias is expanded, so that neither a wrong path
(`-c /dev/zero`) nor a file of nested aliases takes the memory of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs
import yaml

from infermux.errors import ConfigError, Problem

LARGEST_FILE = 8 * 1024 * 1024
DEEPEST = 64
MOST_VALUES = 500_000

_TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "merge", "value"})
# libyaml is ten times as fast; the pure loader is there where PyYAML was built without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTION_TAGS = (None, "!", _TAG + "map", _TAG + "seq")


@attrs.frozen
class Scalar:
    """`tag` is what YAML takes the text for: str, int, float, bool, null, timestamp, or a tag of its own."""

    text: str
    tag: str
    line: int


@attrs.frozen
class Sequence:
    items: tuple[Node, ...]
    line: int


@attrs.frozen
class Fault:
    """Something wrong with a mapping itself: at `key`, or at the mapping as a whole."""

    line: int
    key: str | None
    message: str


@attrs.frozen
class Entry:
    key: str
    line: int
    value: Node


@attrs.frozen
class Mapping:
    entries: tuple[Entry, ...]
    line: int
    faults: tuple[Fault, ...] = ()


Node: TypeAlias = Scalar | Sequence | Mapping


def kind_of(node: Node) -> str:
    """What the reader would call it."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar(tag="null"):
            return "empty"
        case Scalar(tag="bool"):
            return "true or false"
        case Scalar(tag="int" | "float"):
            return "a number"
        case _:
            return "text"


def parse(text: str, *, source: str) -> Node | None:
    """The tree of `text`, None for an empty document. Duplicate keys are noted in their mapping, the first one counts.

    Raises ConfigError when there is no tree to go on with: a syntax error, or one of the bounds.
    """
    try:
        return _Composer(text, source).document()
    except yaml.MarkedYAMLError as error:
        raise _refused(source, _line_of(error), f"is not valid YAML: {_sentence(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(error.position, 0)) + 1
        raise _refused(source, line, "is not valid YAML: contains a control character") from None


def _refused(source: str, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(source, line, "(file)", message)])


def _too_deep(source: str, line: int) -> ConfigError:
    return _refused(source, line, f"is nested more than {DEEPEST} levels deep")


def _line_of(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _sentence(error: yaml.MarkedYAMLError) -> str:
    # Without what libyaml quotes from the text: a secret might be what was taken for an alias or a tag.
    problem = (error.problem or "").split("'")[0].split('"')[0].strip() or "cannot be read"
    if "cannot start any token" in problem:
        return f"{problem} (tabs do not indent, and text that begins with @, ` or % needs quotes)"
    return problem


@attrs.frozen
class _Built:
    """A node, the values in it with aliases expanded, and the levels below it."""

    node: Node
    count: int
    height: int


class _Composer:
    """Builds the tree from PyYAML's events. Its own composer recurses in C: deep enough a file ends the process."""

    def __init__(self, text: str, source: str) -> None:
        self._loader: Any = _LOADER(text)
        self._source = source
        self._anchors: dict[str, _Built | None] = {}  # None while the anchored node is being built

    def document(self) -> Node | None:
        try:
            self._loader.get_event()  # the start of the stream
            if self._loader.check_event(yaml.StreamEndEvent):
                return None
            self._loader.get_event()  # the start of the document
            root = self._node(0).node
            self._loader.get_event()
            if not self._loader.check_event(yaml.StreamEndEvent):
                line = self._loader.peek_event().start_mark.line + 1
                raise _refused(self._source, line, "is not valid YAML: holds more than one document")
            return root
        finally:
            self._loader.dispose()

    def _node(self, depth: int) -> _Built:
        event: Any = self._loader.get_event()
        line: int = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        if depth > DEEPEST:
            raise _too_deep(self._source, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        built = self._anchored(event, line, depth)
        if built.count > MOST_VALUES:
            raise _refused(self._source, line, f"has more than {MOST_VALUES} values once its aliases are expanded")
        if built.height > DEEPEST:
            raise _too_deep(self._source, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = built
        return built

    def _alias(self, anchor: str, line: int) -> _Built:
        if anchor not in self._anchors:
            raise _refused(self._source, line, "is not valid YAML: found undefined alias")
        built = self._anchors[anchor]
        if built is None:
            raise _refused(self._source, line, "an anchor contains itself")
        return built

    def _anchored(self, event: Any, line: int, depth: int) -> _Built:
        if isinstance(event, yaml.ScalarEvent):
            tag: str | None = event.tag
            if tag is None or tag == "!":
                tag = str(self._loader.resolve(yaml.ScalarNode, event.value, event.implicit))
            return _Built(Scalar(event.value, tag.removeprefix(_TAG), line), 1, 0)
        if event.tag not in _COLLECTION_TAGS:
            raise _refused(self._source, line, "YAML tags are not allowed here")
        if isinstance(event, yaml.SequenceStartEvent):
            items = list(self._nodes_until(yaml.SequenceEndEvent, depth))
            return _around(Sequence(tuple(item.node for item in items), line), items)
        parts = list(self._nodes_until(yaml.MappingEndEvent, depth))
        return _around(_mapping(parts[::2], parts[1::2], line), parts)

    def _nodes_until(self, end: type[Any], depth: int) -> Iterator[_Built]:
        while not self._loader.check_event(end):
            yield self._node(depth + 1)
        self._loader.get_event()


def _mapping(keys: list[_Built], values: list[_Built], line: int) -> Mapping:
    own: dict[str, Entry] = {}
    merged: list[Entry] = []
    faults: list[Fault] = []
    for key, value in zip(keys, values, strict=True):
        match key.node:
            case Scalar(tag="merge"):
                merged += _merged(value.node, key.node.line, faults)
            case Scalar(text=text):
                entry = Entry(text, key.node.line, value.node)
                first = own.setdefault(text, entry)
                if first is not entry:
                    faults.append(Fault(entry.line, text, f"is there twice, first on line {first.line}"))
            case _:
                faults.append(Fault(key.node.line, None, "a key must be text"))
    for entry in merged:
        own.setdefault(entry.key, entry)
    return Mapping(tuple(own.values()), line, tuple(faults))


def _around(node: Node, inner: list[_Built]) -> _Built:
    return _Built(node, 1 + sum(built.count for built in inner), 1 + max((built.height for built in inner), default=0))


def _merged(value: Node, line: int, faults: list[Fault]) -> list[Entry]:
    sources = value.items if isinstance(value, Sequence) else (value,)
    entries: list[Entry] = []
    for source in sources:
        if isinstance(source, Mapping):
            entries += source.entries
            faults += source.faults
        else:
            faults.append(Fault(line, None, "`<<` takes a mapping or a list of mappings"))
    return entries
