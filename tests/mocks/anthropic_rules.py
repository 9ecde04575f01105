"""What Anthropic's Messages API refuses in a request. Independent of infermux on purpose.

Sources: the API's reference (https://platform.claude.com/docs/en/api/messages), its pages on tool use, extended
thinking and errors, and the wording of the bodies it answers with. Fields of betas are known only where the
`anthropic-beta` header names one. Stricter in one thing: a key that appears twice is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import attrs

from tests.mocks.openai_rules import Json

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
VERSIONS = ("2023-06-01", "2026-10-21")
SAMPLING = frozenset({"temperature", "top_k", "top_p"})  # refused since the second version, whatever their values
COUNTED = frozenset(
    {"cache_control", "messages", "model", "output_config", "speed", "system", "thinking", "tool_choice", "tools"}
)
TOP_LEVEL = COUNTED | {
    "container", "diagnostics", "inference_geo", "max_tokens", "metadata", "service_tier", "stop_sequences", "stream",
    "temperature", "top_k", "top_p",
}  # fmt: skip
OF_BETAS = frozenset({"context_management", "mcp_servers", "output_format", "thread"})
THREADS = "message-threads-2026-08-12"
BLOCKS = {
    "text": frozenset({"text", "citations"}),
    "image": frozenset({"source", "transformations"}),
    "document": frozenset({"source", "citations", "context", "title"}),
    "tool_use": frozenset({"id", "input", "name", "caller"}),
    "tool_result": frozenset({"tool_use_id", "content", "is_error"}),
    "thinking": frozenset({"thinking", "signature"}),
    "redacted_thinking": frozenset({"data"}),
    "search_result": frozenset({"content", "source", "title", "citations"}),
}
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "tool_use": ("id", "input", "name"),
    "tool_result": ("tool_use_id",),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
OF_ASSISTANTS = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})
OF_USERS = frozenset({"text", "image", "document", "tool_result", "search_result"})
UNCACHED = frozenset({"thinking", "redacted_thinking"})
TOOL = frozenset(
    {
        "allowed_callers", "cache_control", "defer_loading", "description", "eager_input_streaming", "input_examples",
        "input_schema", "name", "strict", "type",
    }
)  # fmt: skip
SIGNED = "sig-"  # how a signature of the mock begins


@attrs.frozen
class Refusal(Exception):
    """A refusal, raised by the checks."""

    status: int
    message: str
    type: str | None = None
    details: Json | None = None

    def body(self) -> bytes:
        kind = self.type or TYPES.get(self.status, "api_error")
        error: Json = {"type": kind, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return json.dumps({"type": "error", "error": error, "request_id": "req_mock"}).encode()


def refuse(message: str) -> Refusal:
    return Refusal(400, message)


def decode(body: bytes) -> Json:
    """The JSON object in `body`; raises `Refusal`."""
    try:
        value: object = json.loads(body.decode(), object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise refuse(f"The request body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise refuse("The request body is not a JSON object")
    return cast("Json", value)


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> Json:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(f"a key appears twice among {[key for key, _ in pairs]}")
    return value


def check_messages(
    request: Json, *, betas: Collection[str] = (), counting: bool = False, version: str = VERSIONS[0]
) -> None:
    """Raise `Refusal` for a request the API does not take; `counting`: for count_tokens."""
    known = COUNTED if counting else TOP_LEVEL
    _check_names(request, known if version == VERSIONS[0] else known - SAMPLING, betas)
    if not isinstance(request.get("model"), str):
        raise refuse("model: Field required")
    if not counting:
        _check_numbers(request)
    _check_system(request.get("system"))
    _check_thread(request.get("thread"), betas)
    tools = _check_tools(request)
    _check_choice(request, tools)
    _check_thinking(request)
    messages = request.get("messages")
    if messages is None:
        raise refuse("messages: Field required")
    if not isinstance(messages, list):
        raise refuse("messages: Input should be a valid list")
    _check_turns(cast("list[object]", messages))
    if request.get("thinking", {}).get("type") == "enabled":
        _check_final_thinking(cast("list[Json]", messages))


def _check_thread(thread: object, betas: Collection[str]) -> None:
    """The mock holds no conversations, and says so as the API does where it cannot hold one."""
    if thread is None:
        return
    if THREADS not in betas:
        raise refuse("thread: Extra inputs are not permitted")
    details = {"error_code": "thread_unsupported_request", "unsupported": ["mock"]}
    raise Refusal(400, "thread: this request cannot be threaded", details=details)


def _check_names(request: Json, known: Collection[str], betas: Collection[str]) -> None:
    for name in request:
        if name not in known and not (betas and name in OF_BETAS):
            raise refuse(f"{name}: Extra inputs are not permitted")


def _check_numbers(request: Json) -> None:
    most = request.get("max_tokens")
    if most is None:
        raise refuse("max_tokens: Field required")
    if not _is_whole(most):
        raise refuse("max_tokens: Input should be a valid integer")
    if most < 1:
        raise refuse("max_tokens: must be greater than or equal to 1")
    if most > 128_000:
        raise refuse(
            f"max_tokens: {most} > 128000, which is the maximum allowed number of output tokens for this model"
        )
    for name in ("temperature", "top_p"):
        value = request.get(name)
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise refuse(f"{name}: range: 0..1")
    stops = request.get("stop_sequences")
    if stops is not None and not all(isinstance(stop, str) and stop.strip() for stop in stops):
        raise refuse("stop_sequences: each stop sequence must contain non-whitespace")
    if not isinstance(request.get("stream", False), bool):
        raise refuse("stream: Input should be a valid boolean")
    if not set(request.get("metadata") or {}) <= {"user_id"}:
        raise refuse("metadata: Extra inputs are not permitted")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_system(system: object) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise refuse("system: Input should be a valid list")
    for index, block in enumerate(cast("list[object]", system)):
        _check_block(block, f"system.{index}", frozenset({"text"}))


def _check_tools(request: Json) -> set[str]:
    names: set[str] = set()
    tools: list[Json] = request.get("tools") or []
    for index, tool in enumerate(tools):
        where = f"tools.{index}"
        if tool.get("type", "custom") != "custom":
            names.add(tool["name"])
            continue  # a tool of the provider's own
        for name in tool:
            if name not in TOOL:
                raise refuse(f"{where}.custom.{name}: Extra inputs are not permitted")
        if not isinstance(tool.get("name"), str):
            raise refuse(f"{where}.custom.name: Field required")
        if not isinstance(tool.get("input_schema"), dict):
            raise refuse(f"{where}.custom.input_schema: Field required")
        if tool["input_schema"].get("type") != "object":
            raise refuse(f"{where}.custom.input_schema.type: Input should be 'object'")
        if tool["name"] in names:
            raise refuse("tools: Tool names must be unique.")
        names.add(tool["name"])
    return names


def _check_choice(request: Json, tools: set[str]) -> None:
    choice = request.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type")
    known = {"type", "name"} if kind == "tool" else {"type"}
    if kind in ("auto", "any", "tool"):
        known.add("disable_parallel_tool_use")
    elif kind != "none":
        raise refuse("tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'")
    if not set(choice) <= known:
        raise refuse("tool_choice: Extra inputs are not permitted")
    if not tools and kind != "none":
        raise refuse("tool_choice may only be specified while providing tools.")
    if kind == "tool" and choice.get("name") not in tools:
        raise refuse(f"Tool '{choice.get('name')}' not found in provided tools")


def _check_thinking(request: Json) -> None:
    thinking = request.get("thinking")
    if thinking is None or thinking.get("type") == "disabled":
        return
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if not _is_whole(budget):
            raise refuse("thinking.enabled.budget_tokens: Field required")
        if budget < 1024:
            raise refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= request.get("max_tokens", budget + 1):
            raise refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
        if request.get("temperature", 1) != 1:
            raise refuse("`temperature` may only be set to 1 when thinking is enabled.")
    elif thinking.get("type") != "adaptive":
        raise refuse("thinking: Input tag does not match any of the expected tags: 'enabled', 'disabled', 'adaptive'")
    choice: Json = request.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool"):
        raise refuse("Thinking may not be enabled when tool_choice forces tool use.")


def _check_turns(messages: list[object]) -> None:
    if not messages:
        raise refuse("messages: at least one message is required")
    called: list[str] = []
    for index, item in enumerate(messages):
        where = f"messages.{index}"
        if not isinstance(item, dict):
            raise refuse(f"{where}: Input should be a valid dictionary")
        message = cast("Json", item)
        _check_role(message, where, first=index == 0)
        blocks = _blocks(message, where)
        _check_results(blocks, called, where, index)
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
    _check_last(cast("Json", messages[-1]), called, len(messages) - 1)


def _check_role(message: Json, where: str, *, first: bool) -> None:
    for name in message:
        if name not in ("role", "content"):
            raise refuse(f"{where}.{name}: Extra inputs are not permitted")
    role = message.get("role")
    if role == "system":
        raise refuse(f'{where}: Unexpected role "system". The Messages API accepts a top-level `system` parameter.')
    if role not in ("user", "assistant"):
        raise refuse(f"{where}.role: Input should be 'user' or 'assistant'")
    if first and role != "user":
        raise refuse('messages: first message must use the "user" role')


def _blocks(message: Json, where: str) -> list[Json]:
    content = message.get("content")
    if isinstance(content, str):
        if not content:
            raise refuse(
                f"{where}: all messages must have non-empty content except for the optional final assistant message"
            )
        return []
    if not isinstance(content, list) or not content:
        raise refuse(f"{where}.content: Input should be a non-empty list or string")
    allowed = OF_USERS if message["role"] == "user" else OF_ASSISTANTS
    for index, block in enumerate(cast("list[object]", content)):
        _check_block(block, f"{where}.content.{index}", allowed)
    return cast("list[Json]", content)


def _check_block(block: object, where: str, allowed: Collection[str]) -> None:
    if not isinstance(block, dict):
        raise refuse(f"{where}: Input should be a valid dictionary")
    fields = cast("Json", block)
    kind = str(fields.get("type"))
    if kind not in allowed:
        raise refuse(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    known = BLOCKS[kind] | ({"type"} if kind in UNCACHED else {"type", "cache_control"})
    for name in fields:
        if name not in known:
            raise refuse(f"{where}.{kind}.{name}: Extra inputs are not permitted")
    for name in REQUIRED.get(kind, ()):
        if fields.get(name) is None:
            raise refuse(f"{where}.{kind}.{name}: Field required")
    if kind == "text" and not fields["text"].strip():
        raise refuse("messages: text content blocks must be non-empty and contain non-whitespace text")
    if kind == "tool_use" and not isinstance(fields["input"], dict):
        raise refuse(f"{where}.tool_use.input: Input should be a valid dictionary")
    if kind == "thinking" and not str(fields["signature"]).startswith(SIGNED):
        raise refuse(f"{where}: Invalid `signature` in `thinking` block")
    if kind == "tool_result" and isinstance(fields.get("content"), list):
        for index, inner in enumerate(fields["content"]):
            _check_block(inner, f"{where}.tool_result.content.{index}", OF_USERS - {"tool_result"})


def _check_results(blocks: list[Json], called: list[str], where: str, index: int) -> None:
    """Every call of the turn before is answered here, before anything else, and nothing else is."""
    answered: list[str] = []
    other = False
    for position, block in enumerate(blocks):
        if block["type"] != "tool_result":
            other = True
            continue
        name = block["tool_use_id"]
        if name not in called or name in answered:
            raise refuse(
                f"{where}.content.{position}: unexpected `tool_use_id` found in `tool_result` blocks: {name}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if other:
            raise refuse(f"{where}: `tool_result` blocks must come first in the content")
        answered.append(name)
    missing = [name for name in called if name not in answered]
    if missing:
        raise refuse(
            f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a `tool_result` block in the next message."
        )


def _check_last(message: Json, called: list[str], index: int) -> None:
    if called:
        raise refuse(
            f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            + ", ".join(called)
        )
    content = message["content"]
    text = content if isinstance(content, str) else content[-1].get("text", "")
    if message["role"] == "assistant" and text != text.rstrip():
        raise refuse("messages: final assistant content cannot end with trailing whitespace")


def _check_final_thinking(messages: list[Json]) -> None:
    """A turn that is being answered with tool results starts with its thinking."""
    last = messages[-1]["content"]
    if not (isinstance(last, list) and any(block["type"] == "tool_result" for block in cast("list[Json]", last))):
        return
    first = messages[-2]["content"][0]["type"]
    if first not in ("thinking", "redacted_thinking"):
        raise refuse(
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{first}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block."
        )
