"""Chat completion requests, read.

Shapes: `openai.types.chat.completion_create_params` and the `chat_completion_*_param` modules beside it. Read on top of
these: `cache_control` on parts, messages and tools, `reasoning_content` on assistant messages and `top_k`, which the
OpenAI-compatible APIs of others have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from infermux.errors import InvalidRequest

from .dialect import decode_request
from .fields import Fields, generic, missing, unknown_value, wrong
from .neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    Image,
    JsonFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from .openai_cache_marks import read_cache_control
from .turns import TurnList, read_url

_SAY_NOTHING: Final[dict[str, object]] = {
    "n": 1,
    "logprobs": False,
    "store": False,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "modalities": ["text"],
}
"""Values that ask for what happens anyway."""
_EFFORTS: Final = "none, minimal, low, medium, high, xhigh, max"
_MODES: Final = {"none": ToolMode.NONE, "auto": ToolMode.AUTO, "required": ToolMode.REQUIRED}


def read_request(body: bytes) -> Conversation:
    """Raises InvalidRequest."""
    fields = Fields(decode_request(body))
    fields.ignore("provider", "functions", "function_call")  # `provider` is the router's own
    lost: list[str] = []
    system, turns = _Messages(lost).read(fields)
    tools = (*_tools(fields, lost), *(_function(item, lost) for item in fields.objects("functions")))
    choice, tools = _tool_choice(fields, tools, lost)
    effort = _effort(fields)
    bound = fields.count("max_completion_tokens")
    older = fields.count("max_tokens")
    options = fields.child("stream_options")
    return Conversation(
        model=fields.text("model") or "",
        system=system,
        turns=turns.turns(),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=False if fields.boolean("parallel_tool_calls") is False else None,  # True: the default
        max_tokens=bound if bound is not None else older,
        stop=_stop(fields),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        format=_format(fields, lost),
        reasoning=Reasoning(effort=effort) if effort else None,
        stream=fields.boolean("stream") or False,
        include_usage=bool(options and options.boolean("include_usage")),
        user=fields.text("user"),
        metadata=_metadata(fields),
        service_tier=fields.text("service_tier"),
        extras={name: value for name, value in fields.rest().items() if not _says_nothing(name, value)},
        lost=tuple(dict.fromkeys(lost)),
    )


def _says_nothing(name: str, value: object) -> bool:
    return name in _SAY_NOTHING and _SAY_NOTHING[name] == value


class _Messages:
    """Reads the messages; what has no place goes to `lost`."""

    def __init__(self, lost: list[str]) -> None:
        self._lost = lost
        self._functions: dict[str, str] = {}

    def read(self, fields: Fields) -> tuple[tuple[Text, ...], TurnList]:
        system: list[Text] = []
        turns = TurnList()
        for message in fields.objects("messages"):
            role = message.need_text("role")
            if role in ("system", "developer") and not turns:
                system += self._texts(message)
            else:
                self._turn(role, message, turns)
            self._lost += message.lost()
        if not system and not turns:
            raise InvalidRequest("messages: at least one message is expected", param="messages")
        return tuple(system), turns

    def _turn(self, role: str, message: Fields, turns: TurnList) -> None:
        match role:
            case "user":
                turns.add(Role.USER, self._marked(message, self._content(message)))
            case "assistant":
                turns.add(Role.ASSISTANT, self._marked(message, self._assistant(message)))
            case "tool":
                turns.add(Role.USER, [self._tool_result(message, message.need_text("tool_call_id"))])
            case "function":
                name = message.need_text("name")
                turns.add(Role.USER, [self._tool_result(message, self._functions.get(name, name))])
            case "system" | "developer":
                turns.add(Role.SYSTEM, self._texts(message))
            case _:
                unknown_value(message.at("role"), role, "system, developer, user, assistant, tool, function")

    def _texts(self, message: Fields) -> list[Text]:
        parts = self._marked(message, self._content(message))
        self._lost += (
            f"messages.content.{type(part).__name__.lower()}" for part in parts if not isinstance(part, Text)
        )
        return [part for part in parts if isinstance(part, Text)]

    def _marked(self, message: Fields, parts: list[Part]) -> list[Part]:
        """`parts`, the last of them with the cache mark of the message itself, where it has one."""
        mark = read_cache_control(message)
        if mark is None:
            return parts
        last = parts[-1] if parts else None
        if isinstance(last, Text | Image | Document | ToolCall):
            parts[-1] = attrs.evolve(last, cache_control=mark)
        else:
            self._lost.append("messages.cache_control")
        return parts

    def _content(self, message: Fields, *, optional: bool = False) -> list[Part]:
        content = message.get("content")
        if isinstance(content, str):
            return [Text(text=content)]
        if content is None:
            if optional:
                return []
            missing(message.at("content"))
        if not isinstance(content, list):
            wrong(message.at("content"), "a string or a list", content)
        parts: list[Part] = []
        for fields in message.objects("content"):
            parts += self._part(fields)
        return parts

    def _part(self, fields: Fields) -> Iterator[Part]:
        kind = fields.need_text("type")
        mark = read_cache_control(fields)
        match kind:
            case "text":
                yield Text(text=fields.need_text("text"), cache_control=mark)
            case "refusal":
                yield Refusal(text=fields.need_text("refusal"))
            case "image_url":
                image = fields.need_child("image_url")
                detail = image.text("detail")
                source = read_url(image.need_text("url"))
                detail = None if detail == "auto" else detail
                self._lost += image.lost()
                yield Image(source=source, detail=detail, cache_control=mark, at=fields.path)
            case "file":
                yield from self._file(fields, mark)
            case _:
                self._lost.append(f"{generic(fields.path)}.{kind}")
                return
        self._lost += fields.lost()

    def _file(self, part: Fields, mark: CacheControl | None) -> Iterator[Part]:
        fields = part.need_child("file")
        data = fields.text("file_data")
        if data is None:
            self._lost.append(f"{generic(fields.path)}.file_id")  # lives with the provider it was uploaded to
            return
        source = read_url(data)
        if not isinstance(source, Base64):
            source = Base64(data=data, media_type="application/pdf")  # bare base64, as the older SDKs sent it
        yield Document(source=source, title=fields.text("filename"), cache_control=mark, at=part.path)
        self._lost += fields.lost()

    def _assistant(self, message: Fields) -> list[Part]:
        reasoning = message.text("reasoning_content")
        parts: list[Part] = [Thinking(text=reasoning)] if reasoning else []
        parts += self._content(message, optional=True)
        refusal = message.text("refusal")
        if refusal:
            parts.append(Refusal(text=refusal))
        for call in message.objects("tool_calls"):
            parts.append(_tool_call(call, self._lost))
        function = message.child("function_call")
        if function is not None:  # the older form, without ids
            name = function.need_text("name")
            call_id = self._functions[name] = f"call_{name}_{len(self._functions)}"
            parts.append(ToolCall(id=call_id, name=name, arguments=function.text("arguments") or "{}"))
        message.ignore("annotations")  # of an answer sent back: nothing is read from them
        return parts

    def _tool_result(self, message: Fields, call_id: str) -> ToolResult:
        mark = read_cache_control(message)
        content = self._content(message)
        parts = tuple(part for part in content if isinstance(part, Text | Image | Document))
        if len(parts) < len(content):
            self._lost.append("messages.content.refusal")
        return ToolResult(call_id=call_id, parts=parts, cache_control=mark)


def _tool_call(fields: Fields, lost: list[str]) -> ToolCall:
    kind = fields.text("type") or "function"
    mark = read_cache_control(fields)
    call_id = fields.need_text("id")
    if kind == "custom":
        custom = fields.need_child("custom")
        name, text = custom.need_text("name"), custom.text("input") or ""
        lost += (*fields.lost(), *custom.lost())
        return ToolCall(id=call_id, name=name, arguments=text, freeform=True, cache_control=mark)
    if kind != "function":
        unknown_value(fields.at("type"), kind, "function, custom")
    function = fields.need_child("function")
    arguments, name = function.text("arguments") or "{}", function.need_text("name")
    fields.ignore("index")  # of a streamed call sent back
    function.ignore("parsed_arguments")  # the SDK's own reading of the arguments
    lost += (*fields.lost(), *function.lost())
    return ToolCall(id=call_id, name=name, arguments=arguments, cache_control=mark)


def _tools(fields: Fields, lost: list[str]) -> Iterator[Tool]:
    for item in fields.objects("tools"):
        kind = item.need_text("type")
        if kind == "function":
            function = _function(item.need_child("function"), lost)
            yield attrs.evolve(function, cache_control=read_cache_control(item))
        elif kind == "custom":
            custom = item.need_child("custom")
            name, description = custom.need_text("name"), custom.text("description")
            grammar, mark = custom.mapping("format"), read_cache_control(item)
            yield Tool(name=name, description=description, freeform=True, grammar=grammar, cache_control=mark)
            lost += custom.lost()
        else:
            lost.append(f"tools.{kind}")
            continue
        lost += item.lost()


def _function(fields: Fields, lost: list[str]) -> Tool:
    found = Tool(
        name=fields.need_text("name"),
        description=fields.text("description"),
        schema=fields.mapping("parameters"),
        strict=fields.boolean("strict"),
    )
    lost += fields.lost()
    return found


def _tool_choice(
    fields: Fields, tools: tuple[Tool, ...], lost: list[str]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools it leaves: `allowed_tools` narrows them."""
    name = "tool_choice" if fields.get("tool_choice") is not None else "function_call"
    value = fields.get(name)
    if value is None:
        return None, tools
    if isinstance(value, str):
        if value not in _MODES:
            unknown_value(name, value, "none, auto, required")
        return ToolChoice(mode=_MODES[value]), tools
    choice = fields.need_child(name)
    kind = "" if name == "function_call" else choice.need_text("type")
    if kind == "allowed_tools":
        return _allowed_tools(choice.need_child("allowed_tools"), tools, lost)
    named = choice if not kind else choice.need_child(kind if kind in ("function", "custom") else "function")
    return ToolChoice(mode=ToolMode.NAMED, name=named.need_text("name")), tools


