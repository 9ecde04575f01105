"""Thinking that another API signed, in the input of a response that goes to a provider of OpenAI's own API.

A conversation that moves from a provider it was translated for to one that speaks responses itself brings along the
reasoning items we wrote for the first one: their `encrypted_content` is our seal around what the other API signed
(`dialects.openai_responses_shapes`). OpenAI refuses encrypted content that it did not encrypt. Those items are cut out;
every other byte stays. Pure.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .dialects.openai_responses_shapes import REDACTED, SIGNED
from .splice import member, splice

LOST: Final = "input.encrypted_content"
"""What a caller is told was dropped: as for any provider that cannot read what is sealed."""

_MARK: Final = b'"infermux:'  # both seals begin with it, and a model's text cannot write an unescaped quote


class _Item(msgspec.Struct):
    type: Any = None
    encrypted_content: Any = None


_lists: Final = msgspec.json.Decoder(list[msgspec.Raw])
_items: Final = msgspec.json.Decoder(_Item)


def without_sealed_items(body: bytes) -> bytes:
    """`body`, of a request for a response, without our own sealed items; `body` itself where it has none."""
    if _MARK not in body:
        return body
    try:
        given = member(body, "input")
        items = None if given is None else _lists.decode(given)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return body  # what is wrong with it is the provider's to say
    if given is None or not items:
        return body
    kept = _without(given, [bytes(item) for item in items])
    return body if kept is given else splice(body, {"input": kept})


def _without(given: bytes, items: list[bytes]) -> bytes:
    """The list `given` without those of its `items` that are sealed; what lies between two commas goes or stays."""
    sealed = [_is_sealed(item) for item in items]
    if not any(sealed):
        return given
    pieces: list[bytes] = []
    begin = given.index(b"[") + 1
    last = given.rindex(b"]")
    for number, item in enumerate(items):
        end = given.index(item, begin) + len(item)
        stop = last if number == len(items) - 1 else given.index(b",", end)
        if not sealed[number]:
            pieces.append(given[begin:stop])
        begin = stop + 1
    return b"[" + b",".join(pieces) + b"]"


def _is_sealed(item: bytes) -> bool:
    if _MARK not in item:
        return False
    try:
        found = _items.decode(item)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    content: object = found.encrypted_content
    return found.type == "reasoning" and isinstance(content, str) and content.startswith((SIGNED, REDACTED))
