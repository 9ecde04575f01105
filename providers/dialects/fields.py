"""Reading a caller's JSON: each value is asked for by name and type, what is wrong is named, what is left is known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final, NoReturn, cast

from infermux.errors import InvalidRequest

_INDEX: Final = re.compile(r"\[\d+\]")
_KINDS: Final = ((bool, "a boolean"), (int, "an integer"), (float, "a number"), (str, "a string"), (list, "a list"))


class Fields:
    """The members of a JSON object. `null` counts as absent. Every method raises InvalidRequest on a wrong type.

    `path` is where the object stands, such as `messages[0].content[1]`; "" for the body itself.
    """

    __slots__ = ("_taken", "path", "values")

    def __init__(self, value: object, path: str = "") -> None:
        self.path = path
        self.values: dict[str, object]
        if not isinstance(value, dict):
            wrong(path, "an object", value)
        self.values = cast("dict[str, object]", value)
        self._taken: set[str] = set()

    def at(self, name: str) -> str:
        """The path of member `name`."""
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> object:
        """The member as it is, None where it is absent."""
        self._taken.add(name)
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        wrong(self.at(name), "a string", value)

    def need_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            missing(self.at(name))
        return value

    def integer(self, name: str) -> int | None:
        value = self.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and value.is_integer():  # JSON does not tell 100 from 1e2
            return int(value)
        wrong(self.at(name), "an integer", value)

    def count(self, name: str) -> int | None:
        """An integer that is at least 1."""
        value = self.integer(name)
        if value is not None and value < 1:
            raise InvalidRequest(f"{self.at(name)}: at least 1 is expected", param=self.at(name))
        return value

    def number(self, name: str) -> float | None:
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            wrong(self.at(name), "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            wrong(self.at(name), "a finite number", value)
        return number

    def boolean(self, name: str) -> bool | None:
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return value
        wrong(self.at(name), "a boolean", value)

    def child(self, name: str) -> Fields | None:
        value = self.get(name)
        return None if value is None else Fields(value, self.at(name))

    def need_child(self, name: str) -> Fields:
        value = self.child(name)
        if value is None:
            missing(self.at(name))
        return value

    def mapping(self, name: str) -> dict[str, object] | None:
        """An object that is taken as a whole, such as a JSON Schema."""
        value = self.child(name)
        return None if value is None else value.values

    def array(self, name: str) -> list[object] | None:
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            wrong(self.at(name), "a list", value)
        return cast("list[object]", value)

    def objects(self, name: str) -> Iterator[Fields]:
        """The objects of a list, none where it is absent."""
        at = self.at(name)
        for index, value in enumerate(self.array(name) or ()):
            yield Fields(value, f"{at}[{index}]")

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of a list, none where it is absent."""
        found: list[str] = []
        for index, value in enumerate(self.array(name) or ()):
            if not isinstance(value, str):
                wrong(f"{self.at(name)}[{index}]", "a string", value)
            found.append(value)
        return tuple(found)

    def ignore(self, *names: str) -> None:
        """These members say nothing that is to be carried: they are not left over."""
        self._taken.update(names)

    def rest(self) -> dict[str, object]:
        """The members nothing has asked for yet, without those that are null."""
        return {name: value for name, value in self.values.items() if name not in self._taken and value is not None}

    def lost(self) -> list[str]:
        """The names of `rest`, for the report of what is not carried."""
        return [generic(self.at(name)) for name in self.rest()]


def generic(path: str) -> str:
    """A path without its indexes."""
    return _INDEX.sub("", path)


def missing(path: str) -> NoReturn:
    raise InvalidRequest(f"{path} is required", param=path)


def wrong(path: str, expected: str, value: object) -> NoReturn:
    """Refuse `value`. It is not shown: it may be as long as the body, and the caller has it."""
    found = next((name for kind, name in _KINDS if isinstance(value, kind)), "null" if value is None else "an object")
    raise InvalidRequest(f"{path or 'the body'}: {expected} is expected, not {found}", param=path or None)


def unknown_value(path: str, value: str, allowed: str) -> NoReturn:
    raise InvalidRequest(f"{path}: {value[:64]!r} is not one of {allowed}", param=path)