def _allowed_tools(
    fields: Fields, tools: tuple[Tool, ...], lost: list[str]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    lost.append("tool_choice.allowed_tools(other tools left out)")
    allowed: set[str] = set()
    for item in fields.objects("tools"):
        inner = item.child(item.need_text("type"))
        allowed.add((inner or item).need_text("name"))
    mode = fields.need_text("mode")
    if mode not in _MODES:
        unknown_value(fields.at("mode"), mode, "auto, required")
    return ToolChoice(mode=_MODES[mode]), tuple(tool for tool in tools if tool.name in allowed)


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.get("stop")
    if isinstance(value, str):
        return (value,)
    if value is not None and not isinstance(value, list):
        wrong("stop", "a string or a list", value)
    return fields.texts("stop")


def _format(fields: Fields, lost: list[str]) -> JsonFormat | None:
    value = fields.child("response_format")
    if value is None:
        return None
    kind = value.need_text("type")
    match kind:
        case "text":
            return None
        case "json_object":
            return JsonFormat()
        case "json_schema":
            given = value.need_child("json_schema")
            found = JsonFormat(
                schema=given.mapping("schema") or {},
                name=given.text("name"),
                description=given.text("description"),
                strict=given.boolean("strict"),
            )
            lost += given.lost()
            return found
        case _:
            lost.append(f"response_format.{kind}")
            return None


def _effort(fields: Fields) -> str | None:
    effort = fields.text("reasoning_effort")
    if effort is not None and effort not in _EFFORTS.split(", "):
        unknown_value("reasoning_effort", effort, _EFFORTS)
    return effort


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.child("metadata")
    return {} if given is None else {name: given.need_text(name) for name in given.rest()}
