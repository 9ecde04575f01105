"""A section of the configuration: its keys, and how to find out what was meant by the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from . import document
from .kinds import BAD, Json, Kind
from .reading import Path, Reading, before_colon, near


@attrs.frozen(kw_only=True)
class Key:
    """One key of a section.

    `default` is what the section's class has when the key is absent. `required`: absent is a problem, and `default`
    stands in for it so that the rest can be judged.
    """

    name: str
    kind: Kind
    doc: str
    default: Any = None
    required: bool = False


@attrs.frozen(kw_only=True)
class Section:
    """A mapping with keys of ours; `make` gets those that are written down (and the required ones)."""

    keys: tuple[Key, ...]
    make: Callable[..., Any] = dict
    what: str = "a mapping of keys"
    by_name: Mapping[str, Key] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "by_name", {key.name: key for key in self.keys})

    def read(self, node: document.Node, path: Path, reading: Reading) -> Any:
        if isinstance(node, document.Scalar) and node.tag == "null":
            node = document.Mapping((), node.line)
        if not isinstance(node, document.Mapping):
            reading.problem(path, f"must be {self.what}, not {document.kind_of(node)}", node.line)
            return self.make(**{key.name: key.default for key in self.keys if key.required})
        reading.faults(node, path)
        values = self._values(node, path, reading)
        for key in self.keys:
            if key.required and key.name not in values:
                place = (*path, key.name)
                if reading.fine(place):
                    reading.problem(place, f"is required: {key.kind.what}", node.line)
                values[key.name] = key.default
        return self.make(**values)

    def _values(self, node: document.Mapping, path: Path, reading: Reading) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for entry in node.entries:
            place = (*path, entry.key)
            reading.at(place, entry.line)
            key = self.by_name.get(entry.key)
            if key is None:
                self._unknown(entry, path, reading)
                continue
            value = key.kind.read(entry.value, place, reading)
            if value is not BAD:
                values[key.name] = value
        return values

    def _unknown(self, entry: document.Entry, path: Path, reading: Reading) -> None:
        name = entry.key.partition(":")[0]
        if name != entry.key and name in self.by_name:
            reading.problem((*path, name), "needs a space after its colon", entry.line)
            return
        suggestion = near(entry.key, self.by_name)
        if suggestion:
            # What was meant is written down, if wrongly: that it is missing would be a second problem for one slip.
            reading.spoil((*path, suggestion.split('"')[1]))
        else:
            suggestion = f"; known here: {', '.join(self.by_name)}"
        reading.problem((*path, before_colon(entry.key)), f"unknown key{suggestion}", entry.line)

    def schema(self) -> Json:
        json: Json = {"type": ["object", "null"], "additionalProperties": False}
        json["properties"] = {key.name: _key_schema(key) for key in self.keys}
        required = [key.name for key in self.keys if key.required]
        if required:
            json |= {"type": "object", "required": required}
        return json

    def show(self, value: Any) -> Any:
        return value


def _key_schema(key: Key) -> Json:
    json = key.kind.schema()
    json["description"] = key.doc
    if not isinstance(key.kind, Section) and not key.required:
        json["default"] = key.kind.show(key.default)
    json["x-allowed"] = key.kind.what
    return json


def default_of(owner: type, key: str) -> Any:
    """The default of attribute `key` of the class `owner`."""
    default = attrs.fields_dict(owner)[key].default
    factory = getattr(default, "factory", None)
    return default if factory is None else factory()


def keys_of(owner: type, *rows: tuple[str, Kind, str]) -> tuple[Key, ...]:
    """Keys that are attributes of the class `owner`, with its defaults: name, kind, meaning."""
    return tuple(Key(name=key, kind=kind, doc=doc, default=default_of(owner, key)) for key, kind, doc in rows)


def section_of(owner: type, keys: tuple[Key, ...]) -> Section:
    """A section that is read into an instance of `owner`."""
    return Section(keys=keys, make=owner)
