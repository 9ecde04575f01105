"""A YAML text as a tree that knows its lines, with everything refused that a configuration has no use for.

Bounded: a file of 8 MiB, 64 levels, and 500 000 values once every alias is expanded, so that neither a wrong path
(`-c /dev/zero`) nor a file of nested aliases takes the memory of the machine.
"""

from __future__ import annotations

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
_compose: Any = getattr(yaml, "compose")  # noqa: B009, the stubs leave it untyped


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
        root: yaml.Node | None = _compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise _refused(source, _line_of(error), f"is not valid YAML: {_sentence(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(error.position, 0)) + 1
        raise _refused(source, line, "is not valid YAML: contains a control character") from None
    except RecursionError:
        raise _too_deep(source, 1) from None
    if root is None:
        return None
    return _Builder(source).build(root).node


def _refused(source: str, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(source, line, "(file)", message)])


def _too_deep(source: str, line: int) -> ConfigError:
    return _refused(source, line, f"is nested more than {DEEPEST} levels deep")


def _line_of(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _sentence(error: yaml.MarkedYAMLError) -> str:
    # Aliases and tags are named in the problem, and a secret might be what was taken for one.
    problem = (error.problem or "cannot be read").split("'")[0].split('"')[0].strip() or "cannot be read"
    return f"{problem} {error.context}" if error.context and "'" not in error.context else problem


@attrs.frozen
class _Built:
    """A node, the values in it with aliases expanded, and the levels below it."""

    node: Node
    count: int
    height: int


class _Builder:
    """Turns PyYAML's nodes into ours, once per node: aliases share the result, and count each time they are used."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._done: dict[int, _Built] = {}
        self._open: set[int] = set()

    def build(self, node: yaml.Node) -> _Built:
        known = self._done.get(id(node))
        if known is not None:
            return known
        line = node.start_mark.line + 1
        if id(node) in self._open:
            raise _refused(self._source, line, "an anchor contains itself")
        if len(self._open) > DEEPEST:
            raise _too_deep(self._source, line)
        self._open.add(id(node))
        built = self._built(node, line)
        self._open.discard(id(node))
        if built.count > MOST_VALUES:
            raise _refused(self._source, line, f"has more than {MOST_VALUES} values once its aliases are expanded")
        if built.height > DEEPEST:
            raise _too_deep(self._source, line)
        self._done[id(node)] = built
        return built

    def _built(self, node: yaml.Node, line: int) -> _Built:
        if isinstance(node, yaml.ScalarNode):
            return _Built(Scalar(str(node.value), node.tag.removeprefix(_TAG), line), 1, 0)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(item) for item in node.value]
            return _around(Sequence(tuple(item.node for item in items), line), items)
        return self._mapping(node, line)

    def _mapping(self, node: yaml.Node, line: int) -> _Built:
        own: dict[str, Entry] = {}
        merged: list[Entry] = []
        faults: list[Fault] = []
        values = [self.build(value) for _, value in node.value]
        for (key, _), value in zip(node.value, values, strict=True):
            key_line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                faults.append(Fault(key_line, None, "a key must be text"))
            elif key.tag == _TAG + "merge":
                merged += _merged(value.node, key_line, faults)
            else:
                entry = Entry(str(key.value), key_line, value.node)
                first = own.setdefault(entry.key, entry)
                if first is not entry:
                    faults.append(Fault(key_line, entry.key, f"is there twice, first on line {first.line}"))
        for entry in merged:
            own.setdefault(entry.key, entry)
        return _around(Mapping(tuple(own.values()), line, tuple(faults)), values)


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
