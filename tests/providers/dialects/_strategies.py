"""Conversations and answers, for the properties that hold for all of them."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Citation,
    Completion,
    Conversation,
    Document,
    Image,
    JsonFormat,
    Part,
    PlainText,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Refusal,
    Role,
    StopReason,
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
from infermux.providers.interface import Usage
from tests.providers.dialects._cases import SCHEMA

TEXTS = st.sampled_from(
    [
        "a",
        "two\nlines",
        'a "quote"',
        "back\\slash",
        "é",
        "😀",
        '{"x":1}',
        "data: x\n\ndata: y",
        "\x00\x1f",
        "a\u2028b",
        "&<>",
    ]
)
"""What has been got wrong before: JSON in text, ends of lines and events, what JSON escapes. Drawn from a list, as
drawing any text takes most of a test's time; `ANY_TEXT` is for the tests that are about text."""
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = st.sampled_from(["a", "f_1", "Get-It", "x" * 64])
MARKS = st.sampled_from([None, CacheControl(), CacheControl(ttl="1h")])
ARGUMENTS = st.sampled_from(["{}", '{"x":1}', '{"x":"é😀","y":[null,true,1.5]}', '{"":{"a":"\\n"}}'])

texts = st.builds(Text, text=TEXTS)
images = st.builds(
    Image,
    source=st.builds(Url, url=st.just("https://example.org/a.png"))
    | st.builds(Base64, data=st.just("QUJD"), media_type=st.just("image/png")),
)
documents = st.builds(
    Document,
    source=st.builds(Base64, data=st.just("QUJD"), media_type=st.just("application/pdf")),
    title=st.just("a.pdf"),
)


def _mark(part: Any, mark: CacheControl | None) -> Any:
    return attrs.evolve(part, cache_control=mark)


def marked(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(_mark, parts, MARKS)


def _tools(*, everything: bool) -> st.SearchStrategy[Tool]:
    return st.builds(
        Tool,
        name=NAMES,
        description=st.none() | TEXTS,
        schema=st.just(SCHEMA),
        strict=st.sampled_from([None, True]) if everything else st.none(),
        cache_control=MARKS if everything else st.none(),
    )


def _user_parts(*, everything: bool) -> st.SearchStrategy[Part]:
    if not everything:
        return texts | images | documents
    detailed = st.builds(Image, source=st.just(Url(url="https://example.org/a.png")), detail=st.just("high"))
    plain = st.builds(Document, source=st.builds(PlainText, text=TEXTS), citations=st.booleans())
    found: st.SearchStrategy[Part] = marked(texts | images | documents | detailed | plain)
    return found


def _lists(items: st.SearchStrategy[Any], least: int, most: int) -> st.SearchStrategy[Any]:
    return st.lists(items, min_size=least, max_size=most)


thoughts = st.builds(Thinking, text=TEXTS, signature=TEXTS) | st.builds(RedactedThinking, data=NAMES)
# By whether everything is to come up. Made once: making strategies takes longer than drawing from them.
TOOLS = {
    flag: st.lists(_tools(everything=flag), max_size=3, unique_by=lambda tool: tool.name) for flag in (False, True)
}
USER_PARTS = {flag: _lists(_user_parts(everything=flag), 1, 2) for flag in (False, True)}
SAID = {False: texts, True: marked(texts)}
SYSTEMS = {flag: _lists(SAID[flag], 0, 2) for flag in (False, True)}
THOUGHTS = {False: st.just([]), True: _lists(thoughts, 0, 1)}
IN_RESULTS = {False: _lists(texts, 1, 2), True: _lists(texts | images, 1, 2)}
STOPS = {False: _lists(TEXTS, 0, 4), True: _lists(TEXTS, 0, 6)}
TIERS = {False: st.sampled_from([None, "auto", "default"]), True: st.sampled_from([None, "auto", "default", "flex"])}
FLAGS = {False: st.just(value=False), True: st.booleans()}
CALLS = st.integers(0, 2)
BOUNDS = st.integers(1, 4000)
USERS = st.none() | NAMES
ORDERS = {count: st.permutations(range(count)) for count in range(3)}


@st.composite
def conversations(draw: st.DrawFn, *, model: str, everything: bool) -> Conversation:
    """A conversation that both dialects carry whole; with `everything`, one that each of them carries in part."""
    tools: list[Tool] = draw(TOOLS[everything])
    turns: list[Turn] = []
    for number in range(draw(CALLS)):
        turns.append(Turn(role=Role.USER, parts=tuple(draw(USER_PARTS[everything]))))
        if draw(FLAGS[everything]):
            turns.append(Turn(role=Role.SYSTEM, parts=(draw(texts),)))
        turns += _exchange(draw, number, tools, everything=everything)
    turns.append(Turn(role=Role.USER, parts=tuple(draw(USER_PARTS[everything]))))
    found = Conversation(
        model=model,
        system=tuple(draw(SYSTEMS[everything])),
        turns=_merged(turns),
        tools=tuple(tools),
        max_tokens=draw(BOUNDS),
        stop=tuple(draw(STOPS[everything])),
        stream=draw(FLAGS[True]),
        user=draw(USERS),
        service_tier=draw(TIERS[everything]),
    )
    if tools:
        modes = [None, ToolMode.AUTO, ToolMode.REQUIRED, ToolMode.NONE, ToolMode.NAMED]
        mode = draw(st.sampled_from(modes))
        name = tools[0].name if mode is ToolMode.NAMED else None
        found = attrs.evolve(found, tool_choice=ToolChoice(mode=mode, name=name) if mode else None)
    return attrs.evolve(found, **draw(THE_REST)) if everything else found


def _exchange(draw: st.DrawFn, number: int, tools: list[Tool], *, everything: bool) -> list[Turn]:
    """An assistant's turn and, when it calls tools, the results."""
    parts: list[Part] = [*draw(THOUGHTS[everything]), draw(SAID[everything])]
    ids = [f"call_{number}_{index}" for index in range(draw(CALLS) if tools else 0)]
    parts += [ToolCall(id=found, name=tools[0].name, arguments=draw(ARGUMENTS)) for found in ids]
    turns = [Turn(role=Role.ASSISTANT, parts=tuple(parts))]
    if ids:
        results = [
            ToolResult(call_id=ids[at], parts=tuple(draw(IN_RESULTS[everything])), is_error=draw(FLAGS[everything]))
            for at in draw(ORDERS[len(ids)])
        ]
        turns.append(Turn(role=Role.USER, parts=tuple(results)))
    return turns


def _merged(turns: list[Turn]) -> tuple[Turn, ...]:
    """Adjacent turns of one role are one; the results, which come first, do."""
    found: list[Turn] = []
    for turn in turns:
        if found and found[-1].role is turn.role:
            found[-1] = attrs.evolve(turn, parts=(*found[-1].parts, *turn.parts))
        else:
            found.append(turn)
    return tuple(found)


REASONINGS = st.sampled_from(
    [
        None,
        *(Reasoning(effort=effort) for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        *(Reasoning(mode=ReasoningMode.BUDGET, budget_tokens=budget) for budget in (500, 1024, 5000, 50_000)),
        Reasoning(mode=ReasoningMode.BUDGET, budget_tokens=2000, summary="summarized"),
        Reasoning(mode=ReasoningMode.ADAPTIVE),
        Reasoning(mode=ReasoningMode.OFF),
    ]
)
THE_REST: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([None, 0.0, 0.5, 1.0, 1.5, 3.0]),
        "top_p": st.sampled_from([None, 0.5, 0.97]),
        "top_k": st.sampled_from([None, 5]),
        "format": st.sampled_from([None, JsonFormat(), JsonFormat(schema=SCHEMA, name="place", strict=True)]),
        "reasoning": REASONINGS,
        "parallel_tool_calls": st.sampled_from([None, False]),
        "metadata": st.sampled_from([{}, {"team": "a"}]),
        "cache_control": MARKS,
        "extras": st.sampled_from([{}, {"seed": 1}, {"container": "c"}, {"logit_bias": {"1": 2}, "speed": "fast"}]),
        "lost": st.sampled_from([(), ("messages.content.input_audio",)]),
    }
)
"""Fields of `Conversation` that one dialect or the other does not carry."""


