"""The bodies of inference requests: what the router reads of them, by the types it reads them with.

Everything else in a body goes on as it was written, so those schemas are open, and what they leave out is the
provider's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from infermux.actors.preferences import SORTS
from infermux.providers.interface import Endpoint
from infermux.providers.peek import LONGEST_MODEL, PRICES, ChatPeek, Preferences
from infermux.providers.peek_endpoints import (
    CompletionPeek,
    CountPeek,
    EmbeddingPeek,
    MessagesPeek,
    PassedPeek,
    ResponsePeek,
)

from .shapes import NULL, NUMBER, TEXT, Schema, Types, maybe, one_of, ref

_PEEKS: Final[Mapping[Endpoint, type]] = {
    Endpoint.CHAT: ChatPeek,
    Endpoint.COMPLETIONS: CompletionPeek,
    Endpoint.EMBEDDINGS: EmbeddingPeek,
    Endpoint.RESPONSES: ResponsePeek,
    Endpoint.MESSAGES: MessagesPeek,
    Endpoint.COUNT_TOKENS: CountPeek,
}
PASSED: Final = "PassedRequest"
_NAME: Final[Schema] = {**TEXT, "maxLength": LONGEST_MODEL}
_TEXTS: Final[Schema] = {"type": ["string", "array", "null"]}

# What the readers check beside the types.
_CHECKED: Final[Mapping[str, Mapping[str, Schema]]] = {
    "messages": {"*": {"minItems": 1}},
    "prompt": {"*": _TEXTS},
    "input": {
        ResponsePeek.__name__: _TEXTS,
        EmbeddingPeek.__name__: {"type": ["string", "array"], "minLength": 1, "minItems": 1},
    },
    "dimensions": {"*": {"minimum": 1}},
    "stream": {EmbeddingPeek.__name__: {"enum": [False, None]}},
}


class _Read(Types):
    """Of what is read: members may be missing, and others may be there."""

    def _class(self, kind: type) -> Schema:
        if kind.__name__ not in self.components:
            self.components[kind.__name__] = _object(kind, self.members(kind))
        return ref(kind.__name__)

    def members(self, kind: type) -> dict[str, Schema]:
        found = {field.name: self.of(field.type) for field in msgspec.structs.fields(kind)}
        return {name: _checked(kind, name, schema) for name, schema in found.items()}


def _object(kind: type, members: Mapping[str, Schema]) -> Schema:
    needed = [field.name for field in msgspec.structs.fields(kind) if field.required]
    closed = kind.__struct_config__.forbid_unknown_fields  # type: ignore[attr-defined]
    return {
        "type": "object",
        "properties": members,
        **({"required": needed} if needed else {}),
        **({"additionalProperties": False} if closed else {}),
    }


def _checked(kind: type, name: str, schema: Schema) -> Schema:
    if name == "model":
        return maybe(_NAME)
    if kind is Preferences and name == "max_price":
        bounds = {"type": "object", "properties": dict.fromkeys(PRICES, NUMBER), "additionalProperties": False}
        return maybe(bounds)
    if kind is Preferences and name == "sort":
        return maybe(one_of(SORTS))
    by_kind = _CHECKED.get(name, {})
    return {**schema, **by_kind.get(kind.__name__, by_kind.get("*", {}))}


def bodies() -> dict[str, Schema]:
    """The schemas by name under `components`."""
    read = _Read()
    for kind in (*_PEEKS.values(), PassedPeek):
        read.of(kind)
    return {_public(name): schema for name, schema in read.components.items()}


def body_of(endpoint: Endpoint) -> Schema:
    """Of an endpoint that has a dialect; what is passed through has `passed_body`."""
    return ref(_public(_PEEKS[endpoint].__name__))


def passed_body(*, default: bool) -> Schema:
    """Of what is passed on. With `default` the model may be left out."""
    if default:
        return ref(PASSED)
    return {"allOf": [ref(PASSED), {"required": ["model"], "properties": {"model": {"minLength": 1, "not": NULL}}}]}


def form() -> Schema:
    """A form on its way to a provider: of its parts only the model is read."""
    return {"type": "object", "properties": {"model": {**_NAME, "minLength": 1}}, "required": ["model"]}


def _public(name: str) -> str:
    return f"{name.removesuffix('Peek')}Request" if name.endswith("Peek") else name
