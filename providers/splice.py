"""Change members of a JSON object by bytes: every byte that is not changed stays as the caller wrote it.

A decoder that leaves the values undecoded (msgspec's `Raw`, at C speed) says which members there are; that answers most
questions: what is missing is added before the closing brace. Where a member must be found, the walk over the members
takes each value's length from what the decoder found, after comparing the bytes. A complete JSON value followed by a
comma or a brace is the whole value, so that walk cannot be led astray; what makes the bytes differ (a key that is
there twice) or the decoder fail (nesting beyond the C stack, lone surrogates) goes to a walk that counts brackets.

The body is a JSON object the front end has already decoded; text that is not raises ValueError where it is noticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Container, Mapping
from functools import lru_cache
from typing import Final

import msgspec

_SPACE: Final = rb"[ \t\n\r]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPEN: Final = re.compile(_SPACE + rb"\{" + _SPACE)
_MEMBER: Final = re.compile(b"(" + _STRING + b")" + _SPACE + b":" + _SPACE, re.DOTALL)
_NEXT: Final = re.compile(_SPACE + b"[{,]" + _SPACE + _STRING + _SPACE + b":" + _SPACE, re.DOTALL)
_BETWEEN: Final = re.compile(_SPACE + b"(,?)" + _SPACE)
_CLOSE: Final = re.compile(_SPACE + rb"\}" + _SPACE + rb"\Z")
_SCALAR: Final = re.compile(_STRING + rb"|[^\s\"{}\[\],:]++", re.DOTALL)
_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:' + _STRING + rb'[^"{}\[\]]*+)*+[{}\[\]]', re.DOTALL)
_BLANK: Final = b" \t\n\r"
_OPENING: Final = frozenset(b"{[")

_raw_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


_Member = tuple[str, int, int]
"""A member's key and where its value is: `body[start:end]`. A bare tuple: a named one takes longer than finding it."""


class Splicer:
    """Several changes of one object, made together by `render`."""

    __slots__ = ("_body", "_changes", "_members", "_removed", "_values")

    def __init__(self, body: bytes) -> None:
        """Raises ValueError if `body` is seen not to be a JSON object."""
        self._body = body
        self._changes: dict[str, bytes] = {}
        self._removed: set[str] = set()
        self._members: list[_Member] | None = None
        self._values: Mapping[str, msgspec.Raw | bytes]
        try:
            self._values = _raw_members.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            self._members = _walk_brackets(body)
            self._values = {key: body[start:end] for key, start, end in self._members}

    def get(self, key: str) -> bytes | None:
        """The value of member `key` as it is now, None without one; of several the last."""
        if key in self._changes:
            return self._changes[key]
        value = None if key in self._removed else self._values.get(key)
        return None if value is None else bytes(value)

    def set(self, key: str, value: bytes) -> None:
        """Replace the value where the key stands (each time, if it stands there twice), else add it at the end."""
        self._removed.discard(key)
        self._changes[key] = value

    def remove(self, key: str) -> None:
        """Take member `key` out, if it is there, with one comma."""
        self._changes.pop(key, None)
        self._removed.add(key)

    def set_default(self, key: str, value: bytes) -> None:
        """Add a member unless it is there."""
        if key in self._changes or (key in self._values and key not in self._removed):
            return
        self.set(key, value)

    def set_nested(self, path: tuple[str, ...], value: bytes) -> None:
        """Set the member at `path`; objects on the way that are missing or null are made.

        Where something on the way is neither, nothing changes: refusing it is the provider's.
        """
        key, *below = path
        if not below:
            self.set(key, value)
            return
        inner = self.get(key)
        if inner is None or inner == b"null":
            for step in reversed(below):
                value = b"{%s%s}" % (_key_text(step), value)
            self.set(key, value)
        elif inner.startswith(b"{"):
            self.set(key, splice_nested(inner, tuple(below), value))

    def render(self) -> bytes:
        """The object with all changes."""
        body, values = self._body, self._values
        added = [(key, value) for key, value in self._changes.items() if key not in values]
        removed = [key for key in self._removed if key in values]
        if removed:
            body = self._without(removed)
        elif len(added) < len(self._changes):
            body = self._replaced()
        if not added:
            return body
        return _append(body, added, empty=len(removed) == len(values))

    def _walk(self, wanted: Container[str]) -> list[_Member]:
        """The members whose keys are `wanted`, in order."""
        if self._members is None:
            found = _walk_values(self._body, self._values, wanted)
            if found is not None:
                return found
            self._members = _walk_brackets(self._body)
        return [found for found in self._members if found[0] in wanted]

    def _replaced(self) -> bytes:
        body, changes = self._body, self._changes
        pieces: list[bytes] = []
        done = 0
        for key, start, end in self._walk(changes):
            pieces += (body[done:start], changes[key])
            done = end
        pieces.append(body[done:])
        return b"".join(pieces)

    def _without(self, removed: Collection[str]) -> bytes:
        """As `_replaced`, less the members `removed`: what lies between two commas goes or stays as a whole."""
        body, changes, members = self._body, self._changes, self._walk(self._values)
        kept: list[bytes] = []
        # The comma after a member is the only one before the next member's key.
        commas = [body.index(b",", end) for _, _, end in members[:-1]]
        begin = body.index(b"{") + 1
        for (key, start, end), stop in zip(members, (*commas, body.rindex(b"}")), strict=True):
            if key not in removed:
                kept.append(b"".join((body[begin:start], changes.get(key, body[start:end]), body[end:stop])))
            begin = stop + 1
        return b"".join((body[: body.index(b"{") + 1], b",".join(kept), body[body.rindex(b"}") :]))


