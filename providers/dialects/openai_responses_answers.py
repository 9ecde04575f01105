"""Responses, read and written whole. Shapes: see `openai_responses_shapes`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from .dialect import Asked, malformed, new_id
from .neutral import (
    Completion,
    ErrorReport,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from .openai_annotations import name_lost_citations, other_annotations
from .openai_errors import error_fields
from .openai_responses_shapes import (
    Item,
    Json,
    arguments_text,
    decode_response,
    incomplete_reason,
    own_signature,
    read_annotations,
    read_stop,
    read_usage,
    seal,
    thinking_text,
    unseal,
    write_annotations,
    write_call,
    write_format,
    write_tool,
    write_tool_choice,
    write_usage,
)
from .report import Loss

_ENDED: Final = frozenset({None, "completed", "incomplete"})
_PREFIXES: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


def read_answer(body: bytes) -> Completion:
    """Raises UpstreamFailure(MALFORMED). Items of tools that the provider runs itself are passed over."""
    try:
        response = decode_response(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise malformed(f"answered with what is no response: {error}") from None
    if response.output is None or response.status not in _ENDED:
        why = response.error.message if response.error else None
        raise malformed(f"answered with a response that is {response.status or 'without output'}: {why or ''}")
    parts = tuple(part for item in response.output for part in read_item(item))
    called = any(isinstance(part, ToolCall) for part in parts)
    refused = any(isinstance(part, Refusal) for part in parts)
    return Completion(
        id=response.id or new_id("resp_"),
        model=response.model or "",
        parts=parts,
        stop=read_stop(response, called=called, refused=refused),
        usage=read_usage(response.usage),
        created=int(response.created_at) if response.created_at is not None else None,
        lost=tuple(name for item in response.output for name in _lost(item)),
    )


def _lost(item: Item) -> Iterator[str]:
    """What is passed over in an item: the work of tools that the provider runs itself, and places in its own files."""
    if item.type not in ("message", "function_call", "custom_tool_call", "reasoning"):
        yield f"output.{item.type}"
    for content in item.content or () if item.type == "message" else ():
        for kind in other_annotations(content.annotations):
            yield f"output.content.annotations.{kind}"


def read_item(item: Item) -> Iterator[Part]:
    """The parts that a whole item is. Empty texts are none."""
    match item.type:
        case "message":
            for content in item.content or ():
                if content.type == "refusal" and content.refusal:
                    yield Refusal(text=content.refusal)
                elif content.type == "output_text" and content.text:
                    yield Text(text=content.text, citations=read_annotations(content.annotations))
        case "function_call" | "custom_tool_call":
            yield read_call(item)
        case "reasoning":
            part = read_reasoning(item)
            if part is not None:
                yield part
        case _:
            return


def read_call(item: Item) -> ToolCall:
    call_id, name = item.call_id or item.id or new_id("call_"), item.name or ""
    if item.type == "custom_tool_call":
        text = item.input if isinstance(item.input, str) else ""
        return ToolCall(id=call_id, name=name, arguments=text, freeform=True)
    return ToolCall(id=call_id, name=name, arguments=arguments_text(item.arguments) or "{}")


def read_reasoning(item: Item) -> Thinking | RedactedThinking | None:
    """None where the item neither shows reasoning nor can be sent back."""
    text = thinking_text(item.content, item.summary)
    if not item.encrypted_content:
        return Thinking(text=text) if text else None
    part = unseal(text, item.encrypted_content)
    if part is not None:
        return part
    return Thinking(text=text, signature=own_signature(item.id or "", item.encrypted_content))


def write_answer(completion: Completion, asked: Asked, loss: Loss) -> bytes:
    """The stop sequence has no place here, as requests of this dialect have none."""
    reason = incomplete_reason(completion.stop, refused=any(isinstance(part, Refusal) for part in completion.parts))
    for part in completion.parts:
        if isinstance(part, Text):
            name_lost_citations(part.citations, loss)
    groups = list(_groups(completion.parts))
    ids = ItemIds()
    output: list[Json] = []
    for index, group in enumerate(groups):
        last = index == len(groups) - 1
        output.append(write_item(group, ids.of(group[0], index), incomplete=last and reason is not None))
    created = completion.created if completion.created is not None else asked.now
    body = write_response(completion.id, completion.model, created, asked)
    end_response(body, output, reason)
    if completion.usage is not None:
        body["usage"] = write_usage(completion.usage)
    return msgspec.json.encode(body)


ItemPart = Text | Refusal | Thinking | RedactedThinking | ToolCall


def _groups(parts: Sequence[Part]) -> Iterator[list[ItemPart]]:
    """The parts of each item: words that follow each other are one message, everything else stands alone."""
    words: list[ItemPart] = []
    for part in parts:
        if isinstance(part, Text | Refusal):
            words.append(part)
            continue
        if words:
            yield words
            words = []
        if isinstance(part, Thinking | RedactedThinking | ToolCall):
            yield [part]
    if words:
        yield words


class ItemIds:
    """Ids for the items of one response. They cannot be guessed, and two responses never share one."""

    __slots__ = ("_base",)

    def __init__(self) -> None:
        self._base = secrets.token_hex(16)

    def of(self, part: ItemPart, index: int) -> str:
        """The id of the item that begins with `part` and is the `index`th of the output."""
        return f"{_PREFIXES[item_type(part)]}_{self._base}{index:04x}"


def item_type(part: ItemPart) -> str:
    """The type of the item `part` belongs into."""
    match part:
        case Text() | Refusal():
            return "message"
        case ToolCall(freeform=freeform):
            return "custom_tool_call" if freeform else "function_call"
        case Thinking() | RedactedThinking():
            return "reasoning"


def write_item(parts: Sequence[ItemPart], item_id: str, *, incomplete: bool = False) -> Json:
    """The whole item. `incomplete`: the answer was cut off in it."""
    status = "incomplete" if incomplete else "completed"
    match parts[0]:
        case ToolCall():
            return {**write_call(parts[0]), "id": item_id, "status": status}
        case Thinking() | RedactedThinking():
            return _reasoning(parts[0], item_id)
        case Text() | Refusal():
            content = [write_content(part) for part in parts if isinstance(part, Text | Refusal)]
            return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content}


def _reasoning(part: Thinking | RedactedThinking, item_id: str) -> Json:
    """The encrypted content is there without being asked for (`include`): nobody keeps the item for the caller."""
    text = part.text if isinstance(part, Thinking) else ""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": item_id, "summary": summary, "encrypted_content": seal(part)}


def write_content(part: Text | Refusal) -> Json:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": write_annotations(part), "logprobs": []}


def write_response(response_id: str, model: str, created: int, asked: Asked) -> Json:
    """A response that has just begun. It says back what was asked, as far as that is known, and that it is not kept."""
    conversation = asked.conversation
    reasoning = conversation.reasoning
    text: Json = {"format": write_format(conversation.format)}
    if "verbosity" in conversation.extras:
        text["verbosity"] = conversation.extras["verbosity"]
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": conversation.max_tokens,
        "metadata": dict(conversation.metadata),
        "model": model,
        "output": [],
        "parallel_tool_calls": conversation.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        "service_tier": conversation.service_tier,
        "store": False,
        "temperature": conversation.temperature,
        "text": text,
        "tool_choice": write_tool_choice(conversation.tool_choice, conversation.tools),
        "tools": [write_tool(tool) for tool in conversation.tools],
        "top_p": conversation.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": conversation.user,
    }


def end_response(body: Json, output: list[Json], reason: str | None) -> None:
    """Turns a begun response into an ended one. `reason`: why it is incomplete, None where it is not."""
    body["output"] = output
    body["status"] = "completed" if reason is None else "incomplete"
    body["incomplete_details"] = None if reason is None else {"reason": reason}


def write_stream_error(error: ErrorReport, sequence_number: int = 0) -> bytes:
    """The `error` event (`openai.types.responses.ResponseErrorEvent`).

    The members of the error stand beside the type, where that shape has them, and under `error`, where the API itself
    puts them and where the SDK looks for what it raises.
    """
    fields = error_fields(error)
    code = error.code or fields["type"]
    event: Json = {
        "type": "error",
        "sequence_number": sequence_number,
        "code": code,
        "message": error.message,
        "param": error.param,
        "error": fields,
    }
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
