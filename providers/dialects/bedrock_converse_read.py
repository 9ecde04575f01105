"""Converse requests and content blocks, read. Shapes: see `bedrock_converse_shapes`.

The model stands in the request's path, and so does whether it streams: neither is in a body. Content blocks are the
same in requests and answers, so both are read here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import attrs
import msgspec

from infermux.errors import InvalidRequest

from .bedrock_converse_shapes import DOCUMENT_TYPES, IMAGE_TYPES, read_cache_point, read_citation
from .dialect import decode_request
from .fields import Fields, generic, missing, unknown_value
from .neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    Image,
    JsonFormat,
    Part,
    PlainText,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Url,
)
from .turns import TurnList

_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_UNNAMED: Final = re.compile(r"document-\d+\Z")
_SKIPPED: Final = frozenset({"server_tool_use"})


def read_request(body: bytes) -> Conversation:
    """Raises InvalidRequest. `model` is "" and `stream` False: the path says both."""
    fields = Fields(decode_request(body))
    lost: list[str] = []
    turns = TurnList()
    for message in fields.objects("messages"):
        role = message.need_text("role")
        if role not in _ROLES:
            unknown_value(message.at("role"), role, "user, assistant, system")
        turns.add(_ROLES[role], read_blocks(message.objects("content"), lost))
        lost += message.lost()
    if not turns:
        missing("messages")
    config = fields.child("inferenceConfig") or Fields({}, "inferenceConfig")
    tools, choice = _tool_config(fields.child("toolConfig"), lost)
    format_, effort = _output_config(fields.child("outputConfig"), lost)
    more = dict(fields.mapping("additionalModelRequestFields") or {})
    metadata = {name: str(value) for name, value in (fields.mapping("requestMetadata") or {}).items()}
    tier = fields.child("serviceTier")
    conversation = Conversation(
        model="",
        system=tuple(_texts(read_blocks(fields.objects("system"), lost), lost)),
        turns=turns.turns(),
        tools=tools,
        tool_choice=choice,
        max_tokens=config.count("maxTokens"),
        stop=config.texts("stopSequences"),
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        top_k=_top_k(more),
        format=format_,
        reasoning=_reasoning(more, effort),
        include_usage=True,
        user=metadata.pop("user", None),
        metadata=metadata,
        service_tier=tier.need_text("type") if tier else None,
    )
    paths = fields.get("additionalModelResponseFieldPaths")
    if paths == ["/stop_sequence"]:
        paths = None  # which stop sequence was hit is always told
    rest = {"additionalModelRequestFields": more or None, "additionalModelResponseFieldPaths": paths, **fields.rest()}
    extras = {name: value for name, value in rest.items() if value is not None}
    lost += config.lost()
    return attrs.evolve(conversation, extras=extras, lost=tuple(dict.fromkeys(lost)))


def _texts(parts: Iterable[Part], lost: list[str]) -> Iterator[Text]:
    for part in parts:
        if isinstance(part, Text):
            yield part
        else:
            lost.append("system")


def _top_k(more: dict[str, object]) -> int | None:
    value = more.get("top_k")
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    del more["top_k"]
    return value


def _reasoning(more: dict[str, object], effort: str | None) -> Reasoning | None:
    """What the Claude models take as `thinking`, and the effort beside it."""
    try:
        thinking = msgspec.convert(more.get("thinking"), _Thinking | None)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"additionalModelRequestFields.thinking: {error}", param="additionalModelRequestFields"
        ) from None
    if thinking is None:
        return Reasoning(effort=effort) if effort else None
    del more["thinking"]
    mode = _MODES.get(thinking.type)
    if mode is None:
        unknown_value("additionalModelRequestFields.thinking.type", thinking.type, ", ".join(_MODES))
    return Reasoning(mode=mode, effort=effort, budget_tokens=thinking.budget_tokens, summary=thinking.display)


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


_MODES: Final = {
    "enabled": ReasoningMode.BUDGET,
    "adaptive": ReasoningMode.ADAPTIVE,
    "disabled": ReasoningMode.OFF,
}


def _tool_config(fields: Fields | None, lost: list[str]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    tools: list[Tool] = []
    if fields is None:
        return (), None
    for item in fields.objects("tools"):
        point, spec = item.child("cachePoint"), item.child("toolSpec")
        if point is not None:
            if tools:
                tools[-1] = attrs.evolve(tools[-1], cache_control=read_cache_point(point))
        elif spec is not None:
            schema = spec.need_child("inputSchema").mapping("json")
            name, description = spec.need_text("name"), spec.text("description")
            tools.append(Tool(name=name, description=description, schema=schema, strict=spec.boolean("strict")))
        else:
            lost += item.lost()
    return tuple(tools), _tool_choice(fields.child("toolChoice"))


def _tool_choice(fields: Fields | None) -> ToolChoice | None:
    if fields is None:
        return None
    named = fields.child("tool")
    if named is not None:
        return ToolChoice(mode=ToolMode.NAMED, name=named.need_text("name"))
    return ToolChoice(mode=ToolMode.REQUIRED if fields.child("any") is not None else ToolMode.AUTO)


def _output_config(fields: Fields | None, lost: list[str]) -> tuple[JsonFormat | None, str | None]:
    if fields is None:
        return None, None
    effort, form = fields.text("effort"), fields.child("textFormat")
    lost += fields.lost()
    if form is None:
        return None, effort
    given = form.need_child("structure").need_child("jsonSchema")
    text = given.need_text("schema")
    try:
        schema = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"{given.at('schema')}: {error}", param=given.at("schema")) from None
    return JsonFormat(schema=schema, name=given.text("name"), description=given.text("description")), effort


# Content blocks.
def read_blocks(blocks: Iterable[Fields], lost: list[str]) -> list[Part]:
    """The parts of a turn or an answer. A cache point marks the part before it. Raises InvalidRequest."""
    parts: list[Part] = []
    for fields in blocks:
        point = fields.child("cachePoint")
        if point is None:
            _read_block(fields, parts, lost)
        elif not _marked(parts, read_cache_point(point)):
            lost.append("cache_control")
    return parts


def _marked(parts: list[Part], mark: CacheControl) -> bool:
    last = parts[-1] if parts else None
    if not isinstance(last, Text | Image | Document | ToolCall | ToolResult):
        return False
    parts[-1] = attrs.evolve(last, cache_control=mark)
    return True


def _read_block(fields: Fields, parts: list[Part], lost: list[str]) -> None:
    text = fields.text("text")
    if text is not None:
        parts.append(Text(text=text))
        return
    for name, read in _BLOCKS.items():
        inner = fields.child(name)
        if inner is not None:
            found = read(inner, lost)
            if found is not None:
                parts.append(found)
            return
    lost += (f"{generic(fields.path)}.{name}" for name in fields.rest())


def _image(fields: Fields, lost: list[str]) -> Part | None:
    kind, source = fields.need_text("format"), fields.need_child("source")
    if kind not in IMAGE_TYPES:
        unknown_value(fields.at("format"), kind, ", ".join(IMAGE_TYPES))
    location = source.child("s3Location")
    if location is not None:
        return Image(source=Url(url=location.need_text("uri")))
    return Image(source=Base64(data=source.need_text("bytes"), media_type=IMAGE_TYPES[kind]))


def _document(fields: Fields, lost: list[str]) -> Part | None:
    name, citations = fields.need_text("name"), fields.child("citations")
    return Document(
        source=_document_source(fields, fields.need_child("source")),
        title=None if _UNNAMED.match(name) else name,
        context=fields.text("context"),
        citations=bool(citations and citations.boolean("enabled")),
    )


def _document_source(fields: Fields, source: Fields) -> Url | Base64 | PlainText:
    kind = fields.text("format") or "txt"
    if kind not in DOCUMENT_TYPES:
        unknown_value(fields.at("format"), kind, ", ".join(DOCUMENT_TYPES))
    location, text = source.child("s3Location"), source.text("text")
    if location is not None:
        return Url(url=location.need_text("uri"))
    pieces = [item.text("text") or "" for item in source.objects("content")]
    if text is not None or pieces:
        return PlainText(text=text if text is not None else "\n\n".join(pieces))
    data = source.need_text("bytes")
    if kind == "txt":
        try:
            return PlainText(text=base64.b64decode(data, validate=True).decode())
        except (binascii.Error, ValueError):
            pass  # not UTF-8: the bytes as they are
    return Base64(data=data, media_type=DOCUMENT_TYPES[kind])


def _tool_call(fields: Fields, lost: list[str]) -> Part | None:
    if fields.text("type") in _SKIPPED:
        lost.append("server_tool_use")  # a tool that Bedrock runs itself: nobody is to answer it
        return None
    value = fields.get("input")
    arguments = "{}" if value is None else msgspec.json.encode(value).decode()
    return ToolCall(id=fields.need_text("toolUseId"), name=fields.need_text("name"), arguments=arguments)


def _tool_result(fields: Fields, lost: list[str]) -> Part | None:
    parts: list[Text | Image | Document] = []
    for item in fields.objects("content"):
        value = item.get("json")
        if value is not None:
            parts.append(Text(text=msgspec.json.encode(value).decode()))
            continue
        read = read_blocks((item,), lost)
        parts += [part for part in read if isinstance(part, Text | Image | Document)]
    call_id, status = fields.need_text("toolUseId"), fields.text("status")
    return ToolResult(call_id=call_id, parts=tuple(parts), is_error=status == "error")


def _thinking(fields: Fields, lost: list[str]) -> Part | None:
    redacted = fields.text("redactedContent")
    if redacted is not None:
        return RedactedThinking(data=redacted)
    inner = fields.need_child("reasoningText")
    return Thinking(text=inner.need_text("text"), signature=inner.text("signature"))


def _cited(fields: Fields, lost: list[str]) -> Part | None:
    text = "".join(item.text("text") or "" for item in fields.objects("content"))
    return Text(text=text, citations=tuple(read_citation(item) for item in fields.objects("citations")))


_BLOCKS: Final[dict[str, Callable[[Fields, list[str]], Part | None]]] = {
    "toolUse": _tool_call,
    "toolResult": _tool_result,
    "image": _image,
    "document": _document,
    "reasoningContent": _thinking,
    "citationsContent": _cited,
}
