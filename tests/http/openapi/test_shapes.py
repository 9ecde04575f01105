"""Schemas made of types say what the values look like once they are written."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import msgspec
import pytest

from infermux.config.redact import MASK
from infermux.http.openapi.shapes import Types, maybe, one_of, record
from infermux.secret import Secret


class Colour(enum.Enum):
    RED = "red"


class Inner(msgspec.Struct):
    words: tuple[str, ...] = ()


@attrs.frozen
class Outer:
    inner: Inner | None
    proxy: str | None
    headers: Mapping[str, str]
    below: tuple[Outer, ...]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (int | None, {"type": ["integer", "null"]}),
        (int | float | None, {"type": ["number", "null"]}),
        (int | Literal["auto"], {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["auto"]}]}),
        (Colour, {"type": "string", "enum": ["red"]}),
        (Secret, {"const": MASK}),
        (Mapping[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (list[bool], {"type": "array", "items": {"type": "boolean"}}),
        (Any, {}),
    ],
)
def test_a_type_has_a_schema(kind: Any, schema: Any) -> None:
    assert Types().of(kind) == schema


def test_a_class_goes_to_the_components_once_and_what_is_masked_is_a_mask() -> None:
    types = Types("Of")
    assert types.of(Outer) == {"$ref": "#/components/schemas/OfOuter"}
    assert set(types.components) == {"OfOuter", "OfInner"}
    outer = types.components["OfOuter"]
    assert outer["required"] == ["inner", "proxy", "headers", "below"]
    assert outer["additionalProperties"] is False
    assert outer["properties"]["proxy"] == {"enum": [MASK, None]}
    assert outer["properties"]["headers"] == {"type": "object", "additionalProperties": {"const": MASK}}
    assert outer["properties"]["below"]["items"] == {"$ref": "#/components/schemas/OfOuter"}


def test_what_has_no_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no schema"):
        Types().of(bytes)


def test_null_is_beside_the_words_of_a_list_of_words() -> None:
    assert maybe(one_of(("a",))) == {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}
    assert record({"a": {}}, optional={"b": {}})["required"] == ["a"]
