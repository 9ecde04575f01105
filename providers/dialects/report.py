"""What a translation could not carry: the names for `X-Infermux-Dropped`."""

from __future__ import annotations

import re
from typing import Final

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.()\[\] -]+")
_LONGEST: Final = 80
_MOST: Final = 64


class Loss:
    """The names of fields that were dropped, and of those that were changed, as `name(how)`, each once.

    A name is the field's, dotted below the top level and without indexes (`messages.content.input_audio`). Callers
    choose the names of unknown fields, and they end in a header: whatever has no place there becomes `_`.
    """

    __slots__ = ("_names",)

    def __init__(self, *names: str) -> None:
        self._names: dict[str, None] = {}
        for name in names:
            self.drop(name)

    def __repr__(self) -> str:
        return f"Loss({', '.join(map(repr, self._names))})"

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they were found."""
        return tuple(self._names)

    @property
    def header(self) -> str:
        """The header's value: printable ASCII, names separated by a comma and a space."""
        return ", ".join(self._names)

    def drop(self, name: str) -> None:
        """`name` is not carried. After the first 64 names the rest is told by `...`."""
        name = _UNSAFE.sub("_", name).strip()[:_LONGEST]
        if len(self._names) < _MOST:
            self._names[name] = None
        elif name not in self._names:
            self._names["..."] = None

    def clamp(self, name: str) -> None:
        """The value of `name` was out of the provider's range and is now at its border."""
        self.change(name, "clamped")

    def change(self, name: str, how: str) -> None:
        """`name` is carried in another way than it was given; `how` says which, in a word or three."""
        self.drop(f"{name}({how})")

    def extend(self, other: Loss) -> None:
        """Add the names of `other`."""
        for name in other.names:
            self.drop(name)
