"""Requests in the words of Infinity's line protocol, written.

Shapes: the crate `infinity-provider-protocol` of https://github.com/hydro-project/infinity (`message.rs`,
`completion.rs`) and rig's `completion::CompletionRequest` and `message` that it began with. Its later versions have
fewer members (no `documents`, `temperature`, `tool_choice`, `output_schema`) and ignore the others, so that one request
serves both; what only the earlier ones read is never the only place of anything that the model must see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from infermux.errors import NotCarried

from .dialect import Target, Written
from .neutral import (
    Base64,
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
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
)
from .report import Loss
from .turns import arguments_object

Json = dict[str, Any]

MEDIA_TYPES: Final = {
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/svg+xml": "svg",
}
_ORDINARY_TIERS: Final = (None, "auto", "default")
_NO_ARGUMENTS: Final[Json] = {"type": "object", "properties": {}}
_PARAMS: Final = "additional_params"
"""Of a caller that knows the provider: goes on as it is."""


def write_request(conversation: Conversation, target: Target) -> Written:
    """Drops what the protocol has no place for, and names it. Raises NotCarried for files that it cannot take."""
    loss = Loss(*conversation.lost)
    system = "\n\n".join(part.text for part in conversation.system)
    _name_marks(conversation, loss)
    body: Json = {
        "model": None,
        "preamble": system or None,
        "chat_history": list(_messages(conversation, loss)),
        "documents": [],
        "tools": [_tool(tool, loss) for tool in conversation.tools],
        "temperature": conversation.temperature,
        "max_tokens": _max_tokens(conversation, target, loss),
        "tool_choice": _choice(conversation.tool_choice),
        "additional_params": _params(conversation, loss),
        "output_schema": _schema(conversation),
    }
    _others(conversation, loss)
    return Written(body=msgspec.json.encode(body), loss=loss)


def _messages(conversation: Conversation, loss: Loss) -> Iterator[Json]:
    for turn in conversation.turns:
        match turn.role:
            case Role.ASSISTANT:
                content = [item for part in turn.parts for item in _of_assistant(part)]
                yield {"role": "assistant", "id": None, "content": content or [{"text": ""}]}
            case Role.SYSTEM:
                loss.change("messages", "system as user")
                yield _user(turn, loss)
            case Role.USER:
                yield _user(turn, loss)


def _user(turn: Turn, loss: Loss) -> Json:
    content = [_of_user(part, loss) for part in turn.parts]
    return {"role": "user", "content": content or [{"type": "text", "text": ""}]}


def _of_user(part: Part, loss: Loss) -> Json:
    match part:
        case ToolResult():
            if part.is_error:
                loss.drop("tool_result.is_error")
            content = [_of_user(inner, loss) for inner in part.parts]
            return {"type": "toolresult", "id": part.call_id, "content": content or [{"type": "text", "text": ""}]}
        case Image():
            return _image(part)
        case Document():
            return {"type": "text", "text": _document(part, loss)}
        case Text(text=text) | Refusal(text=text):
            return {"type": "text", "text": text}
        case _:
            return {"type": "text", "text": ""}


def _image(image: Image) -> Json:
    source = image.source
    if isinstance(source, FileId):
        raise _refused(image.at, "a file that was uploaded to another provider")
    if not isinstance(source, Base64):
        return {"type": "image", "data": {"type": "url", "value": source.url}}
    media_type = MEDIA_TYPES.get(source.media_type)
    if media_type is None:
        raise _refused(image.at, f"an image of type {source.media_type!r}")
    return {"type": "image", "data": {"type": "base64", "value": source.data}, "media_type": media_type}


def _document(document: Document, loss: Loss) -> str:
    """Its text, as part of the turn it stands in."""
    if not isinstance(document.source, PlainText):
        raise _refused(document.at, "a document that is no plain text")
    loss.change("messages.content", "documents as text")
    title = f"{document.title}\n" if document.title else ""
    about = f"{document.context}\n" if document.context else ""
    return f"<document>\n{title}{about}{document.source.text}\n</document>"


def _refused(at: str, what: str) -> NotCarried:
    return NotCarried(f"{at or 'messages'}: the provider cannot be given {what}", param=at or "messages")


def _of_assistant(part: Part) -> Iterator[Json]:
    match part:
        case Text(text=text) | Refusal(text=text):
            if text:
                yield {"text": text}
        case ToolCall():
            function = {"name": part.name, "arguments": arguments_object(part.arguments)[0]}
            yield {"id": part.id, "call_id": None, "function": function, "signature": None, "additional_params": None}
        case Thinking():
            said: Json = {"text": part.text}
            if part.signature is not None:
                said["signature"] = part.signature
            yield {"id": None, "content": [{"type": "text", "content": said}]}
        case RedactedThinking():
            yield {"id": None, "content": [{"type": "redacted", "content": {"data": part.data}}]}
        case _:
            return


def _tool(tool: Tool, loss: Loss) -> Json:
    if tool.strict:
        loss.drop("tools.strict")
    schema = _NO_ARGUMENTS if tool.schema is None else tool.schema
    return {"name": tool.name, "description": tool.description or "", "parameters": schema}


def _choice(choice: ToolChoice | None) -> object:
    """rig's `message::ToolChoice`."""
    if choice is None:
        return None
    if choice.mode is ToolMode.NAMED:
        return {"specific": {"function_names": [choice.name]}}
    return choice.mode.value


def _max_tokens(conversation: Conversation, target: Target, loss: Loss) -> int | None:
    bound = conversation.max_tokens
    if bound is not None and target.max_tokens is not None and bound > target.max_tokens:
        loss.clamp("max_tokens")
        return target.max_tokens
    return bound


def _params(conversation: Conversation, loss: Loss) -> object:
    params: object = None
    for name, value in conversation.extras.items():
        if name == _PARAMS and isinstance(value, dict):
            params = cast("Json", value)
        else:
            loss.drop(name)
    return params


def _schema(conversation: Conversation) -> object:
    form = conversation.format
    if form is None:
        return None
    return {"type": "object"} if form.schema is None else form.schema


def _others(conversation: Conversation, loss: Loss) -> None:
    """What is only named."""
    absent = {
        "stop": conversation.stop,
        "top_p": conversation.top_p is not None,
        "top_k": conversation.top_k is not None,
        "reasoning": conversation.reasoning,
        "user": conversation.user,
        "metadata": conversation.metadata,
        "parallel_tool_calls": conversation.parallel_tool_calls is False,
        "service_tier": conversation.service_tier not in _ORDINARY_TIERS,
    }
    for name, given in absent.items():
        if given:
            loss.drop(name)


def _name_marks(conversation: Conversation, loss: Loss) -> None:
    marked = (*conversation.system, *conversation.tools, *(part for turn in conversation.turns for part in turn.parts))
    if conversation.cache_control or any(getattr(part, "cache_control", None) for part in marked):
        loss.drop("cache_control")
