"""Content blocks of Bedrock's Converse API, written: those of requests, and those that answers share with them.

Shapes: see `bedrock_converse_shapes`. A cache mark is a block of its own, behind what it marks.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from infermux.errors import NotCarried

from .bedrock_converse_models import Traits
from .bedrock_converse_shapes import DOCUMENT_FORMATS, IMAGE_FORMATS, write_citation
from .neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    FileId,
    Image,
    Part,
    PlainText,
    RedactedThinking,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from .report import Loss
from .turns import TurnList, arguments_object

Json = dict[str, Any]

FIRST_TURN: Final = "."
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9\s()\[\]-]+")
_SPACES: Final = re.compile(r"\s+")
_LONGEST_NAME: Final = 200
_TTLS: Final = frozenset({"5m", "1h"})


class Blocks:
    """Writes the blocks of one request, or one answer, for a model of these `traits`. Losses go to `loss`.

    Raises NotCarried for an image or a document that cannot be sent: without it another question would be asked.
    """

    __slots__ = ("_loss", "_names", "_traits")

    def __init__(self, traits: Traits, loss: Loss) -> None:
        self._traits = traits
        self._loss = loss
        self._names: set[str] = set()

    def turns(self, conversation: Conversation) -> list[Json]:
        """The messages: system turns in place as the user's, empty ones left out, the first one the user's."""
        turns = TurnList()
        for turn in conversation.turns:
            role = turn.role
            if role is Role.SYSTEM:
                self._loss.change("messages.system", "as user")
                role = Role.USER
            parts = [part for part in turn.parts if not (isinstance(part, Text) and not part.text.strip())]
            if parts:
                turns.add(role, parts)
        messages: list[Json] = []
        for turn in turns.turns():
            content = self.blocks(turn.parts)
            if content and not messages and turn.role is Role.ASSISTANT:
                self._put_first(messages)
            if content:
                messages.append({"role": turn.role.value, "content": content})
        if not messages:
            self._put_first(messages)
        if conversation.cache_control is not None:
            messages[-1]["content"] += self.mark(conversation.cache_control)
        return messages

    def _put_first(self, messages: list[Json]) -> None:
        """Bedrock's conversations start with a user's turn."""
        self._loss.change("messages", "user turn put first")
        messages.append({"role": "user", "content": [{"text": FIRST_TURN}]})

    def blocks(self, parts: Iterable[Part]) -> list[Json]:
        """The blocks of `parts`; blank texts, which the API refuses, are none, and what marks them marks what is
        before."""
        found: list[Json] = []
        for part in parts:
            found += self._block(part)
            mark = getattr(part, "cache_control", None)
            if mark is not None and found and "cachePoint" not in found[-1]:
                found += self.mark(mark)
        return found

    def mark(self, mark: CacheControl, *, tool: bool = False) -> Iterator[Json]:
        """The cache point, where the model has them."""
        if not (self._traits.caches_tools if tool else self._traits.caches):
            self._loss.drop("cache_control")
            return
        point = {"type": "default"}
        if mark.ttl is not None:
            if mark.ttl in _TTLS:
                point["ttl"] = mark.ttl
            else:
                self._loss.drop("cache_control.ttl")
        yield {"cachePoint": point}

    def _block(self, part: Part) -> Iterator[Json]:
        match part:
            case Text():
                yield from _text(part)
            case Image():
                yield self._image(part)
            case Document():
                yield self._document(part)
            case ToolCall():
                yield self._tool_use(part)
            case ToolResult():
                yield self._tool_result(part)
            case Thinking() | RedactedThinking():
                yield from self._thinking(part)
            case Refusal():
                self._loss.change("refusal", "as text")
                yield from _text(Text(text=part.text))

    def _thinking(self, part: Thinking | RedactedThinking) -> Iterator[Json]:
        if not self._traits.takes_signed_thinking or (isinstance(part, Thinking) and part.signature is None):
            self._loss.drop("thinking")  # it cannot be verified, and is refused
        else:
            yield {"reasoningContent": reasoning(part)}

    def _image(self, part: Image) -> Json:
        if part.detail is not None:
            self._loss.drop("image.detail")
        match part.source:
            case Base64(data=data, media_type=kind):
                if kind not in IMAGE_FORMATS:
                    raise _refused(part, f"an image of type {kind[:64]!r}", "send PNG, JPEG, GIF or WebP")
                return {"image": {"format": IMAGE_FORMATS[kind], "source": {"bytes": data}}}
            case Url(url=url) if url.startswith("s3://"):
                kind = IMAGE_FORMATS.get(f"image/{_extension(url)}", "png")
                return {"image": {"format": kind, "source": {"s3Location": {"uri": url}}}}
            case Url():
                raise _refused(
                    part, "an image by its address", "send it as base64, or set fetch_images for this provider"
                )
            case FileId():
                raise _refused(part, "an image by a file id", "send it as base64")

    def _document(self, part: Document) -> Json:
        kind, source = _document_source(part)
        document: Json = {"format": kind, "name": self._name(part.title), "source": source}
        if part.context is not None:
            document["context"] = part.context
        if part.citations:
            document["citations"] = {"enabled": True}
        return {"document": document}

    def _name(self, title: str | None) -> str:
        """A document's name, in the letters the API takes; two of the same name it refuses."""
        name = title
        if title is not None:
            name = _SPACES.sub(" ", _NOT_IN_NAMES.sub("-", title)).strip()[:_LONGEST_NAME]
        name = base = name or f"document-{len(self._names) + 1}"
        number = 1
        while name in self._names:
            number += 1
            name = f"{base[: _LONGEST_NAME - 12]} ({number})"
        if title is not None and name != title:
            self._loss.change("document.title", "rewritten")
        self._names.add(name)
        return name

    def _tool_use(self, call: ToolCall) -> Json:
        known = True
        if call.freeform:
            arguments: Json = {"input": call.arguments}
        else:
            arguments, known = arguments_object(call.arguments)
        if not known:
            self._loss.change("tool_calls.arguments", "wrapped")
        return {"toolUse": {"toolUseId": self._id(call.id), "name": call.name, "input": arguments}}

    def _tool_result(self, part: ToolResult) -> Json:
        inner = [Text(text=found.text) if isinstance(found, Text) else found for found in part.parts]
        if any(found.cache_control is not None for found in part.parts):
            self._loss.drop("tool_result.content.cache_control")
        content = [block for found in inner for block in self._block(found)]
        for block in content:
            block.pop("cachePoint", None)
        result: Json = {"toolUseId": self._id(part.call_id), "content": content}
        if part.is_error:
            result["status"] = "error"
        return {"toolResult": result}

    def _id(self, call_id: str) -> str:
        """The id, or one made of it where it has letters the API refuses or is too long: the same every time."""
        if _ID.fullmatch(call_id):
            return call_id
        self._loss.change("tool_calls.id", "rewritten")
        return "call_" + hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:32]


