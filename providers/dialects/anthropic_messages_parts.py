"""Content blocks of Anthropic's messages, written: those of requests, and those that answers share with them.

Shapes: `anthropic.types.*_block_param` and `anthropic.types.text_citation`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .anthropic_messages_read import NAME
from .neutral import (
    Base64,
    CacheControl,
    Citation,
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

_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")
FIRST_TURN: Final = "."
_ENDS: Final = {"char": "char_index", "page": "page_number", "block": "block_index"}
_LOCATIONS: Final = {"char": "char_location", "page": "page_location", "block": "content_block_location"}


def write_turns(conversation: Conversation, loss: Loss) -> list[Json]:
    """The messages: system turns in place as the user's, empty ones left out, the first one the user's."""
    turns = TurnList()
    for turn in conversation.turns:
        parts = [part for part in turn.parts if not (isinstance(part, Text) and not part.text)]
        role = turn.role
        if role is Role.SYSTEM:
            loss.change("messages.system", "as user")
            role = Role.USER
        if parts:
            turns.add(role, parts)
    messages: list[Json] = []
    for turn in turns.turns():
        content = blocks(turn.parts, loss)
        if not content:
            continue
        if not messages and turn.role is Role.ASSISTANT:
            loss.change("messages", "user turn put first")
            messages.append({"role": "user", "content": FIRST_TURN})
        plain = len(content) == 1 and set(content[0]) == {"type", "text"}
        messages.append({"role": turn.role.value, "content": content[0]["text"] if plain else content})
    if not messages:
        loss.change("messages", "user turn put first")
        messages.append({"role": "user", "content": FIRST_TURN})
    _trim_prefill(messages, loss)
    return messages


def _trim_prefill(messages: list[Json], loss: Loss) -> None:
    """An answer begun by the caller must not end in white space: the API refuses it."""
    last = messages[-1]
    if last["role"] != "assistant" or not isinstance(last["content"], str):
        return
    trimmed = last["content"].rstrip()
    if trimmed != last["content"]:
        loss.change("messages", "trailing space cut")
        last["content"] = trimmed or FIRST_TURN


def blocks(parts: Iterable[Part], loss: Loss) -> list[Json]:
    """The content blocks of `parts`; empty texts, which the API refuses, are none."""
    return [block for part in parts for block in _blocks(part, loss)]


def _blocks(part: Part, loss: Loss) -> Iterator[Json]:
    match part:
        case Text():
            if part.text:
                yield marked(text_block(part), part.cache_control)
        case Image():
            if part.detail is not None:
                loss.drop("image.detail")
            source = _source(part.source, "image", loss)
            if source is not None:
                yield marked({"type": "image", "source": source}, part.cache_control)
        case Document():
            yield from _document(part, loss)
        case ToolCall():
            yield marked(_tool_use(part, loss), part.cache_control)
        case ToolResult():
            yield _tool_result(part, loss)
        case Thinking():
            if part.signature is None:
                loss.drop("thinking")  # the API refuses thinking it cannot verify
            else:
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case RedactedThinking():
            yield {"type": "redacted_thinking", "data": part.data}
        case Refusal():
            loss.change("refusal", "as text")
            if part.text:
                yield {"type": "text", "text": part.text}


def marked(block: Json, mark: CacheControl | None) -> Json:
    if mark is not None:
        block["cache_control"] = {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}
    return block


def text_block(part: Text) -> Json:
    block: Json = {"type": "text", "text": part.text}
    citations = [found for citation in part.citations if (found := write_citation(citation)) is not None]
    if citations:
        block["citations"] = citations
    return block


def write_citation(citation: Citation) -> Json | None:
    """None for one that is neither a page of the web nor a place in a document."""
    if citation.unit is not None:
        end = _ENDS[citation.unit]
        return {
            "type": _LOCATIONS[citation.unit],
            "cited_text": citation.cited_text,
            "document_index": citation.document_index or 0,
            "document_title": citation.title,
            f"start_{end}": citation.start or 0,
            f"end_{end}": citation.end or 0,
        }
    if citation.url is None:
        return None
    return {
        "type": "web_search_result_location",
        "cited_text": citation.cited_text,
        "url": citation.url,
        "title": citation.title,
        "encrypted_index": citation.encrypted_index or "",
    }


def _source(source: Url | Base64 | PlainText | FileId, what: str, loss: Loss) -> Json | None:
    match source:
        case Url(url=url):
            return {"type": "url", "url": url}
        case Base64():
            return {"type": "base64", "media_type": source.media_type, "data": source.data}
        case PlainText(text=text):
            return {"type": "text", "media_type": "text/plain", "data": text}
        case FileId():
            if source.dialect == NAME:
                return {"type": "file", "file_id": source.id}
            loss.drop(f"{what}.file_id")
            return None


def _document(part: Document, loss: Loss) -> Iterator[Json]:
    given = part.source
    if isinstance(given, Base64) and given.media_type != "application/pdf":
        text = _decoded(given)
        if text is None:
            loss.drop(f"document.{given.media_type.replace('/', '.')}")
            return
        given = PlainText(text=text)
    source = _source(given, "document", loss)
    if source is None:
        return
    block: Json = {"type": "document", "source": source}
    if part.title is not None:
        block["title"] = part.title
    if part.context is not None:
        block["context"] = part.context
    if part.citations:
        block["citations"] = {"enabled": True}
    yield marked(block, part.cache_control)


def _decoded(source: Base64) -> str | None:
    """The text of a file that is text by its media type; the API takes no other than that and PDF."""
    if not source.media_type.startswith("text/") and source.media_type != "application/json":
        return None
    try:
        return base64.b64decode(source.data).decode()
    except (binascii.Error, ValueError):
        return None


def _tool_use(call: ToolCall, loss: Loss) -> Json:
    arguments: dict[str, object] = {"input": call.arguments}
    if not call.freeform:
        arguments, known = arguments_object(call.arguments)
        if not known:
            loss.change("tool_calls.arguments", "wrapped")
    return {"type": "tool_use", "id": _id(call.id, loss), "name": call.name, "input": arguments}


def _id(call_id: str, loss: Loss) -> str:
    """The id, or one made of it where it has letters the API refuses: the same every time, and no other's."""
    if call_id and not _NOT_IN_IDS.search(call_id):
        return call_id
    loss.change("tool_calls.id", "rewritten")
    return "toolu_" + hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:24]


def _tool_result(part: ToolResult, loss: Loss) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": _id(part.call_id, loss)}
    content = blocks(part.parts, loss)
    if content:
        plain = len(content) == 1 and set(content[0]) == {"type", "text"}
        block["content"] = content[0]["text"] if plain else content
    if part.is_error:
        block["is_error"] = True
    return marked(block, part.cache_control)
