"""The configuration as plain data that may be shown: credentials masked, everything else as it is."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from infermux.secret import Secret

from .settings import Config

MASK = "***"
# Headers, body fields and variables go to the provider as they are, and a proxy's URL may hold a password.
_MASKED_VALUES = frozenset({"headers", "extra_body", "env"})
_MASKED = frozenset({"proxy"})


def redacted(config: Config) -> dict[str, Any]:
    """JSON-able; durations in seconds, sizes in bytes. Keys of headers and body fields stay, their values do not."""
    shown: dict[str, Any] = plain(config)
    return shown


def masks_values(name: str) -> bool:
    """Whether of the key `name`, a mapping, only the keys may be shown."""
    return name in _MASKED_VALUES


def is_masked(name: str) -> bool:
    """Whether nothing of the key `name` may be shown but that it is there."""
    return name in _MASKED


def plain(value: Any) -> Any:
    """A value of the configuration as JSON has it, credentials masked."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(value.__class__):
        return {field.name: _field(field.name, getattr(value, field.name)) for field in attrs.fields(value.__class__)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return value


def _field(name: str, value: Any) -> Any:
    if name in _MASKED_VALUES:
        return {str(key): MASK for key in value}
    return MASK if name in _MASKED and value is not None else plain(value)