def _usage(base: int, cached: int, written: int, completion: int, reasoning: int) -> Usage:
    return Usage(
        prompt_tokens=base + cached + written,
        completion_tokens=completion + reasoning,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )


USAGES = st.builds(_usage, *[st.integers(0, 1000)] * 5)
signed_thoughts = st.builds(Thinking, text=TEXTS, signature=NAMES) | st.builds(RedactedThinking, data=NAMES)
cited = st.builds(Text, text=TEXTS, citations=st.tuples(st.builds(Citation, cited_text=TEXTS, url=NAMES, title=NAMES)))
ENDS = st.sampled_from([StopReason.END, StopReason.LENGTH, StopReason.STOP_SEQUENCE, StopReason.REFUSAL])
SIGNED_PARTS = _lists(signed_thoughts | texts | cited, 1, 4)
MAYBE_TEXT = _lists(TEXTS, 0, 1)


@st.composite
def completions(draw: st.DrawFn, *, signed: bool) -> Completion:
    """An answer. `signed`: of a dialect with signatures, texts and thinking in any order; else as chat has them."""
    stop = draw(ENDS)
    parts: list[Part] = []
    if signed:
        parts += draw(SIGNED_PARTS)
    else:
        parts += [Thinking(text=text) for text in draw(MAYBE_TEXT)]
        parts.append(draw(texts))
        parts += [Refusal(text=text) for text in draw(MAYBE_TEXT)] if stop is StopReason.REFUSAL else []
    count = draw(CALLS) if stop is StopReason.END else 0
    parts += [ToolCall(id=f"call_{index}", name=draw(NAMES), arguments=draw(ARGUMENTS)) for index in range(count)]
    return Completion(
        id=draw(NAMES),
        model=draw(NAMES),
        parts=tuple(parts),
        stop=StopReason.TOOL_USE if count else stop,
        stop_sequence=draw(TEXTS) if stop is StopReason.STOP_SEQUENCE else None,
        usage=draw(USAGES),
        created=None if signed else 7,
    )
