"""JSON Schemas (2020-12, as OpenAPI 3.1 has them) from a few words, and from the types of the code."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, Union

import attrs
import msgspec

from infermux.config.redact import MASK, is_masked, masks_values
from infermux.secret import Secret

Schema: TypeAlias = dict[str, Any]

ANY: Final[Schema] = {}
TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
OBJECT: Final[Schema] = {"type": "object"}
NULL: Final[Schema] = {"type": "null"}

_SCALARS: Final[Mapping[object, Schema]] = {
    str: TEXT,
    bool: FLAG,
    int: {"type": "integer"},
    float: NUMBER,
    type(None): NULL,
    Any: ANY,
    object: ANY,
    msgspec.Raw: ANY,
    Secret: {"const": MASK},
}


def maybe(schema: Schema) -> Schema:
    """`schema`, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, NULL]}


def listed(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def one_of(words: Iterable[str]) -> Schema:
    """One of these texts."""
    return {"type": "string", "enum": list(words)}


def values_of(kind: type[enum.Enum]) -> Schema:
    return one_of(member.value for member in kind)


def record(fields: Mapping[str, Schema], *, optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with exactly these members, the `optional` ones perhaps."""
    members = {**fields, **(optional or {})}
    return {"type": "object", "properties": members, "required": list(fields), "additionalProperties": False}


def event(data: Schema | None = None, *, name: str | None = None) -> Schema:
    """A server-sent event; what `data` says is in its data, as JSON."""
    told = {**TEXT, **({} if data is None else {"contentMediaType": "application/json", "contentSchema": data})}
    named = {} if name is None else {"event": {"const": name}}
    return {"type": "object", "properties": {**named, "data": told}, "required": [*named, "data"]}


def ref(name: str) -> Schema:
    """A schema that is kept under `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


class Types:
    """Schemas of types as `redacted` and `msgspec` write their values; those of classes go to `components`."""

    def __init__(self, prefix: str = "") -> None:
        self.components: dict[str, Schema] = {}
        self._prefix = prefix

    def of(self, kind: Any) -> Schema:
        """The schema of a type. Raises TypeError for one that has no plain form."""
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return scalar
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin is Literal:
            return one_of(arguments)
        if origin in (tuple, list):
            return listed(self.of(arguments[0]))
        if origin in (dict, Mapping):
            return mapping(self.of(arguments[1]))
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return values_of(kind)
        if isinstance(kind, type) and (attrs.has(kind) or issubclass(kind, msgspec.Struct)):
            return self._class(kind)
        raise TypeError(f"{kind!r} has no schema")

    def _union(self, kinds: tuple[Any, ...]) -> Schema:
        numbers = int in kinds and float in kinds  # of which the one is part of the other
        found = [self.of(kind) for kind in kinds if kind is not type(None) and not (numbers and kind is int)]
        whole = found[0] if len(found) == 1 else {"anyOf": found}
        return maybe(whole) if type(None) in kinds else whole

    def _class(self, kind: type) -> Schema:
        name = self._prefix + kind.__name__.removeprefix(self._prefix)
        if name not in self.components:
            self.components[name] = {}  # it may have members of its own kind
            self.components[name] = record(self.members(kind))
        return ref(name)

    def members(self, kind: type) -> dict[str, Schema]:
        """The members of a class, all of which are written."""
        hints = typing.get_type_hints(kind)
        names = [field.name for field in attrs.fields(kind)] if attrs.has(kind) else [*hints]
        return {name: self._masked(name, self.of(hints[name])) for name in names}

    @staticmethod
    def _masked(name: str, schema: Schema) -> Schema:
        if masks_values(name):
            return mapping({"const": MASK})
        return {"enum": [MASK, None]} if is_masked(name) else schema
