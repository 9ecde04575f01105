"""What a simulated provider says where a shape is asked for: a call of a tool, or JSON.

Shapes: `openai.types.chat.ChatCompletionToolChoiceOptionParam` and `response_format` of
`openai.types.chat.completion_create_params`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs
import msgspec

from .simulated_instance import instance
from .simulated_request import ChatRequest, Refused


@attrs.frozen(kw_only=True)
class ToolUse:
    """Which tool is called. `kind` is `function` or `custom`: a custom one takes text instead of JSON."""

    name: str
    kind: str
    text: str


def tool_use(request: ChatRequest) -> ToolUse | None:
    """The call that `tool_choice` insists on, with arguments its schema allows; None where it leaves a choice.

    Raises Refused for a tool that is not there.
    """
    choice = request.tool_choice
    if choice in (None, "none", "auto"):
        return None
    tools = {name: (kind, tool) for kind, name, tool in _named(request.tools or ())}
    wanted: str | None = None
    if isinstance(choice, Mapping):
        wanted = _wanted(cast("Mapping[str, Any]", choice))
        if wanted is None and "allowed_tools" in choice:
            return None
    elif choice != "required":
        raise Refused(f"Invalid value for 'tool_choice': {choice!r}.", "tool_choice", "invalid_value")
    name = next(iter(tools), None) if wanted is None else wanted
    if name is None or name not in tools:
        message = f"Tool choice '{wanted}' not found in 'tools' parameter."
        raise Refused(message if tools else "'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    kind, tool = tools[name]
    return ToolUse(name=name, kind=kind, text="text" if kind == "custom" else _encoded(tool.get("parameters"), "tools"))


def _wanted(choice: Mapping[str, Any]) -> str | None:
    """The name of the tool a choice names, or of the first it allows and requires."""
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, Mapping):
        given = cast("Mapping[str, Any]", allowed)
        return next((name for _, name, _ in _named(given.get("tools", ())) if given.get("mode") == "required"), None)
    return next((name for _, name, _ in _named([choice])), "")


def _named(tools: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Kind, name and declaration of each tool that has them."""
    for tool in tools:
        kind = tool.get("type", "function")
        declared = tool.get(kind)
        if kind in ("function", "custom") and isinstance(declared, Mapping):
            fields = cast("Mapping[str, Any]", declared)
            yield kind, str(fields.get("name", "")), fields


def json_text(request: ChatRequest, provider: str) -> str | None:
    """The answer's text where `response_format` asks for JSON, else None."""
    asked = request.response_format or {}
    match asked.get("type"):
        case "json_schema":
            declared = asked.get("json_schema")
            schema = cast("Mapping[str, Any]", declared).get("schema") if isinstance(declared, Mapping) else None
            return _encoded(schema, "response_format")
        case "json_object":
            return msgspec.json.encode({"provider": provider, "message": "a simulated answer"}).decode()
        case _:
            return None


def _encoded(schema: object, field: str) -> str:
    """A value of `schema`. Raises Refused, naming `field`."""
    try:
        return msgspec.json.encode(instance(schema)).decode()
    except ValueError as error:
        raise Refused(f"Invalid schema for '{field}': {error}.", field, "invalid_value") from None
