"""Converse requests, written. Shapes: see `bedrock_converse_shapes`; what a model takes: `bedrock_converse_models`.

The model and whether the answer streams are the adapter's to put into the request's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import attrs
import msgspec

from .bedrock_converse_blocks import Blocks
from .bedrock_converse_models import Traits, traits
from .bedrock_converse_shapes import MOST_METADATA
from .bedrock_converse_thinking import write_reasoning
from .claude import Sampling
from .dialect import Target, Written
from .json_tool import fits_native, wants_object, with_json_tool
from .neutral import Conversation, JsonFormat, Text, Tool, ToolCall, ToolChoice, ToolMode
from .report import Loss

Json = dict[str, Any]

CARRIED: Final = frozenset(
    {
        "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "performanceConfig",
        "promptVariables",
    }
)  # fmt: skip
"""Bedrock's own fields, which callers of other dialects may send along."""

JSON_MODE: Final = "Answer with one valid JSON object and nothing else: no other text, no Markdown."
_TIERS: Final = frozenset({"default", "flex", "priority", "reserved"})
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{1,256}")


def write_request(conversation: Conversation, target: Target) -> Written:
    """Drops what neither the API nor the model has a place for, and names it.

    Raises InvalidRequest for images and documents that cannot be sent.
    """
    loss = Loss(*conversation.lost)
    model = traits(target.model)
    conversation, json_tool, output = _formatted(conversation, model, loss)
    blocks = Blocks(model, loss)
    body: Json = {"messages": blocks.turns(conversation)}
    system = blocks.blocks(conversation.system)
    if system:
        body["system"] = system
    _tools(conversation, body, blocks, model, loss)
    more: Json = {}
    bound = _max_tokens(conversation, target, model, loss)
    thinks = write_reasoning(conversation, model, bound=bound, more=more, output=output, loss=loss)
    config = _inference(conversation, model, more, loss, thinks=thinks)
    if bound is not None:
        config["maxTokens"] = bound
    for name, value in (("inferenceConfig", config), ("outputConfig", output), ("additionalModelRequestFields", more)):
        if value:
            body[name] = value
    if conversation.stop and model.is_claude:
        body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]  # which one was hit
    _account(conversation, body, loss)
    _extras(conversation, body, loss)
    return Written(body=msgspec.json.encode(body), loss=loss, json_tool=json_tool)


def _formatted(conversation: Conversation, model: Traits, loss: Loss) -> tuple[Conversation, str | None, Json]:
    """The conversation with its response format put where the model can take it: natively, in a tool, or in words."""
    form = conversation.format
    if form is None:
        return conversation, None, {}
    if form.schema is None:
        return _instructed(conversation, JSON_MODE, loss), None, {}
    if model.json_schema and (model.claude is None or fits_native(form.schema)):
        return conversation, None, {"textFormat": _text_format(form)}
    if not wants_object(conversation):
        loss.drop("response_format")
        return attrs.evolve(conversation, format=None), None, {}
    if not model.must_call:
        schema = msgspec.json.encode(form.schema).decode()
        return _instructed(conversation, f"{JSON_MODE} It must fit this JSON Schema: {schema}", loss), None, {}
    conversation, name = with_json_tool(conversation)
    return conversation, name, {}


def _instructed(conversation: Conversation, words: str, loss: Loss) -> Conversation:
    loss.change("response_format", "as instruction")
    return attrs.evolve(conversation, system=(*conversation.system, Text(text=words)), format=None)


def _text_format(form: JsonFormat) -> Json:
    definition: Json = {"schema": msgspec.json.encode(form.schema).decode()}
    if form.name is not None:
        definition["name"] = form.name
    if form.description is not None:
        definition["description"] = form.description
    return {"type": "json_schema", "structure": {"jsonSchema": definition}}


def _tools(conversation: Conversation, body: Json, blocks: Blocks, model: Traits, loss: Loss) -> None:
    choice = conversation.tool_choice
    none = choice is not None and choice.mode is ToolMode.NONE
    called = _called_tools(conversation)
    tools = [found for tool in conversation.tools for found in _tool(tool, blocks, model, loss)]
    if not tools and called:
        # The API refuses tool calls in the history of a request that defines no tools.
        loss.change("tools", "named from the messages")
        tools = called
    elif not tools or (none and not called):
        if choice is not None and not none:
            loss.drop("tool_choice")
        return
    config: Json = {"tools": tools}
    if none:
        loss.drop("tool_choice")  # there is no word for it, and the calls in the history need their tools
    elif choice is not None:
        _choose(choice, config, model, loss)
    if conversation.parallel_tool_calls is False:
        loss.drop("parallel_tool_calls")
    body["toolConfig"] = config


