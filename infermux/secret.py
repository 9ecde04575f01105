"""A credential that does not show itself."""

from __future__ import annotations

import attrs


@attrs.frozen(repr=False, slots=True)
class Secret:
    """A secret string. Its repr and str are masked; only `reveal()` gives the text, at the place that sends it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)
