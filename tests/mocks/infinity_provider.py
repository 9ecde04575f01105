"""A strict provider that speaks Infinity's line protocol over a Unix socket: what its own types refuse, it refuses.

Shapes: the crates `infinity-provider-protocol` of https://github.com/hydro-project/infinity and rig-core; requests of
the earlier generation, which the later one reads too. A request that serde would not take is answered as it does it:
`{"Error": "invalid request: ..."}`, and the connection ends.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import trio

from tests.providers.process._served import listen

Json = dict[str, Any]
MODEL = {
    "model_id": "large",
    "display_name": "Large",
    "context_window": 200_000,
    "max_output_tokens": 8192,
    "supports_image_input": True,
}
PLAIN = {**MODEL, "model_id": "plain", "max_output_tokens": None, "supports_image_input": False}
FINAL = {"Final": {"usage": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "cached_input_tokens": 2}}}
REQUEST_KEYS = {
    "model",
    "preamble",
    "chat_history",
    "documents",
    "tools",
    "temperature",
    "max_tokens",
    "tool_choice",
    "additional_params",
    "output_schema",
}
MEDIA_TYPES = {"jpeg", "png", "gif", "webp", "heic", "heif", "svg"}


class Invalid(Exception):
    """What serde says."""


def need(fine: object, what: str) -> None:
    if not fine:
        raise Invalid(what)


def keys(value: Any, required: Iterable[str], optional: Iterable[str] = ()) -> Json:
    """`value`, an object with these members and no others."""
    need(isinstance(value, dict), f"expected an object, not {value!r}")
    required = set(required)
    need(required <= set(value), f"missing field in {value!r}")
    need(set(value) <= required | set(optional), f"unknown field in {value!r}")
    found: Json = value
    return found


def check_request(request: Any) -> None:
    keys(request, REQUEST_KEYS)
    need(request["model"] is None, "model")
    need(request["preamble"] is None or isinstance(request["preamble"], str), "preamble")
    need(isinstance(request["documents"], list), "documents")
    need(isinstance(request["chat_history"], list) and request["chat_history"], "OneOrMany of nothing")
    for message in request["chat_history"]:
        check_message(message)
    for tool in request["tools"]:
        keys(tool, ("name", "description", "parameters"))
        need(isinstance(tool["description"], str) and isinstance(tool["parameters"], dict), "tool")
    need(request["max_tokens"] is None or type(request["max_tokens"]) is int, "max_tokens")
    need(request["temperature"] is None or isinstance(request["temperature"], int | float), "temperature")
    check_choice(request["tool_choice"])
    need(request["output_schema"] is None or isinstance(request["output_schema"], dict), "output_schema")


def check_choice(choice: Any) -> None:
    if isinstance(choice, dict):
        names = keys(keys(choice, ("specific",))["specific"], ("function_names",))["function_names"]
        need(all(isinstance(name, str) for name in names), "function_names")
    else:
        need(choice in (None, "auto", "none", "required"), "tool_choice")


def check_message(message: Any) -> None:
    need(isinstance(message.get("content"), list) and message["content"], "OneOrMany of nothing")
    match message.get("role"):
        case "user":
            keys(message, ("role", "content"))
            for item in message["content"]:
                check_of_user(item)
        case "assistant":
            keys(message, ("role", "id", "content"))
            for item in message["content"]:
                check_of_assistant(item)
        case other:
            raise Invalid(f"unknown variant {other!r}")


def check_of_user(item: Any, *, nested: bool = False) -> None:
    match item.get("type"):
        case "text":
            need(isinstance(keys(item, ("type", "text"))["text"], str), "text")
        case "toolresult" if not nested:
            keys(item, ("type", "id", "content"), ("call_id",))
            need(item["content"], "OneOrMany of nothing")
            for inner in item["content"]:
                check_of_user(inner, nested=True)
        case "image":
            data = keys(keys(item, ("type", "data"), ("media_type",))["data"], ("type", "value"))
            need(data["type"] in ("base64", "url") and isinstance(data["value"], str), "data")
            need(item.get("media_type", "png") in MEDIA_TYPES, "media_type")
        case other:
            raise Invalid(f"unknown variant {other!r}")


def check_of_assistant(item: Any) -> None:
    if "text" in item:
        keys(item, ("text",))
    elif "function" in item:
        keys(item, ("id", "function"), ("call_id", "signature", "additional_params"))
        function = keys(item["function"], ("name", "arguments"))
        need(isinstance(function["arguments"], dict), "arguments")
    else:
        for block in keys(item, ("id", "content"))["content"]:
            keys(block, ("type", "content"))
            if block["type"] == "text":
                keys(block["content"], ("text",), ("signature",))
            else:
                need(block["type"] == "redacted", "variant")
                keys(block["content"], ("data",))


class InfinityProvider:
    """`script` are the lines after `"InvokeStarted"`, one answer each: items, or strings; `CUT` closes.

    An answer that is a str in place of a list is an `Error` in place of `"InvokeStarted"`.
    """

    CUT = "CUT"

    def __init__(self, *, models: tuple[Json, ...] = (MODEL, PLAIN)) -> None:
        self.requests: list[Json] = []
        self.lines: list[Any] = []
        self.script: deque[list[Any] | str | Json] = deque()
        self.models = models
        self.left = trio.Event()

    def listen(self, nursery: trio.Nursery, path: Path) -> Path:
        """Serve at `path` from now on."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen(path)))
        nursery.start_soon(trio.serve_listeners, self._serve, [listener])
        return path

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await self._answer(stream)
            except trio.BrokenResourceError:
                self.left.set()

    async def _answer(self, stream: trio.SocketStream) -> None:
        held = b""
        while b"\n" not in held:
            data = await stream.receive_some(65536)
            if not data:
                return
            held += data

        async def say(value: object) -> None:
            await stream.send_all(json.dumps(value).encode() + b"\n")

        line = json.loads(held)
        self.lines.append(line)
        try:
            if line == "ListModels":
                await say({"Models": list(self.models)})
                return
            asked = keys(keys(line, ("InvokeModel",))["InvokeModel"], ("model_id", "request"))
            check_request(asked["request"])
        except Invalid as error:
            await say({"Error": f"invalid request: {error}"})
            return
        self.requests.append(asked)
        await self._invoke(stream, say)

    async def _invoke(self, stream: trio.SocketStream, say: Callable[[object], Any]) -> None:
        answer = self.script.popleft() if self.script else [{"Message": "hello"}, FINAL]
        if not isinstance(answer, list):
            await say({"Error": answer})
            return
        await say("InvokeStarted")
        for item in answer:
            if item == self.CUT:
                return
            if item == "HANG":
                await stream.receive_some(1)
                self.left.set()
                return
            await say({"Chunk": item})
            await trio.sleep(0.001)
        await say("StreamEnd")
