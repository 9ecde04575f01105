"""`${VAR}`, `${VAR:-default}`, `${file:/path}` and `$$` in the strings of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs

LARGEST_SECRET_FILE = 64 * 1024

_REFERENCE = re.compile(r"\$\$|\$\{(?P<inner>[^}]*)\}|\$\{(?P<open>)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?P<text>.*))?", re.DOTALL)


@attrs.frozen
class Filled:
    """`text` after interpolation. `touched`: something came from outside the file, so it must not be shown."""

    text: str
    touched: bool


class CannotFill(Exception):
    """A reference that gives nothing; the message names it, never a value."""


def fill(text: str, environ: Mapping[str, str]) -> Filled:
    """Replace every reference once; what is put in is not looked at again. Raises CannotFill."""
    if "$" not in text:
        return Filled(text, touched=False)
    touched = False

    def value(match: re.Match[str]) -> str:
        nonlocal touched
        if match.group() == "$$":
            return "$"
        if match.group("inner") is None:
            raise CannotFill("has a `${` without its `}`; write `$${` for the characters themselves")
        touched = True
        return _value(match.group("inner"), environ)

    return Filled(_REFERENCE.sub(value, text), touched)


def _value(inner: str, environ: Mapping[str, str]) -> str:
    if inner.startswith("file:"):
        return _file(inner.removeprefix("file:"))
    match = _VARIABLE.fullmatch(inner)
    if not match:
        raise CannotFill(
            "has a `${...}` that is neither ${VAR}, ${VAR:-default} nor ${file:/path}; "
            "write `$${` for the characters themselves"
        )
    default = match.group("text")
    if default is not None and "${" in default:
        raise CannotFill(f"has a `${{...}}` inside the default of ${{{match.group('name')}}}; they do not nest")
    value = environ.get(match.group("name"))
    if value is None or (value == "" and default is not None):
        if default is None:
            raise CannotFill(
                f"the environment variable {match.group('name')} is not set; "
                f"set it, or give a default: ${{{match.group('name')}:-...}}"
            )
        return default
    return value


def _file(path: str) -> str:
    if not path.startswith(("/", "~/")):
        raise CannotFill("`${file:...}` takes an absolute path: ${file:/run/secrets/key}")
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(LARGEST_SECRET_FILE + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise CannotFill(f"the file {path} cannot be read: {reason}") from None
    if len(data) > LARGEST_SECRET_FILE:
        raise CannotFill(f"the file {path} is larger than {LARGEST_SECRET_FILE // 1024} KiB")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CannotFill(f"the file {path} is not UTF-8 text") from None
