"""The text of a file of the configuration, or what keeps it from being read."""

from __future__ import annotations

from infermux.errors import ConfigError, Problem

from .document import LARGEST_FILE


def text_of(source: str) -> str:
    """The whole text. Raises ConfigError."""
    try:
        with open(source, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(source, f"cannot be read: {error.strerror or 'not a usable path'}") from None
    except ValueError:
        raise _unreadable(source, "cannot be read: not a usable path") from None
    if len(data) > LARGEST_FILE:
        raise _unreadable(source, f"is larger than {LARGEST_FILE // 2**20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(source, "is not UTF-8 text", line) from None


def _unreadable(source: str, message: str, line: int = 1) -> ConfigError:
    return ConfigError([Problem(source, line, "(file)", message)])
