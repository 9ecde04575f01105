"""There and back is the identity on what a dialect carries; off it, the report of losses is exactly the difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.dialects.anthropic_messages_write import JSON_MODE
from infermux.providers.dialects.dialect import Dialect, Target
from infermux.providers.dialects.neutral import (
    Conversation,
    Document,
    Image,
    Part,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Role,
    Text,
    Thinking,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
)
from infermux.providers.dialects.turns import TurnList
from tests._properties import examples
from tests.mocks import anthropic_rules, openai_rules
from tests.providers.dialects._cases import CHAT, MESSAGES
from tests.providers.dialects._strategies import conversations

MODELS = {"openai.chat": ["gpt-4o", "gpt-5.1", "llama3"], "anthropic.messages": ["claude-opus-4-6", "claude-opus-5"]}
"""Models with a native response format; the forced tool is no identity, and has tests of its own."""

NEVER_REASONS = {"gpt-4o"}
OFF = Reasoning(mode=ReasoningMode.OFF)

Erase = Callable[[Conversation], Conversation]


def back(dialect: Dialect, conversation: Conversation) -> tuple[Conversation, tuple[str, ...]]:
    written = dialect.write_request(conversation, Target(model=conversation.model))
    return dialect.read_request(written.body), written.loss.names


@pytest.mark.parametrize("dialect", [CHAT, MESSAGES], ids=lambda dialect: dialect.name)
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_there_and_back_is_the_identity_on_what_both_carry(dialect: Dialect, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(MODELS[dialect.name]))
    conversation = data.draw(conversations(model=model, everything=False))
    found, lost = back(dialect, conversation)
    assert found == conversation
    assert lost == ()


@given(conversations(model="m", everything=False))
@settings(max_examples=examples(25), deadline=None)
def test_through_both_dialects_nothing_changes(conversation: Conversation) -> None:
    through, lost = back(MESSAGES, attrs.evolve(conversation, model="claude-opus-4-6"))
    again, more = back(CHAT, attrs.evolve(through, model="m"))
    assert again == conversation
    assert (lost, more) == ((), ())


@pytest.mark.parametrize("dialect", [CHAT, MESSAGES], ids=lambda dialect: dialect.name)
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_the_loss_report_is_exactly_the_difference(dialect: Dialect, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(MODELS[dialect.name]))
    conversation = normal(data.draw(conversations(model=model, everything=True)))
    found, lost = back(dialect, conversation)
    found = normal(found)
    if model in NEVER_REASONS and conversation.reasoning == OFF:
        conversation = attrs.evolve(conversation, reasoning=None)  # what is not there need not be switched off
    topics = {topic_of(name) for name in lost}
    assert erased(found, topics) == erased(conversation, topics), "something is lost that the report does not name"
    for topic in topics - {"messages.content.input_audio"}:  # `lost` itself, which is no part of what is written
        rest = topics - {topic}
        differs = erased(found, rest) != erased(conversation, rest)
        # A field of which two things are lost hides one behind the other.
        assert differs or any(overlaps(topic, other) for other in rest), f"{topic} is named but not lost"


@given(conversations(model="claude-opus-4-6", everything=True))
@settings(max_examples=examples(25), deadline=None)
def test_what_is_written_for_anthropic_is_what_its_api_takes(conversation: Conversation) -> None:
    signed = attrs.evolve(conversation, turns=mapped(conversation.turns, _mock_signed), extras={}, cache_control=None)
    for model in ("claude-opus-4-6", "claude-sonnet-4-5", "claude-3-7-sonnet-latest", "claude-opus-5", "other"):
        written = MESSAGES.write_request(signed, Target(model=model))
        anthropic_rules.check_messages(json.loads(written.body))


@given(conversations(model="gpt-4o", everything=True))
@settings(max_examples=examples(25), deadline=None)
def test_what_is_written_for_openai_is_what_its_api_takes(conversation: Conversation) -> None:
    written = CHAT.write_request(conversation, Target(model="gpt-4o"))
    openai_rules.check_chat(json.loads(written.body))


def _mock_signed(part: Part) -> Part:
    return attrs.evolve(part, signature="sig-1") if isinstance(part, Thinking) else part


# What each name of the report is about: the conversation without it.


def mapped(turns: tuple[Turn, ...], change: Callable[[Part], Part | None]) -> tuple[Turn, ...]:
    found = TurnList()
    for turn in turns:
        parts = [new for part in turn.parts if (new := change(part)) is not None]
        found.add(turn.role, parts)
    return found.turns()


def parts(change: Callable[[Part], Part | None]) -> Erase:
    return lambda found: attrs.evolve(found, turns=mapped(found.turns, change))


def without(*kinds: type) -> Erase:
    def change(part: Part) -> Part | None:
        if isinstance(part, kinds):
            return None
        if isinstance(part, ToolResult):
            return attrs.evolve(part, parts=tuple(inner for inner in part.parts if not isinstance(inner, kinds)))
        return part

    return parts(change)


def field(**values: Any) -> Erase:
    return lambda found: attrs.evolve(found, **values)


def unmarked(found: Conversation) -> Conversation:
    def change(part: Any) -> Any:
        if isinstance(part, ToolResult):
            part = attrs.evolve(part, parts=tuple(map(change, part.parts)))
        return attrs.evolve(part, cache_control=None) if hasattr(part, "cache_control") else part

    return attrs.evolve(
        found,
        turns=mapped(found.turns, change),
        system=tuple(map(change, found.system)),
        tools=tuple(map(change, found.tools)),
        cache_control=None,
    )


def as_user(found: Conversation) -> Conversation:
    turns = TurnList()
    for turn in found.turns:
        turns.add(Role.USER if turn.role is Role.SYSTEM else turn.role, turn.parts)
    return attrs.evolve(found, turns=turns.turns())


def without_format(found: Conversation) -> Conversation:
    system = tuple(text for text in found.system if text.text != JSON_MODE)
    return attrs.evolve(found, format=None, system=system)


def changed_image(part: Part) -> Part:
    return attrs.evolve(part, detail=None) if isinstance(part, Image) else part


def no_error(part: Part) -> Part:
    return attrs.evolve(part, is_error=False) if isinstance(part, ToolResult) else part


def uncited(part: Part) -> Part:
    return attrs.evolve(part, citations=False) if isinstance(part, Document) else part


def not_strict(found: Conversation) -> Conversation:
    return attrs.evolve(found, tools=tuple(attrs.evolve(tool, strict=None) for tool in found.tools))


ERASE: Mapping[str, Erase] = {
    "cache_control": unmarked,
    "thinking": without(Thinking, RedactedThinking),
    "reasoning": field(reasoning=None),
    "response_format": without_format,
    "temperature": field(temperature=None),
    "top_p": field(top_p=None),
    "top_k": field(top_k=None),
    "max_tokens": field(max_tokens=None),
    "stop": field(stop=()),
    "metadata": field(metadata={}),
    "service_tier": field(service_tier=None),
    "tool_choice": field(tool_choice=None),
    "parallel_tool_calls": field(parallel_tool_calls=None),
    "tools.strict": not_strict,
    "tool_result.is_error": parts(no_error),
    "tool_result.content": without(Image, Document, Text),  # what moves is no longer in the result
    "image.detail": parts(changed_image),
    "document.citations": parts(uncited),
    "document": without(Document, Text),  # as text, it stands among the texts
    "messages.system": as_user,
    "messages.content.input_audio": field(lost=()),
}


def topic_of(name: str) -> str:
    """The name without how it was changed, and of reasoning and the response format the whole."""
    name = name.partition("(")[0]
    return name.partition(".")[0] if name.startswith(("reasoning.", "response_format.")) else name


def erased(found: Conversation, topics: set[str]) -> Conversation:
    found = attrs.evolve(found, lost=())
    for topic in sorted(topics):
        if topic in ERASE:
            found = ERASE[topic](found)
        else:
            extras = {name: value for name, value in found.extras.items() if name != topic}
            assert len(extras) < len(found.extras) or topic not in ERASE, topic
            found = attrs.evolve(found, extras=extras)
    return found


def overlaps(topic: str, other: str) -> bool:
    wide = {"document", "tool_result.content"}
    return topic in (wide | {"document.citations", "image.detail", "cache_control", "tools.strict"}) and other in wide


def normal(found: Conversation) -> Conversation:
    """One of the several forms that mean the same."""
    form = found.format
    if form is not None and form.schema is not None:
        form = attrs.evolve(form, name=None, description=None, strict=True)
    top = found.temperature
    reasoning = found.reasoning
    if reasoning is not None and reasoning.mode is None:
        off = reasoning.effort == "none"
        reasoning = OFF if off else attrs.evolve(reasoning, mode=ReasoningMode.ADAPTIVE)
    choice, parallel = found.tool_choice, found.parallel_tool_calls
    if not found.tools:
        choice = parallel = None
    elif choice is None:
        choice = ToolChoice(mode=ToolMode.AUTO)
    elif choice.mode is ToolMode.NONE:
        parallel = None
    return attrs.evolve(
        found,
        format=form,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        reasoning=reasoning,
        temperature=None if top == 1 else top,  # every API's own default
        include_usage=False,
        extras=dict(found.extras),
    )
