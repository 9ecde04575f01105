"""Requests as they came, and what the real chat APIs refuse in them. Independent of infermux on purpose.

Sources: OpenAI's chat completions reference (https://platform.openai.com/docs/api-reference/chat/create), the error
bodies its API answers with, Azure's and Ollama's. Stricter in one thing: a key that appears twice is refused.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

Json = dict[str, Any]

TOP_LEVEL = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
        "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
        "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})


@attrs.frozen
class Refusal(Exception):
    """A refusal, raised by the checks."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def decode(body: bytes) -> Json:
    """The JSON object in `body`; raises `Refusal`."""
    try:
        value: object = json.loads(body.decode(), object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise Refusal(400, f"We could not parse the JSON body of your request. ({error})") from None
    if not isinstance(value, dict):
        raise Refusal(400, "The JSON body of your request is not an object.")
    return cast("Json", value)


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> Json:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(f"a key appears twice among {[key for key, _ in pairs]}")
    return value


def check_chat(request: Json, *, needs_model: bool = True, stream_options: bool = True) -> None:
    """Raise `Refusal` for a chat request the API does not take."""
    known = TOP_LEVEL if stream_options else TOP_LEVEL - {"stream_options"}
    for name in request:
        if name not in known:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")
    if needs_model and not isinstance(request.get("model"), str):
        raise Refusal(400, "you must provide a model parameter", param="model")
    _check_types(request)
    if request.get("stream_options") is not None and request.get("stream") is not True:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refusal(400, message, param="stream_options")
    if "messages" not in request:
        raise Refusal(
            400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
        )
    messages = request["messages"]
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' must be an array of at least one message.", param="messages")
    _check_messages(cast("list[object]", messages))


def _check_types(request: Json) -> None:
    for name, types in _TYPES.items():
        value = request.get(name)
        if value is None:
            continue
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            raise Refusal(400, f"Invalid type for '{name}'.", param=name, code="invalid_type")
    for name in ("max_tokens", "max_completion_tokens", "n"):
        if request.get(name) is not None and request[name] < 1:
            raise Refusal(400, f"Invalid '{name}': below minimum value.", param=name, code="integer_below_min_value")


_TYPES: Mapping[str, Any] = {
    "stream": bool,
    "stream_options": dict,
    "max_tokens": int,
    "max_completion_tokens": int,
    "n": int,
    "temperature": int | float,
    "top_p": int | float,
    "tools": list,
    "stop": (str, list),
    "user": str,
    "metadata": dict,
}


def _check_messages(messages: list[object]) -> None:
    awaited: set[str] = set()
    for index, item in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(item, dict):
            raise Refusal(400, f"Invalid type for '{where}': expected an object.", param=where, code="invalid_type")
        message = cast("Json", item)
        role = message.get("role")
        if role not in ROLES:
            raise Refusal(400, f"Invalid value: {role!r}.", param=f"{where}.role", code="invalid_value")
        if role == "tool":
            _check_tool_result(message, awaited, where)
            continue
        if awaited:
            text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each call."
            raise Refusal(400, text, param=f"{where}.role")
        awaited = {call["id"] for call in message.get("tool_calls") or ()}
        _check_content(message, where)


def _check_tool_result(message: Json, awaited: set[str], where: str) -> None:
    if not isinstance(message.get("tool_call_id"), str):
        raise Refusal(400, f"Missing parameter 'tool_call_id': {where}.", param=f"{where}.tool_call_id")
    if message["tool_call_id"] not in awaited:
        text = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
        raise Refusal(400, text, param=f"{where}.role")
    awaited.discard(message["tool_call_id"])


def _check_content(message: Json, where: str) -> None:
    content = message.get("content")
    if isinstance(content, str | list):
        return
    if content is None and message["role"] == "assistant" and (message.get("tool_calls") or message.get("refusal")):
        return
    raise Refusal(400, "Invalid value for 'content': expected a string.", param=f"{where}.content", code="invalid_type")


@attrs.define(eq=False)
class Recorded:
    """One request as it came. `closed_at` is when its caller left before the answer was complete, on trio's clock."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float
    connection: int
    closed_at: float | None = None
    finished_at: float | None = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2]))

    @property
    def json(self) -> Json:
        return decode(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def check_content_type(request: Recorded) -> None:
    """Raise `Refusal` for a body that is not said to be JSON."""
    if (request.header("content-type") or "").partition(";")[0].strip() != "application/json":
        raise Refusal(400, "you must provide a model parameter (the Content-Type is not application/json)")
