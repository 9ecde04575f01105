"""Anthropic message requests, read.

Shapes: `anthropic.types.message_create_params` and the `*_param` modules beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from infermux.errors import InvalidRequest, ThreadUnsupported

from .dialect import decode_request
from .fields import Fields, generic, missing, unknown_value, wrong
from .neutral import (
    Base64,
    CacheControl,
    Citation,
    Conversation,
    Document,
    FileId,
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

NAME: Final = "anthropic.messages"

_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_CHOICES: Final = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "tool": ToolMode.NAMED, "none": ToolMode.NONE}
_MODES: Final = {
    "enabled": ReasoningMode.BUDGET,
    "disabled": ReasoningMode.OFF,
    "adaptive": ReasoningMode.ADAPTIVE,
}
_TIERS: Final = {"standard_only": "default"}
_LOCATIONS: Final = {"char_location": "char", "page_location": "page", "content_block_location": "block"}
_ENDS: Final = {"char": "char_index", "page": "page_number", "block": "block_index"}


def read_request(body: bytes) -> Conversation:
    """Raises InvalidRequest."""
    fields = Fields(decode_request(body))
    fields.ignore("provider")  # the router's own
    _refuse_thread(fields)
    lost: list[str] = []
    turns = _turns(fields, lost)
    choice, parallel = _tool_choice(fields)
    config = fields.child("output_config")
    metadata = fields.child("metadata")
    tier = fields.text("service_tier")
    user = metadata.text("user_id") if metadata else None
    tools, system = tuple(_tools(fields, lost)), _system(fields, lost)
    form = _format(config.child("format") if config else None, fields.child("output_format"), lost)
    reasoning = _reasoning(fields, config, lost)
    lost += (*(config.lost() if config else ()), *(metadata.lost() if metadata else ()))
    return Conversation(
        model=fields.text("model") or "",
        system=system,
        turns=turns.turns(),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_tokens=fields.count("max_tokens"),
        stop=fields.texts("stop_sequences"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        format=form,
        reasoning=reasoning,
        stream=fields.boolean("stream") or False,
        user=user,
        service_tier=_TIERS.get(tier, tier) if tier else None,
        cache_control=_cache_control(fields),
        extras=fields.rest(),
        lost=tuple(dict.fromkeys(lost)),
    )


def _refuse_thread(fields: Fields) -> None:
    """Refuse a conversation that the provider is to hold (`anthropic.types.beta.beta_message_thread_param`).

    Its messages are only the new ones, so this comes before anything is said about them.
    """
    if fields.get("thread") is not None:
        why = "the provider of this model holds no conversations; send the whole conversation in `messages`"
        raise ThreadUnsupported(f"thread: {why}", param="thread")


def _turns(fields: Fields, lost: list[str]) -> TurnList:
    turns = TurnList()
    for message in fields.objects("messages"):
        role = message.need_text("role")
        if role not in _ROLES:
            unknown_value(message.at("role"), role, "user, assistant, system")
        turns.add(_ROLES[role], read_parts(message, "content", lost))
        lost += message.lost()
    if not turns:
        raise InvalidRequest("messages: at least one message is expected", param="messages")
    return turns


def _system(fields: Fields, lost: list[str]) -> tuple[Text, ...]:
    if fields.get("system") is None:
        return ()
    parts = read_parts(fields, "system", lost)
    lost += (f"system.{type(part).__name__.lower()}" for part in parts if not isinstance(part, Text))
    return tuple(part for part in parts if isinstance(part, Text))


def read_parts(fields: Fields, name: str, lost: list[str]) -> list[Part]:
    """The parts of member `name`, which is a string or a list of blocks."""
    value = fields.get(name)
    if isinstance(value, str):
        return [Text(text=value)]
    if value is None:
        missing(fields.at(name))
    if not isinstance(value, list):
        wrong(fields.at(name), "a string or a list", value)
    parts: list[Part] = []
    for block in fields.objects(name):
        parts += _part(block, lost)
    return parts


def _part(block: Fields, lost: list[str]) -> Iterator[Part]:
    kind = block.need_text("type")
    mark = _cache_control(block)
    match kind:
        case "text":
            citations = tuple(read_citation(item) for item in block.objects("citations"))
            yield Text(text=block.need_text("text"), citations=citations, cache_control=mark)
        case "image":
            yield Image(source=_image_source(block.need_child("source"), lost), cache_control=mark, at=block.path)
        case "document":
            yield from _document(block, mark, lost)
        case "search_result":
            yield _search_result(block, mark, lost)
        case "tool_use":
            block.ignore("caller")
            arguments = _arguments(block)
            call_id, name = block.need_text("id"), block.need_text("name")
            yield ToolCall(id=call_id, name=name, arguments=arguments, cache_control=mark)
        case "tool_result":
            yield _tool_result(block, mark, lost)
        case "thinking":
            yield Thinking(text=block.need_text("thinking"), signature=block.text("signature") or None)
        case "redacted_thinking":
            yield RedactedThinking(data=block.need_text("data"))
        case _:
            lost.append(f"{generic(block.path)}.{kind}")
            return
    lost += block.lost()


def _arguments(block: Fields) -> str:
    try:
        return msgspec.json.encode(block.mapping("input") or {}).decode()
    except RecursionError:
        raise InvalidRequest(f"{block.at('input')} is nested too deeply", param=block.at("input")) from None


def _cache_control(fields: Fields) -> CacheControl | None:
    mark = fields.child("cache_control")
    return None if mark is None else CacheControl(ttl=mark.text("ttl"))


def _image_source(source: Fields, lost: list[str]) -> Url | Base64 | FileId:
    kind = source.need_text("type")
    found: Url | Base64 | FileId
    match kind:
        case "url":
            found = Url(url=source.need_text("url"))
        case "base64":
            found = Base64(data=source.need_text("data"), media_type=source.need_text("media_type"))
        case "file":
            found = FileId(id=source.need_text("file_id"), dialect=NAME)
        case _:
            unknown_value(source.at("type"), kind, "base64, url, file")
    lost += source.lost()
    return found


def _document(block: Fields, mark: CacheControl | None, lost: list[str]) -> Iterator[Part]:
    source = block.need_child("source")
    kind = source.need_text("type")
    citations = block.child("citations")
    title, context = block.text("title"), block.text("context")
    asked = bool(citations and citations.boolean("enabled"))
    found: Url | Base64 | FileId | PlainText
    match kind:
        case "text":
            found = PlainText(text=source.need_text("data"))
        case "content":
            parts = read_parts(source, "content", lost)
            found = PlainText(text="\n".join(part.text for part in parts if isinstance(part, Text)))
            lost.append("document.source(content as text)")
            yield from (part for part in parts if isinstance(part, Image))
        case _:
            found = _image_source(source, lost)
    yield Document(source=found, title=title, context=context, citations=asked, cache_control=mark, at=block.path)


def _search_result(block: Fields, mark: CacheControl | None, lost: list[str]) -> Document:
    lost.append("search_result(as document)")
    text = "\n".join(part.text for part in read_parts(block, "content", lost) if isinstance(part, Text))
    citations = block.child("citations")
    return Document(
        source=PlainText(text=text),
        title=block.need_text("title"),
        context=block.need_text("source"),
        citations=bool(citations and citations.boolean("enabled")),
        cache_control=mark,
    )


def _tool_result(block: Fields, mark: CacheControl | None, lost: list[str]) -> ToolResult:
    parts = read_parts(block, "content", lost) if block.get("content") is not None else []
    other = [part for part in parts if not isinstance(part, Text | Image | Document)]
    lost += (f"tool_result.content.{type(part).__name__.lower()}" for part in other)
    return ToolResult(
        call_id=block.need_text("tool_use_id"),
        parts=tuple(part for part in parts if isinstance(part, Text | Image | Document)),
        is_error=block.boolean("is_error") or False,
        cache_control=mark,
    )


def read_citation(fields: Fields) -> Citation:
    """A citation of a text block (`anthropic.types.text_citation`)."""
    kind = fields.need_text("type")
    unit = _LOCATIONS.get(kind)
    position = _ENDS.get(unit or "", "block_index")
    return Citation(
        cited_text=fields.text("cited_text") or "",
        title=fields.text("document_title") or fields.text("title"),
        url=fields.text("url") or fields.text("source"),
        document_index=fields.integer("document_index"),
        unit=unit,
        start=fields.integer(f"start_{position}"),
        end=fields.integer(f"end_{position}"),
        encrypted_index=fields.text("encrypted_index") or None,
    )


def _tools(fields: Fields, lost: list[str]) -> Iterator[Tool]:
    for item in fields.objects("tools"):
        kind = item.text("type") or "custom"
        if kind != "custom":
            lost.append(f"tools.{kind}")  # run by Anthropic, or known to its models only
            continue
        yield Tool(
            name=item.need_text("name"),
            description=item.text("description"),
            schema=item.need_child("input_schema").values,
            strict=item.boolean("strict"),
            cache_control=_cache_control(item),
        )
        lost += item.lost()


def _tool_choice(fields: Fields) -> tuple[ToolChoice | None, bool | None]:
    choice = fields.child("tool_choice")
    if choice is None:
        return None, None
    kind = choice.need_text("type")
    if kind not in _CHOICES:
        unknown_value(choice.at("type"), kind, "auto, any, tool, none")
    name = choice.need_text("name") if kind == "tool" else None
    parallel = False if choice.boolean("disable_parallel_tool_use") else None
    return ToolChoice(mode=_CHOICES[kind], name=name), parallel


def _format(current: Fields | None, older: Fields | None, lost: list[str]) -> JsonFormat | None:
    given = current or older
    if given is None:
        return None
    kind = given.need_text("type")
    if kind != "json_schema":
        lost.append(f"output_config.format.{kind}")
        return None
    return JsonFormat(schema=given.need_child("schema").values, strict=True)


def _reasoning(fields: Fields, config: Fields | None, lost: list[str]) -> Reasoning | None:
    thinking = fields.child("thinking")
    effort = config.text("effort") if config else None
    if thinking is None:
        return Reasoning(effort=effort) if effort else None
    kind = thinking.need_text("type")
    if kind not in _MODES:
        lost.append(f"thinking.{kind}")
        return Reasoning(effort=effort) if effort else None
    found = Reasoning(
        mode=_MODES[kind],
        effort=effort,
        budget_tokens=thinking.integer("budget_tokens"),
        summary=thinking.text("display"),
    )
    lost += thinking.lost()
    return found