def _called_tools(conversation: Conversation) -> list[Json]:
    parts = (part for turn in conversation.turns for part in turn.parts)
    names = dict.fromkeys(part.name for part in parts if isinstance(part, ToolCall))
    return [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in names]


def _tool(tool: Tool, blocks: Blocks, model: Traits, loss: Loss) -> Iterator[Json]:
    if tool.freeform:
        loss.drop("tools.custom")
        return
    schema: Json = {"type": "object", **(tool.schema or {})}
    spec: Json = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict:
        if model.json_schema and (model.claude is None or fits_native(schema)):
            spec["strict"] = True
        else:
            loss.drop("tools.strict")
    yield {"toolSpec": spec}
    if tool.cache_control is not None:
        yield from blocks.mark(tool.cache_control, tool=True)


def _choose(choice: ToolChoice, config: Json, model: Traits, loss: Loss) -> None:
    """What the model can be told of the choice; it is free to choose where it can be told nothing."""
    named = choice.mode is ToolMode.NAMED
    if choice.mode is ToolMode.AUTO:
        config["toolChoice"] = {"auto": {}}
    elif named and model.must_call_this:
        config["toolChoice"] = {"tool": {"name": choice.name}}
    elif model.must_call and (not named or len(config["tools"]) == 1):
        config["toolChoice"] = {"any": {}}
    else:
        loss.drop("tool_choice")


def _max_tokens(conversation: Conversation, target: Target, model: Traits, loss: Loss) -> int | None:
    """The caller's bound, within the model's own. Without one Bedrock takes the model's maximum."""
    most = target.max_tokens or (model.claude.max_tokens if model.claude else None)
    bound = conversation.max_tokens
    if bound is not None and most is not None and bound > most:
        loss.clamp("max_tokens")
        return most
    return bound


def _inference(conversation: Conversation, model: Traits, more: Json, loss: Loss, *, thinks: bool) -> Json:
    """Temperature, top_p, top_k and stop sequences, as far as the model takes them.

    A Claude that thinks takes only top_p, from 0.95 on, a Nova that does so with all its effort nothing.
    """
    config: Json = {}
    sampling = model.claude.sampling if model.claude else Sampling.ALL
    fixed = thinks or sampling is Sampling.NONE
    temperature, top_p = conversation.temperature, conversation.top_p
    if temperature is not None and fixed and temperature != 1:
        loss.drop("temperature")
    elif temperature is not None and not fixed:
        config["temperature"] = _within(temperature, "temperature", loss)
    if top_p is not None:
        taken = "temperature" not in config or sampling is Sampling.ALL
        if taken and (not fixed or (model.is_claude and sampling is not Sampling.NONE and top_p >= 0.95)):
            config["topP"] = _within(top_p, "top_p", loss)
        elif top_p != 1:
            loss.drop("top_p")
    if conversation.top_k is not None:
        found = None if fixed else model.top_k(conversation.top_k)
        if found is None:
            loss.drop("top_k")
        else:
            more.update(found)
    stop = [text for text in conversation.stop if text.strip()]
    if len(stop) < len(conversation.stop):
        loss.change("stop", "blank ones left out")
    if stop:
        config["stopSequences"] = stop
    return config


def _within(value: float, name: str, loss: Loss) -> float:
    found = min(max(value, 0.0), 1.0)
    if found != value:
        loss.clamp(name)
    return found


def _account(conversation: Conversation, body: Json, loss: Loss) -> None:
    given = dict(conversation.metadata)
    if conversation.user is not None:
        given["user"] = conversation.user
    taken = {name: value for name, value in given.items() if _METADATA.fullmatch(name) and _METADATA.fullmatch(value)}
    if len(taken) != len(given) or len(taken) > MOST_METADATA:
        loss.drop("user" if list(given) == ["user"] else "metadata")
    if taken:
        body["requestMetadata"] = dict(list(taken.items())[-MOST_METADATA:])
    tier = conversation.service_tier
    if tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    elif tier is not None and tier != "auto":
        loss.drop("service_tier")


def _extras(conversation: Conversation, body: Json, loss: Loss) -> None:
    for name, value in conversation.extras.items():
        if name not in CARRIED:
            loss.drop(name)
        elif name == "additionalModelRequestFields" and isinstance(value, dict):
            body[name] = {**body.get(name, {}), **value}
        else:
            body[name] = value