def splice(body: bytes, changes: Mapping[str, bytes], remove: Collection[str] = ()) -> bytes:
    """`body` with its members `changes` set to the given JSON values and those of `remove` gone. See `Splicer`."""
    splicer = Splicer(body)
    for key in remove:
        splicer.remove(key)
    for key, value in changes.items():
        splicer.set(key, value)
    return splicer.render()


def splice_nested(body: bytes, path: tuple[str, ...], value: bytes) -> bytes:
    """`body` with the member at `path` set to `value`. See `Splicer.set_nested`."""
    splicer = Splicer(body)
    splicer.set_nested(path, value)
    return splicer.render()


def merge_defaults(body: bytes, extra: Mapping[str, bytes]) -> bytes:
    """`body` with those members of `extra` that it does not have itself. Nothing inside a member is merged."""
    splicer = Splicer(body)
    for key, value in extra.items():
        splicer.set_default(key, value)
    return splicer.render()


def member(body: bytes, key: str) -> bytes | None:
    """The value of member `key` as it was written, None without one; of several the last."""
    return Splicer(body).get(key)


@lru_cache(maxsize=256)
def _key_text(key: str) -> bytes:
    return json.dumps(key).encode() + b":"


def _append(body: bytes, members: Collection[tuple[str, bytes]], *, empty: bool) -> bytes:
    """`body` with `members` before its closing brace, and before the white space that precedes that."""
    text = b",".join([_key_text(key) + value for key, value in members])
    last = len(body[: body.rindex(b"}")].rstrip(_BLANK))
    return b"".join((body[:last], b"" if empty else b",", text, body[last:]))


def _walk_values(
    body: bytes, values: Mapping[str, msgspec.Raw | bytes], wanted: Container[str]
) -> list[_Member] | None:
    """The `wanted` members, by the lengths of `values`; None where those do not lead to the closing brace.

    The keys need no look: `values` has them in the order in which they first occur, and as many members as keys means
    that none occurs twice.
    """
    members: list[_Member] = []
    match = _NEXT.match
    at = 0
    for key, value in values.items():
        name = match(body, at)
        if name is None:
            return None
        start = name.end()
        text = bytes(value)
        if not body.startswith(text, start):
            return None
        at = start + len(text)
        if key in wanted:
            members.append((key, start, at))
    return members if _CLOSE.match(body, at) else None


def _walk_brackets(body: bytes) -> list[_Member]:
    """The members in order, duplicates included. Counts brackets, so depth costs nothing but time."""
    members: list[_Member] = []
    at = _opened(body)
    comma = False
    while comma or not _CLOSE.match(body, at):
        name = _MEMBER.match(body, at)
        if name is None:
            raise _not_an_object()
        start = name.end()
        end = _value_end(body, start)
        members.append((_name(name[1]), start, end))
        between = _BETWEEN.match(body, end)
        comma = between is not None and between[1] == b","
        at = end if between is None else between.end()
        if not comma and not _CLOSE.match(body, at):
            raise _not_an_object()
    return members


def _opened(body: bytes) -> int:
    opening = _OPEN.match(body)
    if opening is None:
        raise _not_an_object()
    return opening.end()


def _name(text: bytes) -> str:
    if b"\\" in text:
        return str(json.loads(text, strict=False))
    return text[1:-1].decode("utf-8", "surrogatepass")


def _value_end(body: bytes, at: int) -> int:
    if body[at : at + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(body, at)
        if scalar is None:
            raise _not_an_object()
        return scalar.end()
    depth, at = 1, at + 1
    while depth:
        bracket = _TO_BRACKET.match(body, at)
        if bracket is None:
            raise _not_an_object()
        at = bracket.end()
        depth += 1 if body[at - 1] in _OPENING else -1
    return at


def _not_an_object() -> ValueError:
    return ValueError("the body is not a JSON object")
