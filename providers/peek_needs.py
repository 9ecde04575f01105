"""What a request asks of a model beside text: images, tools. Read only where some model is known to take none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from .interface import Endpoint

_WORDS: Final = {
    Endpoint.CHAT: frozenset({"image_url"}),
    Endpoint.RESPONSES: frozenset({"input_image", "computer_screenshot"}),
    Endpoint.MESSAGES: frozenset({"image"}),
    Endpoint.COUNT_TOKENS: frozenset({"image"}),
}
"""The `type` of the parts that are images (`openai.types.chat.ChatCompletionContentPartImageParam`,
`openai.types.responses.ResponseInputImage`, `anthropic.types.ImageBlockParam`)."""


class _Body(msgspec.Struct):
    messages: Any = None
    input: Any = None


class _Tools(msgspec.Struct):
    tools: list[msgspec.Raw] | None = None


_bodies: Final = msgspec.json.Decoder(_Body)
_tools: Final = msgspec.json.Decoder(_Tools)
_NO_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def has_images(endpoint: Endpoint, body: bytes) -> bool:
    """Whether a conversation has images in it, those in results of tools included."""
    words = _WORDS.get(endpoint, frozenset())
    if not any(b'"%b"' % word.encode() in body for word in words):
        return False  # inside a string the quotes would be escaped
    try:
        found = _bodies.decode(body)
    except _NO_JSON:
        return False
    return any(part.get("type") in words for part in _objects((found.messages, found.input)))


def has_tools(body: bytes) -> bool:
    """Whether the model is given tools that it may call."""
    if b'"tools"' not in body:
        return False
    try:
        return bool(_tools.decode(body).tools)
    except _NO_JSON:
        return False


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every object in `value`, whatever it is in. What a call of a tool is given is a model's own words, not a part."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            fields = cast("dict[str, Any]", item)
            yield fields
            waiting += [inner for name, inner in fields.items() if name in _HOLDERS]
        elif isinstance(item, list | tuple):
            waiting += cast("list[object]", item)


_HOLDERS: Final = frozenset({"content", "output", "source"})
