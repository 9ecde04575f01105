"""The configuration as plain data that may be shown: credentials masked, everything else as it is."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from infermux.secret import Secret

from .settings import Config

MASK = "***"
# Headers and body fields go to the provider as they are, and a proxy's URL may hold a password.
_MASKED_VALUES = frozenset({"headers", "extra_body"})
_MASKED = frozenset({"proxy"})


def redacted(config: Config) -> dict[str, Any]:
    """JSON-able; durations in seconds, sizes in bytes. Keys of headers and body fields stay, their values do not."""
    shown: dict[str, Any] = _plain(config)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(value.__class__):
        return {field.name: _field(field.name, getattr(value, field.name)) for field in attrs.fields(value.__class__)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return value


def _field(name: str, value: Any) -> Any:
    if name in _MASKED_VALUES:
        return {str(key): MASK for key in value}
    return MASK if name in _MASKED and value is not None else _plain(value)
