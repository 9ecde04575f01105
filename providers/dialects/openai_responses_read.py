"""Response requests, read.

Shapes: `openai.types.responses.response_create_params`. Read on top of these: `cache_control` on items, parts, tools.
What only OpenAI's servers have is refused where leaving it out would make another request of it: earlier responses,
conversations, prompts and items that are stored there, and compacted history. Tools that the provider runs itself are
left out, and named.
"""

from __future__ import annotations

from typing import Final, NoReturn

from infermux.errors import NotCarried

from .dialect import decode_request
from .fields import Fields, generic, unknown_value
from .neutral import Conversation, JsonFormat, Reasoning, Tool, ToolChoice, ToolMode
from .openai_cache_marks import read_cache_control
from .openai_responses_items import Items, left_over

_SAY_NOTHING: Final[dict[str, object]] = {
    "background": False,
    "store": False,
    "truncation": "disabled",
    "top_logprobs": 0,
    "stream_options": {"include_obfuscation": False},
}
"""Values that ask for what happens anyway."""
_LOST: Final = frozenset({"background", "context_management", "store", "truncation", "top_logprobs", "stream_options"})
"""Fields that mean nothing, or something else, to every other API, whatever their names are there."""
_GIVEN_ANYWAY: Final = "reasoning.encrypted_content"
_EFFORTS: Final = "none, minimal, low, medium, high, xhigh, max"
_MODES: Final = {"none": ToolMode.NONE, "auto": ToolMode.AUTO, "required": ToolMode.REQUIRED}
_WHOLE: Final = "send the whole conversation in `input`"


def read_request(body: bytes) -> Conversation:
    """Raises InvalidRequest. It is asked only where the provider is not of this dialect, so has no stored state."""
    fields = Fields(decode_request(body))
    fields.ignore("provider")  # the router's own
    _refuse_state(fields)
    lost: list[str] = []
    system, turns = Items(lost).read(fields)
    tools = _tools(fields, lost)
    choice, tools = _tool_choice(fields, tools, lost)
    form, verbosity = _text(fields, lost)
    _include(fields, lost)
    stream = fields.boolean("stream") or False
    return Conversation(
        model=fields.text("model") or "",
        system=system,
        turns=turns,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=False if fields.boolean("parallel_tool_calls") is False else None,  # True: the default
        max_tokens=fields.count("max_output_tokens"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        format=form,
        reasoning=_reasoning(fields, lost),
        stream=stream,
        include_usage=stream,  # the end of every stream has it
        user=fields.text("user"),
        metadata=_metadata(fields),
        service_tier=fields.text("service_tier"),
        cache_control=read_cache_control(fields),
        extras={**verbosity, **_extras(fields, lost)},
        lost=tuple(dict.fromkeys(lost)),
    )


def _refuse_state(fields: Fields) -> None:
    if fields.get("previous_response_id") is not None:
        _refuse("previous_response_id", f"the provider of this model keeps no responses; {_WHOLE}")
    if fields.get("conversation") is not None:
        _refuse("conversation", f"the provider of this model keeps no conversations; {_WHOLE}")
    if fields.get("prompt") is not None:
        _refuse("prompt", f"the provider of this model has no stored prompts; {_WHOLE}")


def _refuse(param: str, why: str) -> NoReturn:
    raise NotCarried(f"{param}: {why}", param=param)


def _extras(fields: Fields, lost: list[str]) -> dict[str, object]:
    extras: dict[str, object] = {}
    for name, value in fields.rest().items():
        if name in _SAY_NOTHING and _SAY_NOTHING[name] == value:
            continue
        if name in _LOST:
            lost.append(name)
        else:
            extras[name] = value
    return extras


def _include(fields: Fields, lost: list[str]) -> None:
    lost += [f"include.{name}" for name in fields.texts("include") if name != _GIVEN_ANYWAY]


def _tools(fields: Fields, lost: list[str]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for item in fields.objects("tools"):
        kind = item.need_text("type")
        if kind not in ("function", "custom"):
            lost.append(f"tools.{kind}")
            continue
        name, description, mark = item.need_text("name"), item.text("description"), read_cache_control(item)
        if kind == "custom":
            grammar = item.mapping("format")
            tool = Tool(name=name, description=description, freeform=True, grammar=grammar, cache_control=mark)
        else:
            schema, strict = item.mapping("parameters"), item.boolean("strict")
            tool = Tool(name=name, description=description, schema=schema, strict=strict, cache_control=mark)
        tools.append(tool)
        lost += left_over(item)
    return tuple(tools)


def _tool_choice(
    fields: Fields, tools: tuple[Tool, ...], lost: list[str]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools it leaves: `allowed_tools` narrows them."""
    value = fields.get("tool_choice")
    if value is None:
        return None, tools
    if isinstance(value, str):
        return ToolChoice(mode=_mode("tool_choice", value)), tools
    choice = fields.need_child("tool_choice")
    kind = choice.need_text("type")
    if kind == "allowed_tools":
        lost.append("tool_choice.allowed_tools(other tools left out)")
        allowed = {item.text("name") for item in choice.objects("tools")}
        mode = _mode(choice.at("mode"), choice.need_text("mode"))
        return ToolChoice(mode=mode), tuple(tool for tool in tools if tool.name in allowed)
    if kind not in ("function", "custom"):
        _refuse("tool_choice", f"the provider of this model has no tool of its own of the type {kind[:64]!r}")
    return ToolChoice(mode=ToolMode.NAMED, name=choice.need_text("name")), tools


def _mode(path: str, value: str) -> ToolMode:
    if value not in _MODES:
        unknown_value(path, value, "none, auto, required")
    return _MODES[value]


def _text(fields: Fields, lost: list[str]) -> tuple[JsonFormat | None, dict[str, object]]:
    """The format, and the verbosity under the name it has elsewhere."""
    text = fields.child("text")
    if text is None:
        return None, {}
    form = _format(text, lost)
    verbosity = text.text("verbosity")
    lost += left_over(text)
    return form, {} if verbosity is None else {"verbosity": verbosity}


def _format(text: Fields, lost: list[str]) -> JsonFormat | None:
    given = text.child("format")
    if given is None:
        return None
    kind = given.need_text("type")
    match kind:
        case "text":
            return None
        case "json_object":
            return JsonFormat()
        case "json_schema":
            found = JsonFormat(
                schema=given.mapping("schema") or {},
                name=given.text("name"),
                description=given.text("description"),
                strict=given.boolean("strict"),
            )
            lost += left_over(given)
            return found
        case _:
            lost.append(f"{generic(given.path)}.{kind}")
            return None


def _reasoning(fields: Fields, lost: list[str]) -> Reasoning | None:
    given = fields.child("reasoning")
    if given is None:
        return None
    effort, summary, older = given.text("effort"), given.text("summary"), given.text("generate_summary")
    if effort is not None and effort not in _EFFORTS.split(", "):
        unknown_value(given.at("effort"), effort, _EFFORTS)
    lost += left_over(given)
    found = Reasoning(effort=effort, summary=summary if summary is not None else older)
    return None if found == Reasoning() else found


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.child("metadata")
    return {} if given is None else {name: given.need_text(name) for name in given.rest()}