def _text(part: Text) -> Iterator[Json]:
    if part.citations:
        cited = [write_citation(citation) for citation in part.citations]
        yield {"citationsContent": {"content": [{"text": part.text}], "citations": cited}}
    elif part.text.strip():
        yield {"text": part.text}


def reasoning(part: Thinking | RedactedThinking) -> Json:
    """A `ReasoningContentBlock`."""
    if isinstance(part, RedactedThinking):
        return {"redactedContent": part.data}
    text: Json = {"text": part.text}
    if part.signature is not None:
        text["signature"] = part.signature
    return {"reasoningText": text}


def _document_source(part: Document) -> tuple[str, Json]:
    match part.source:
        case Base64(data=data, media_type=kind):
            if kind not in DOCUMENT_FORMATS:
                raise _refused(part, f"a document of type {kind[:64]!r}", f"send one of {', '.join(DOCUMENT_FORMATS)}")
            return DOCUMENT_FORMATS[kind], {"bytes": data}
        case PlainText(text=text):
            return "txt", {"bytes": base64.b64encode(text.encode("utf-8", "replace")).decode()}
        case Url(url=url) if url.startswith("s3://"):
            kind = _extension(url)
            return (kind if kind in DOCUMENT_FORMATS.values() else "pdf"), {"s3Location": {"uri": url}}
        case Url():
            raise _refused(part, "a document by its address", "send it as base64")
        case FileId():
            raise _refused(part, "a document by a file id", "send it as base64")


def _extension(url: str) -> str:
    return url.rpartition("/")[2].rpartition(".")[2].lower()


def _refused(part: Image | Document, what: str, instead: str) -> NotCarried:
    at = part.at or "messages"
    return NotCarried(f"{at}: Bedrock cannot take {what}; {instead}", param=at)
