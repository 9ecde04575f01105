"""A minimal value of a JSON Schema: what a simulated provider answers where a shape is asked for.

Required members only, the first of several choices, the smallest number and the shortest list that is allowed. Of what
a schema can say that is read which structured outputs take (https://platform.openai.com/docs/guides/structured-outputs:
types, enum, const, anyOf, $ref, bounds, formats); a `pattern` is not followed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, cast

Schema = Mapping[str, Any]

_MOST_VALUES: Final = 10_000  # a schema may refer to itself, more than once
_LONGEST: Final = 10_000
_TEXTS: Final = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "a@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: object) -> object:
    """A value that `schema` allows; `{}` where it says nothing. Raises ValueError for one that is none, or endless."""
    try:
        return _Maker(_object(schema)).value(schema)
    except (TypeError, AttributeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"the schema cannot be followed: {error}") from None


def _object(value: object) -> Schema:
    return cast("Schema", value) if isinstance(value, Mapping) else {}


class _Maker:
    """Makes one value; `root` is the whole schema, for references into it."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_VALUES

    def value(self, given: object) -> object:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"the schema asks for more than {_MOST_VALUES} values")
        schema = _object(given)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"]))
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self.value(schema[several][0])
        if "allOf" in schema:
            merged = {key: part for each in schema["allOf"] for key, part in _object(each).items()}
            return self.value({**merged, **{key: part for key, part in schema.items() if key != "allOf"}})
        return self._typed(schema)

    def _typed(self, schema: Schema) -> object:
        kinds: Any = schema.get("type", "array" if "items" in schema else "object")
        kind = kinds if isinstance(kinds, str) else kinds[0]
        match kind:
            case "string":
                return _text(schema)
            case "integer":
                return int(_number(schema, 1))
            case "number":
                return _number(schema, 0)
            case "boolean":
                return True
            case "null":
                return None
            case "array":
                first = [self.value(each) for each in schema.get("prefixItems", ())]
                missing = schema.get("minItems", 0) - len(first)
                return first + [self.value(schema.get("items")) for _ in range(missing)]
            case _:
                members = _object(schema.get("properties"))
                return {str(name): self.value(members.get(name)) for name in schema.get("required", ())}

    def _referred(self, pointer: str) -> object:
        """What a JSON pointer (RFC 6901) into the schema points to."""
        found: object = self._root
        for step in pointer.removeprefix("#").split("/")[1:]:
            found = _object(found).get(step.replace("~1", "/").replace("~0", "~"))
        return found


def _text(schema: Schema) -> str:
    least = schema.get("minLength", 0)
    if least > _LONGEST:
        raise ValueError(f"the schema asks for a text of more than {_LONGEST} letters")
    return _TEXTS.get(schema.get("format", ""), "text").ljust(least, "x")[: schema.get("maxLength")]


def _number(schema: Schema, step: float) -> float:
    """The smallest that is allowed, from 0 on. `step`: that of whole numbers, 0 for any."""
    above, most = schema.get("exclusiveMinimum"), schema.get("maximum", math.inf)
    step = schema.get("multipleOf", step)
    found = float(schema.get("minimum", min(0, most)))
    if step:
        found = math.ceil(found / step) * step
    if above is not None and found <= above:
        found = (math.floor(above / step) + 1) * step if step else above + 1
    return found
