"""Response requests: what is written, and that there and back it is the same, but for what is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Citation,
    Conversation,
    Document,
    FileId,
    Image,
    JsonFormat,
    Part,
    PlainText,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    Url,
)
from tests._properties import examples
from tests.providers.dialects._openai_responses import GRAMMAR, NAMES, RESPONSES, SCHEMA, WORDS, Json


def write(conversation: Conversation, model: str = "m") -> tuple[Json, tuple[str, ...]]:
    written = RESPONSES.write_request(conversation, Target(model=model))
    return json.loads(written.body), written.loss.names


def saying(*parts: Part, role: Role = Role.USER, **fields: Any) -> Conversation:
    return Conversation(model="m", turns=(Turn(role=role, parts=parts),), **fields)


_SYSTEM = st.builds(Text, text=WORDS)
_USER = st.one_of(
    _SYSTEM,
    st.builds(
        Image,
        source=st.just(Url(url="https://x/y.png"))
        | st.just(Base64(data="QUJD", media_type="image/png"))
        | st.just(FileId(id="file-1", dialect="openai.responses")),
        detail=st.sampled_from([None, "low", "high"]),
    ),
    st.builds(
        Document,
        source=st.just(Url(url="https://x/a.pdf"))
        | st.just(Base64(data="QUJD", media_type="application/pdf"))
        | st.just(FileId(id="file-1", dialect="openai.responses")),
        title=st.none() | NAMES,
    ),
)  # fmt: skip
_TOOLS = st.builds(
    Tool, name=NAMES, description=st.none() | WORDS, schema=st.none() | st.just(SCHEMA), strict=st.booleans()
)
_TEXT_TOOLS = st.builds(Tool, name=NAMES, freeform=st.just(True), grammar=st.none() | st.just(GRAMMAR))
_RESULTS = st.lists(_USER, min_size=1, max_size=2).map(tuple)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A conversation that the dialect carries whole."""
    turns: list[Turn] = [Turn(role=Role.USER, parts=tuple(draw(st.lists(_USER, min_size=1, max_size=3))))]
    for number in range(draw(st.integers(0, 2))):
        said = draw(st.lists(_SYSTEM | st.builds(Refusal, text=WORDS), min_size=1, max_size=2))
        freeform, count = draw(st.booleans()), draw(st.integers(0, 2))
        calls = [
            ToolCall(id=f"call_{number}_{index}", name=draw(NAMES), arguments=draw(WORDS), freeform=freeform)
            for index in range(count)
        ]
        turns.append(Turn(role=Role.ASSISTANT, parts=(*said, *calls)))
        if draw(st.booleans()):
            turns.append(Turn(role=Role.SYSTEM, parts=(draw(_SYSTEM),)))
        results = [ToolResult(call_id=call.id, parts=draw(_RESULTS)) for call in calls]
        turns.append(Turn(role=Role.USER, parts=(*results, draw(_SYSTEM))))
    tools = tuple(draw(st.lists(_TOOLS | _TEXT_TOOLS, max_size=3, unique_by=lambda tool: tool.name)))
    choices = [None, *(ToolChoice(mode=mode) for mode in (ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED))]
    if tools:
        choices.append(ToolChoice(mode=ToolMode.NAMED, name=tools[0].name))
    stream = draw(st.booleans())
    return Conversation(
        model="m",
        turns=tuple(turns),
        system=tuple(draw(st.lists(_SYSTEM, max_size=3))),
        tools=tools,
        tool_choice=draw(st.sampled_from(choices)) if tools else None,
        parallel_tool_calls=draw(st.sampled_from([None, False])) if tools else None,
        max_tokens=draw(st.none() | st.integers(16, 99)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        format=draw(
            st.sampled_from([None, JsonFormat(), JsonFormat(schema=SCHEMA, name="n", description="d", strict=False)])
        ),
        reasoning=draw(st.sampled_from([None, Reasoning(effort="low"), Reasoning(effort="max", summary="detailed")])),
        stream=stream,
        include_usage=stream,
        user=draw(st.none() | WORDS),
        metadata=draw(st.dictionaries(NAMES, WORDS, max_size=2)),
        service_tier=draw(st.sampled_from([None, "auto", "flex"])),
        extras=draw(st.sampled_from([{}, {"verbosity": "low"}, {"prompt_cache_key": "k", "safety_identifier": "s"}])),
    )


@given(conversation=conversations())
@settings(max_examples=examples(25), deadline=None)
def test_there_and_back_is_the_identity_on_what_the_dialect_carries(conversation: Conversation) -> None:
    written = RESPONSES.write_request(conversation, Target(model="m"))
    assert RESPONSES.read_request(written.body) == conversation
    assert written.loss.names == ()


Change = Callable[[Conversation], Conversation]


def put(**fields: Any) -> Change:
    return lambda found: attrs.evolve(found, **fields)


def user(part: Part) -> Change:
    """The part at the end of the last turn, which is always a user's."""
    return lambda found: attrs.evolve(
        found, turns=(*found.turns[:-1], attrs.evolve(found.turns[-1], parts=(*found.turns[-1].parts, part)))
    )


def assistant(part: Part) -> Change:
    turn = Turn(role=Role.ASSISTANT, parts=(Text(text="t"),))
    ended = Turn(role=Role.USER, parts=(Text(text="u"),))
    return lambda found: attrs.evolve(found, turns=(*found.turns, attrs.evolve(turn, parts=(part, *turn.parts)), ended))


def without_first(found: Conversation) -> Conversation:
    """Without the first part of the last assistant's turn."""
    turn = found.turns[-2]
    return attrs.evolve(found, turns=(*found.turns[:-2], attrs.evolve(turn, parts=turn.parts[1:]), found.turns[-1]))


def nothing(found: Conversation) -> Conversation:
    """The assistant's turn without the part that was dropped."""
    return without_first(assistant(Text(text=""))(found))


NO_TOOLS = put(tools=(), parallel_tool_calls=None, tool_choice=None)
A_URL = Url(url="u")
FOREIGN = FileId(id="f", dialect="x")

OFF: dict[str, tuple[Change, Change, str]] = {
    "stop": (put(stop=("a",)), put(), "stop"),
    "top_k": (put(top_k=3), put(), "top_k"),
    "few tokens": (put(max_tokens=1), put(max_tokens=16), "max_tokens(clamped)"),
    "hot": (put(temperature=2.5), put(temperature=2.0), "temperature(clamped)"),
    "cache": (put(cache_control=CacheControl()), put(), "cache_control"),
    "a field": (put(extras={"seed": 1}), put(extras={}), "seed"),
    "a budget": (
        put(reasoning=Reasoning(mode=ReasoningMode.BUDGET, budget_tokens=9)),
        put(reasoning=None),
        "reasoning",
    ),
    "a summary": (
        put(reasoning=Reasoning(effort="low", summary="x")),
        put(reasoning=Reasoning(effort="low")),
        "reasoning.summary",
    ),
    "a choice without tools": (
        lambda found: attrs.evolve(NO_TOOLS(found), tool_choice=ToolChoice(mode=ToolMode.AUTO)),
        NO_TOOLS,
        "tool_choice",
    ),
    "no tools in parallel": (
        lambda found: attrs.evolve(NO_TOOLS(found), parallel_tool_calls=False),
        NO_TOOLS,
        "parallel_tool_calls",
    ),
    "a mark": (user(Text(text="a", cache_control=CacheControl())), user(Text(text="a")), "cache_control"),
    "citations": (
        user(Text(text="a", citations=(Citation(url="u"),))),
        user(Text(text="a")),
        "messages.content.citations",
    ),
    "another's file": (user(Document(source=FOREIGN)), put(), "document.file_id"),
    "another's image": (user(Image(source=FOREIGN)), put(), "messages.content.image.file_id"),
    "a text": (user(Document(source=PlainText(text="a"), title="t")), user(Text(text="t\n\na")), "document(as text)"),
    "cited": (user(Document(source=A_URL, citations=True)), user(Document(source=A_URL)), "document.citations"),
    "another's thinking": (assistant(Thinking(text="hm", signature="s")), nothing, "thinking"),
    "redacted thinking": (assistant(RedactedThinking(data="s")), nothing, "thinking"),
    "an assistant's image": (assistant(Image(source=A_URL)), nothing, "messages.content(images of assistants)"),
}


@pytest.mark.parametrize("name", OFF)
@given(conversation=conversations())
@settings(max_examples=8, deadline=None)
def test_the_loss_report_is_exactly_the_difference(name: str, conversation: Conversation) -> None:
    given_to, left, reported = OFF[name]
    written = RESPONSES.write_request(given_to(conversation), Target(model="m"))
    assert RESPONSES.read_request(written.body) == left(conversation)
    assert written.loss.names == (reported,)


def test_what_the_reader_lost_is_reported_by_the_writer() -> None:
    assert write(saying(Text(text="a"), lost=("input.x",)))[1] == ("input.x",)


# What is written


def test_a_plain_request_is_written_for_an_api_that_keeps_nothing() -> None:
    body, lost = write(saying(Text(text="Hello"), system=(Text(text="Be brief."),)))
    assert body == {
        "model": "m",
        "store": False,
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
    }
    assert lost == ()


def test_a_reasoning_model_is_asked_for_what_is_sent_back_and_takes_no_temperature() -> None:
    body, lost = write(saying(Text(text="a"), temperature=0.5, top_p=1.0), "gpt-5")
    assert body["include"] == ["reasoning.encrypted_content"]
    assert "temperature" not in body
    assert lost == ("temperature",)


def test_a_budget_is_the_effort_next_to_it() -> None:
    budget = Reasoning(mode=ReasoningMode.BUDGET, budget_tokens=9000)
    body, lost = write(saying(Text(text="a"), reasoning=budget), "o3")
    assert body["reasoning"] == {"effort": "medium"}
    assert lost == ("reasoning(as effort)",)


def test_a_model_that_never_reasons_is_not_told_to() -> None:
    body, lost = write(saying(Text(text="a"), reasoning=Reasoning(effort="low")), "gpt-4o")
    assert "reasoning" not in body
    assert lost == ("reasoning",)
    assert write(saying(Text(text="a"), reasoning=Reasoning(effort="none")), "gpt-4o")[1] == ()


def test_reasoning_goes_back_to_the_provider_that_encrypted_it() -> None:
    thinking = Thinking(text="hm", signature="openai.responses:rs_1:gAAA")
    body, lost = write(saying(thinking, role=Role.ASSISTANT))
    summary = [{"type": "summary_text", "text": "hm"}]
    assert body["input"] == [{"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"}]
    assert lost == ()


def test_a_failed_tool_is_said_to_have_answered() -> None:
    call, result = ToolCall(id="c", name="f", arguments="{}"), ToolResult(call_id="c", is_error=True)
    turns = (Turn(role=Role.ASSISTANT, parts=(call,)), Turn(role=Role.USER, parts=(result,)))
    body, lost = write(Conversation(model="m", turns=turns))
    assert body["input"][1] == {"type": "function_call_output", "call_id": "c", "output": ""}
    assert lost == ("tool_result.is_error",)


def test_what_is_written_has_the_shape_of_the_sdk() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
    call = ToolCall(id="c", name="f", arguments="{}")
    picture = Image(source=Url(url="https://x/y.png"))
    turns = (
        Turn(role=Role.USER, parts=(Text(text="a"), picture, Document(source=Url(url="https://x/a.pdf")))),
        Turn(role=Role.ASSISTANT, parts=(call, ToolCall(id="d", name="g", arguments="t", freeform=True))),
        Turn(
            role=Role.USER,
            parts=(ToolResult(call_id="c", parts=(picture,)), ToolResult(call_id="d", parts=(Text(text="r"),))),
        ),
    )
    tools = (Tool(name="f", schema=SCHEMA), Tool(name="g", freeform=True, grammar=GRAMMAR))
    form = JsonFormat(schema=SCHEMA, name="n", strict=True)
    body, lost = write(
        Conversation(model="m", turns=turns, tools=tools, format=form, system=(Text(text="s"), Text(text="t")))
    )
    checked = adapter.validate_python(body)
    assert len(list(checked["input"])) == len(body["input"])
    assert len(list(checked["tools"])) == 2
    assert lost == ()
