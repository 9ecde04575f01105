"""Anthropic message requests, written.

Shapes: `anthropic.types.message_create_params`. What a model takes is in `claude`; a name that is no Claude's (another
API that speaks this dialect) is taken to know manual thinking and every sampling parameter.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import msgspec

from .anthropic_messages_parts import blocks, marked, write_turns
from .anthropic_messages_thinking import write_thinking
from .claude import Claude, Sampling, claude
from .dialect import Target, Written
from .json_tool import fits_native, wants_object, with_json_tool
from .neutral import Conversation, JsonFormat, Text, Tool, ToolCall, ToolChoice, ToolMode
from .report import Loss

Json = dict[str, Any]

CARRIED: Final = frozenset({"container", "context_management", "diagnostics", "inference_geo", "mcp_servers", "speed"})
"""The fields of other callers that mean here what they mean there."""
JSON_MODE: Final = "Answer with one JSON object and nothing else: no words around it, no code fence."
UNKNOWN: Final = Claude(
    max_tokens=0,
    budget=True,
    adaptive=False,
    always_thinks=False,
    effort=False,
    highest_effort=False,
    json_schema=False,
    sampling=Sampling.ALL,
    prefill=True,
)
_CHOICES: Final = {ToolMode.AUTO: "auto", ToolMode.REQUIRED: "any", ToolMode.NAMED: "tool", ToolMode.NONE: "none"}
_TIERS: Final = {"auto": "auto", "default": "standard_only"}


def write_request(conversation: Conversation, target: Target) -> Written:
    """Drops what the API has no place for, and names it."""
    loss = Loss(*conversation.lost)
    model = claude(target.model) or UNKNOWN
    conversation, json_tool, native = _formatted(conversation, model, loss)
    body: Json = {
        "model": target.model,
        "max_tokens": _max_tokens(conversation, target, model, loss),
        "messages": write_turns(conversation, loss),
    }
    system = blocks(conversation.system, loss)
    if system:
        plain = len(system) == 1 and set(system[0]) == {"type", "text"}
        body["system"] = system[0]["text"] if plain else system
    _tools(conversation, body, model, loss)
    config: Json = {"format": native} if native else {}
    thinks = write_thinking(conversation, model, body, config, loss)
    if config:
        body["output_config"] = config
    _sampling(conversation, model, thinks, body, loss)
    _rest(conversation, body, loss)
    return Written(body=msgspec.json.encode(body), loss=loss, json_tool=json_tool)


def _max_tokens(conversation: Conversation, target: Target, model: Claude, loss: Loss) -> int:
    """The bound, which the API requires: the caller's, else the model's own maximum, else the settings' default."""
    most = target.max_tokens or model.max_tokens
    if conversation.max_tokens is None:
        return most or target.default_max_tokens
    if most and conversation.max_tokens > most:
        loss.clamp("max_tokens")
        return most
    return conversation.max_tokens


def _formatted(conversation: Conversation, model: Claude, loss: Loss) -> tuple[Conversation, str | None, Json | None]:
    """The conversation with its response format put where the model can take it: natively, in a tool, or in words."""
    form = conversation.format
    if form is None:
        return conversation, None, None
    if form.schema is None:
        loss.change("response_format", "as instruction")
        system = (*conversation.system, Text(text=JSON_MODE))
        return attrs.evolve(conversation, system=system, format=None), None, None
    if model.json_schema and fits_native(form.schema):
        return conversation, None, _native(form, loss)
    if not wants_object(conversation):
        loss.drop("response_format")
        return attrs.evolve(conversation, format=None), None, None
    conversation, name = with_json_tool(conversation)
    return conversation, name, None


def _native(form: JsonFormat, loss: Loss) -> Json:
    if form.description is not None:
        loss.drop("response_format.description")
    return {"type": "json_schema", "schema": form.schema}


def _tools(conversation: Conversation, body: Json, model: Claude, loss: Loss) -> None:
    tools = [found for tool in conversation.tools if (found := _tool(tool, model, loss)) is not None]
    choice = conversation.tool_choice
    if not tools:
        if choice is not None and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED):
            loss.drop("tool_choice")
        tools = _called_tools(conversation)
        if not tools:
            return
        # The API refuses tool calls in the history of a request that defines no tools.
        loss.change("tools", "named from the messages")
        choice = ToolChoice(mode=ToolMode.NONE)
    body["tools"] = tools
    written = _tool_choice(choice, parallel=conversation.parallel_tool_calls)
    if written is not None:
        body["tool_choice"] = written


def _called_tools(conversation: Conversation) -> list[Json]:
    parts = (part for turn in conversation.turns for part in turn.parts)
    names = dict.fromkeys(part.name for part in parts if isinstance(part, ToolCall))
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def _tool(tool: Tool, model: Claude, loss: Loss) -> Json | None:
    if tool.freeform:
        loss.drop("tools.custom")
        return None
    schema: Json = {"type": "object", **(tool.schema or {})}
    found: Json = {"name": tool.name, "input_schema": schema}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.strict:
        if model.json_schema and fits_native(schema):
            found["strict"] = True
        else:
            loss.drop("tools.strict")
    return marked(found, tool.cache_control)


def _tool_choice(choice: ToolChoice | None, *, parallel: bool | None) -> Json | None:
    if choice is None:
        return {"type": "auto", "disable_parallel_tool_use": True} if parallel is False else None
    written: Json = {"type": _CHOICES[choice.mode]}
    if choice.mode is ToolMode.NAMED:
        written["name"] = choice.name
    if parallel is False and choice.mode is not ToolMode.NONE:
        written["disable_parallel_tool_use"] = True
    return written


def _sampling(conversation: Conversation, model: Claude, thinks: bool, body: Json, loss: Loss) -> None:
    """Temperature, top_p and top_k, as far as the model takes them; thinking leaves only top_p, from 0.95 on."""
    fixed = thinks or model.sampling is Sampling.NONE
    temperature, top_p = conversation.temperature, conversation.top_p
    if temperature is not None and fixed and temperature != 1:
        loss.drop("temperature")
    elif temperature is not None and not fixed:
        body["temperature"] = min(max(temperature, 0.0), 1.0)
        if body["temperature"] != temperature:
            loss.clamp("temperature")
    if top_p is not None and top_p != 1:
        taken = "temperature" not in body or model.sampling is Sampling.ALL
        if taken and 0 <= top_p < 1 and (not fixed or top_p >= 0.95):
            body["top_p"] = top_p
        else:
            loss.drop("top_p")
    if conversation.top_k is not None:
        if fixed:
            loss.drop("top_k")
        else:
            body["top_k"] = conversation.top_k


def _rest(conversation: Conversation, body: Json, loss: Loss) -> None:
    stop = [text for text in conversation.stop if text.strip()]
    if len(stop) < len(conversation.stop):
        loss.change("stop", "blank ones left out")  # the API refuses them
    if stop:
        body["stop_sequences"] = stop
    if conversation.user is not None:
        body["metadata"] = {"user_id": conversation.user}
    if conversation.metadata:
        loss.drop("metadata")
    if conversation.service_tier is not None:
        if conversation.service_tier in _TIERS:
            body["service_tier"] = _TIERS[conversation.service_tier]
        else:
            loss.drop("service_tier")
    if conversation.cache_control is not None:
        marked(body, conversation.cache_control)
    if conversation.stream:
        body["stream"] = True
    for name, value in conversation.extras.items():
        if name in CARRIED:
            body[name] = value
        else:
            loss.drop(name)
