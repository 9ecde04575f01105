"""The input of response requests, read: items into turns.

Shapes: `openai.types.responses.response_input_item_param`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from infermux.errors import InvalidRequest, NotCarried

from .fields import Fields, generic, missing, unknown_value, wrong
from .neutral import (
    Base64,
    CacheControl,
    Document,
    FileId,
    Image,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    Url,
)
from .openai_cache_marks import read_cache_control
from .openai_responses_shapes import BETWEEN, NAME, unseal
from .turns import TurnList, read_url

_STORED: Final = {
    "item_reference": "refers to an item that the provider of this model does not keep; send the item itself",
    "compaction": "is history that only the provider that wrote it can read; send the items themselves",
}
_OF_ITEMS: Final = ("id", "status", "type", "caller")  # whose they were: nothing that is to be carried


class Items:
    """Reads `instructions` and `input`; what has no place goes to `lost`."""

    def __init__(self, lost: list[str]) -> None:
        self._lost = lost
        self._system: list[Text] = []
        self._turns = TurnList()

    def read(self, fields: Fields) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
        """System text and turns. Raises InvalidRequest."""
        instructions = fields.text("instructions")
        if instructions is not None:
            self._system.append(Text(text=instructions))
        given = fields.get("input")
        if given is None:
            missing("input")
        if isinstance(given, str):
            self._turns.add(Role.USER, [Text(text=given)])
        elif not isinstance(given, list):
            wrong("input", "a string or a list", given)
        else:
            for item in fields.objects("input"):
                self._item(item)
        if not self._turns and len(self._system) <= (instructions is not None):
            raise InvalidRequest("input: at least one item is expected", param="input")
        return tuple(self._system), self._turns.turns()

    def _item(self, item: Fields) -> None:
        kind = item.text("type") or "message"
        match kind:
            case "message":
                self._message(item)
            case "function_call" | "custom_tool_call":
                self._turns.add(Role.ASSISTANT, [_call(item, freeform=kind == "custom_tool_call")])
            case "function_call_output" | "custom_tool_call_output":
                self._turns.add(Role.USER, [self._result(item)])
            case "reasoning":
                self._add(Role.ASSISTANT, self._reasoning(item))
            case _ if kind in _STORED:
                raise NotCarried(f"{item.path}: a {kind} {_STORED[kind]}", param=item.path)
            case _:
                self._lost.append(f"{generic(item.path)}.{kind}")
                return
        item.ignore(*_OF_ITEMS)
        self._lost += left_over(item)

    def _message(self, item: Fields) -> None:
        role = item.need_text("role")
        parts = self._marked(item, self._content(item, "content"))
        match role:
            case "user":
                self._turns.add(Role.USER, parts)
            case "assistant":
                self._turns.add(Role.ASSISTANT, parts)
            case "system" | "developer":
                texts = [part for part in parts if isinstance(part, Text)]
                if len(texts) < len(parts):
                    self._lost.append("input.content(other than text of systems)")
                if self._turns:
                    self._add(Role.SYSTEM, texts)
                else:
                    self._system += texts
            case _:
                unknown_value(item.at("role"), role, "user, assistant, system, developer")

    def _add(self, role: Role, parts: Sequence[Part]) -> None:
        if parts:
            self._turns.add(role, parts)

    def _marked(self, item: Fields, parts: list[Part]) -> list[Part]:
        """`parts`, the last of them with the cache mark of the item itself, where it has one."""
        mark = read_cache_control(item)
        if mark is None:
            return parts
        last = parts[-1] if parts else None
        if isinstance(last, Text | Image | Document):
            parts[-1] = attrs.evolve(last, cache_control=mark)
        else:
            self._lost.append("input.cache_control")
        return parts

    def _content(self, item: Fields, name: str) -> list[Part]:
        content = item.get(name)
        if isinstance(content, str):
            return [Text(text=content)]
        if content is None:
            missing(item.at(name))
        if not isinstance(content, list):
            wrong(item.at(name), "a string or a list", content)
        return [part for fields in item.objects(name) for part in self._part(fields)]

    def _part(self, fields: Fields) -> Iterator[Part]:
        kind = fields.need_text("type")
        mark = read_cache_control(fields)
        match kind:
            case "input_text" | "output_text" | "text":
                fields.ignore("annotations", "logprobs")  # of an answer sent back: nothing is read from them
                yield Text(text=fields.need_text("text"), cache_control=mark)
            case "refusal":
                yield Refusal(text=fields.need_text("refusal"))
            case "input_image":
                yield _image(fields, mark)
            case "input_file":
                if fields.values.get("detail") == "auto":
                    fields.ignore("detail")
                yield _file(fields, mark)
            case _:
                self._lost.append(f"{generic(fields.path)}.{kind}")
                return
        self._lost += left_over(fields)

    def _result(self, item: Fields) -> ToolResult:
        content = self._content(item, "output")
        parts = tuple(part for part in content if isinstance(part, Text | Image | Document))
        if len(parts) < len(content):
            self._lost.append("input.output.refusal")
        return ToolResult(call_id=item.need_text("call_id"), parts=parts, cache_control=read_cache_control(item))

    def _reasoning(self, item: Fields) -> list[Part]:
        """Encrypted content that is OpenAI's own is lost: only OpenAI can read it."""
        own = "".join(part.text("text") or "" for part in item.objects("content"))
        summary = BETWEEN.join(part.text("text") or "" for part in item.objects("summary"))
        text, encrypted = own or summary, item.text("encrypted_content")
        part = unseal(text, encrypted) if encrypted else None
        if part is not None:
            return [part]
        if encrypted:
            self._lost.append(generic(item.at("encrypted_content")))
        return [Thinking(text=text)] if text else []


def _call(item: Fields, *, freeform: bool) -> ToolCall:
    name, call_id, mark = item.need_text("name"), item.need_text("call_id"), read_cache_control(item)
    arguments = item.need_text("input") if freeform else item.text("arguments") or "{}"
    return ToolCall(id=call_id, name=name, arguments=arguments, freeform=freeform, cache_control=mark)


def _image(fields: Fields, mark: CacheControl | None) -> Image:
    url, detail = fields.text("image_url"), fields.text("detail")
    source: Url | Base64 | FileId
    if url is not None:
        source = read_url(url)
    elif (file_id := fields.text("file_id")) is not None:
        source = FileId(id=file_id, dialect=NAME)
    else:
        missing(fields.at("image_url"))
    detail = None if detail == "auto" else detail
    return Image(source=source, detail=detail, cache_control=mark, at=fields.path)


def _file(fields: Fields, mark: CacheControl | None) -> Document:
    """The first of data, address and id that is there; what is not asked for is named as left over."""
    source: Url | Base64 | FileId
    if (data := fields.text("file_data")) is not None:
        read = read_url(data)
        # Bare base64 was what the API took first.
        source = read if isinstance(read, Base64) else Base64(data=data, media_type="application/pdf")
    elif (url := fields.text("file_url")) is not None:
        source = Url(url=url)
    elif (file_id := fields.text("file_id")) is not None:
        source = FileId(id=file_id, dialect=NAME)
    else:
        missing(fields.at("file_data"))
    return Document(source=source, title=fields.text("filename"), cache_control=mark, at=fields.path)


def left_over(fields: Fields) -> list[str]:
    """The names of the members nothing has asked for, without those that are off."""
    return [generic(fields.at(name)) for name, value in fields.rest().items() if value is not False]
