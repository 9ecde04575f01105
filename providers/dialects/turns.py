"""The canonical form of turns, and what holds for them whatever the dialects are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

import attrs
import msgspec

from infermux.errors import InvalidRequest

from .neutral import Base64, Image, Part, Role, Text, ToolCall, ToolResult, Turn, Url

_DATA_URL: Final = re.compile(r"data:([^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)


class TurnList:
    """Collects turns in canonical form: same roles merged, a user turn's tool results first."""

    __slots__ = ("_roles", "_turns")

    def __init__(self) -> None:
        self._roles: list[Role] = []
        self._turns: list[list[Part]] = []

    def add(self, role: Role, parts: Iterable[Part]) -> None:
        if self._roles and self._roles[-1] is role:
            self._turns[-1].extend(parts)
        else:
            self._roles.append(role)
            self._turns.append(list(parts))

    def __bool__(self) -> bool:
        return bool(self._roles)

    def turns(self) -> tuple[Turn, ...]:
        return tuple(
            Turn(role=role, parts=_results_first(parts) if role is Role.USER else tuple(parts))
            for role, parts in zip(self._roles, self._turns, strict=True)
        )


def _results_first(parts: list[Part]) -> tuple[Part, ...]:
    results = [part for part in parts if isinstance(part, ToolResult)]
    if not results:
        return tuple(parts)
    return (*results, *(part for part in parts if not isinstance(part, ToolResult)))


def check_tool_results(turns: Iterable[Turn]) -> None:
    """Every tool call is answered in the user turn that follows it, and every result answers a call.

    No two calls of a turn have the same id: their results could not be told apart. Raises InvalidRequest naming the
    id: every provider refuses such a conversation, in words that do not help.
    """
    waiting: dict[str, None] = {}
    for turn in turns:
        if turn.role is Role.SYSTEM:
            continue
        for part in turn.parts:
            if isinstance(part, ToolResult):
                if part.call_id not in waiting:
                    raise _refused(part.call_id, "a tool result answers no tool call of the turn before it")
                del waiting[part.call_id]
        _none_waits(waiting)
        for part in turn.parts:
            if isinstance(part, ToolCall):
                if part.id in waiting:
                    raise _refused(part.id, "two tool calls of one turn have the same id")
                waiting[part.id] = None
    _none_waits(waiting)


def _none_waits(waiting: Mapping[str, None]) -> None:
    for call_id in waiting:
        raise _refused(call_id, "a tool call has no result in the turn after it")


def _refused(call_id: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"messages: {what}: {call_id[:128]!r}", param="messages")


def read_url(url: str) -> Url | Base64:
    """An address, or the bytes of a base64 data URL (RFC 2397)."""
    found = _DATA_URL.match(url)
    if found is None:
        return Url(url=url)
    return Base64(data=url[found.end() :], media_type=found[1].lower() or "text/plain")


def write_url(source: Url | Base64) -> str:
    """The reverse of `read_url`."""
    return source.url if isinstance(source, Url) else f"data:{source.media_type};base64,{source.data}"


def arguments_object(text: str) -> tuple[dict[str, object], bool]:
    """The arguments of a tool call as an object, and whether they were one.

    Nothing at all and `null` are `{}`. Text that is no JSON object, which models do write, is kept under `arguments`.
    """
    if not text or text.isspace():
        return {}, True
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {"arguments": text}, False
    if isinstance(value, dict):
        return cast("dict[str, object]", value), True
    return ({}, True) if value is None else ({"arguments": value}, False)


def image_urls(turns: Iterable[Turn]) -> Iterator[str]:
    """The addresses of the images a provider would have to fetch, those in tool results included."""
    for turn in turns:
        for part in turn.parts:
            for image in part.parts if isinstance(part, ToolResult) else (part,):
                if isinstance(image, Image) and isinstance(image.source, Url):
                    yield image.source.url


def with_images(turns: Iterable[Turn], fetched: Mapping[str, Base64]) -> tuple[Turn, ...]:
    """`turns` with the images of `fetched` in place of their addresses."""
    return tuple(attrs.evolve(turn, parts=tuple(_fetched(part, fetched) for part in turn.parts)) for turn in turns)


def _fetched(part: Part, fetched: Mapping[str, Base64]) -> Part:
    if isinstance(part, ToolResult):
        parts = tuple(cast("Text | Image", _fetched(inner, fetched)) for inner in part.parts)
        return attrs.evolve(part, parts=parts)
    if isinstance(part, Image) and isinstance(part.source, Url) and part.source.url in fetched:
        return attrs.evolve(part, source=fetched[part.source.url])
    return part
