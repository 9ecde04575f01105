"""Finding the model in a multipart form (RFC 7578, RFC 2046 section 5.1) while its bytes go by. Pure; keeps no file."""

from __future__ import annotations

import re
from email.message import Message
from typing import Final

from infermux.errors import InvalidRequest
from infermux.providers.peek import LONGEST_MODEL

_LONGEST_HEAD: Final = 16 * 1024
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_LINE: Final = re.compile(rb"[ \t]*\r\n")


def boundary_of(content_type: bytes) -> bytes:
    """The boundary a Content-Type declares. Raises InvalidRequest."""
    message = Message()
    message["content-type"] = content_type.decode("latin-1")
    boundary = str(message.get_param("boundary") or "").encode("latin-1", "replace")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise InvalidRequest("the Content-Type of a form must have a valid `boundary`", param="Content-Type")
    return boundary


class FormScanner:
    """Looks for the part `model` in what it is fed. `model` is its value, at `start` to `end` in the body.

    `done`: it was found, or the form has ended. The rest of the body need not be fed then.
    """

    def __init__(self, boundary: bytes) -> None:
        self.model: str | None = None
        self.start = self.end = 0
        self.done = False
        self._mark = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # the first boundary has no line before it
        self._offset = -2  # where in the body the buffer begins
        self._from = 0  # where in the buffer a boundary is looked for: what is before it only looked like one
        self._name: str | None = None
        self._in_head = False

    def feed(self, data: bytes) -> None:
        """Look at more of the body. Raises InvalidRequest for what is no form."""
        self._buffer += data
        while not self.done and (self._head() if self._in_head else self._content()):
            pass

    def _content(self) -> bool:
        """Skip to the next boundary: what is before it belongs to the part, or is the preamble."""
        at = self._buffer.find(self._mark, self._from)
        if at < 0:
            self._skip_content()
            return False
        after = at + len(self._mark)
        rest = self._buffer[after : after + 128]
        line = _LINE.match(rest)
        if line is None and not rest.startswith(b"--"):
            if len(rest) < 128 and rest.strip(b" \t\r-") == b"":
                return False  # the line has not ended yet
            self._from = at + 2
            return True
        if self._name == "model":
            self._found(self._buffer[:at], self._offset)
        elif line is None:
            self.done = True  # the last boundary
        else:
            self._in_head = True
            self._drop(after + line.end())
        return not self.done

    def _skip_content(self) -> None:
        if self._name == "model":
            if len(self._buffer) > LONGEST_MODEL * 4 + len(self._mark):
                raise InvalidRequest(f"model is longer than {LONGEST_MODEL} characters", param="model")
            return
        self._drop(max(len(self._buffer) - len(self._mark) - 128, 0))

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if self._buffer.startswith(b"\r\n"):
            end, size = 0, 2  # no headers at all
        else:
            size = 4
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise InvalidRequest("the headers of a part of the form are too long")
            return False
        self._name = _part_name(self._buffer[:end])
        self._in_head = False
        self._drop(end + size)
        return True

    def _found(self, value: bytes, offset: int) -> None:
        try:
            model = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("model is not valid UTF-8", param="model") from None
        if len(model) > LONGEST_MODEL:
            raise InvalidRequest(f"model is longer than {LONGEST_MODEL} characters", param="model")
        self.model = model
        self.start, self.end = offset, offset + len(value)
        self.done = True

    def _drop(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._offset += count
        self._from = max(self._from - count, 0)


def _part_name(head: bytes) -> str | None:
    """The `name` of a part's Content-Disposition."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            message = Message()
            message["content-disposition"] = value.strip().decode("latin-1")
            found = message.get_param("name", header="content-disposition")
            return found if isinstance(found, str) else None
    return None
