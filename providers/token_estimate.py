"""About how many tokens a prompt has, for providers that cannot count them.

Four characters a token, as everywhere in infermux where nobody says better; pictures and documents by what Anthropic
says they come to (https://platform.claude.com/docs/en/build-with-claude/vision and .../pdf-support), as their bytes
say nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from .dialects.neutral import (
    Base64,
    Conversation,
    Document,
    Image,
    Part,
    PlainText,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

CHARACTERS_PER_TOKEN: Final = 4
IMAGE_TOKENS: Final = 1600
"""Of an image of the largest size that is not scaled down."""

PAGE_TOKENS: Final = 2500
PAGE_CHARACTERS: Final = 100_000
"""Of base64, that a page of a PDF takes: a guess."""

_TURN: Final = 3  # what a turn, a tool or its use is wrapped in


def estimated_tokens(conversation: Conversation) -> int:
    """Tokens of the prompt of `conversation`; at least 1."""
    characters = sum(len(part.text) for part in conversation.system)
    tokens = 0
    for tool in conversation.tools:
        characters += _of_tool(tool)
        tokens += _TURN
    for turn in conversation.turns:
        tokens += _TURN + _of_parts(turn.parts)
    return max(tokens + characters // CHARACTERS_PER_TOKEN, 1)


def _of_tool(tool: Tool) -> int:
    schema = len(msgspec.json.encode(tool.schema)) if tool.schema is not None else 0
    return len(tool.name) + len(tool.description or "") + schema


def _of_parts(parts: Iterable[Part]) -> int:
    characters = tokens = 0
    for part in parts:
        match part:
            case Text() | Thinking() | Refusal():
                characters += len(part.text)
            case ToolCall():
                characters += len(part.name) + len(part.arguments)
                tokens += _TURN
            case ToolResult():
                tokens += _TURN + _of_parts(part.parts)
            case Image():
                tokens += IMAGE_TOKENS
            case Document():
                tokens += _of_document(part)
            case RedactedThinking():
                characters += len(part.data)
    return tokens + -(-characters // CHARACTERS_PER_TOKEN)


def _of_document(document: Document) -> int:
    said = len(document.title or "") + len(document.context or "")
    match document.source:
        case PlainText(text=text):
            return (said + len(text)) // CHARACTERS_PER_TOKEN
        case Base64(data=data):
            return said // CHARACTERS_PER_TOKEN + PAGE_TOKENS * -(-len(data) // PAGE_CHARACTERS)
        case _:
            return said // CHARACTERS_PER_TOKEN + PAGE_TOKENS
