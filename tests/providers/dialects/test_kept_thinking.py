"""The store of thinking: what it gives back, to whom, for how long and how much of it."""

from __future__ import annotations

from infermux.providers.dialects.kept_thinking import ThinkingStore
from infermux.providers.dialects.neutral import RedactedThinking, Role, Text, Thinking, ToolCall, Turn

SIGNED = Thinking(text="hm", signature="s")
REDACTED = RedactedThinking(data="d")
CALL = ToolCall(id="a", name="f", arguments='{"x": 1, "y": 2}')
OTHER = ToolCall(id="b", name="g", arguments="{}")


def assistant(*parts: Text | Thinking | ToolCall | RedactedThinking) -> Turn:
    return Turn(role=Role.ASSISTANT, parts=parts)


def kept(*parts: Text | Thinking | ToolCall | RedactedThinking, **bounds: float) -> ThinkingStore:
    store = ThinkingStore(**bounds)  # type: ignore[arg-type]
    store.keep(parts, 0.0)
    return store


def test_the_thinking_before_a_call_comes_back_before_the_turn_s_text() -> None:
    store = kept(SIGNED, REDACTED, Text(text="t"), CALL)
    (turn,) = store.put_back([assistant(Text(text="t"), CALL)], 1.0)
    assert turn.parts == (SIGNED, REDACTED, Text(text="t"), CALL)


def test_thinking_between_calls_comes_back_between_them() -> None:
    later = Thinking(text="now", signature="s2")
    store = kept(SIGNED, CALL, later, OTHER)
    (turn,) = store.put_back([assistant(CALL, OTHER)], 1.0)
    assert turn.parts == (SIGNED, CALL, later, OTHER)


def test_the_unsigned_words_a_caller_sends_back_give_way_to_the_signed_ones() -> None:
    store = kept(SIGNED, CALL)
    (turn,) = store.put_back([assistant(Thinking(text="hm"), CALL)], 1.0)
    assert turn.parts == (SIGNED, CALL)


def test_a_turn_with_signed_thinking_of_its_own_is_left_alone() -> None:
    store = kept(SIGNED, CALL)
    turn = assistant(Thinking(text="mine", signature="s9"), CALL)
    assert store.put_back([turn], 1.0) == (turn,)


def test_the_same_arguments_written_differently_are_the_same_call() -> None:
    store = kept(SIGNED, CALL)
    again = ToolCall(id="a", name="f", arguments='{"y":2,"x":1}')
    assert store.put_back([assistant(again)], 1.0)[0].parts == (SIGNED, again)


def test_an_id_alone_gets_nothing() -> None:
    store = kept(SIGNED, CALL)
    for call in (ToolCall(id="a", name="g", arguments=CALL.arguments), ToolCall(id="a", name="f", arguments="{}")):
        assert store.put_back([assistant(call)], 1.0)[0].parts == (call,)


def test_only_signed_thinking_before_a_call_is_kept() -> None:
    assert len(kept(Thinking(text="unsigned"), CALL)) == 0
    assert len(kept(SIGNED, Text(text="no call"))) == 0
    assert len(kept(SIGNED, CALL)) == 1


def test_thinking_is_forgotten_after_its_time() -> None:
    store = kept(SIGNED, CALL, seconds=10.0)
    assert store.put_back([assistant(CALL)], 9.9)[0].parts == (SIGNED, CALL)
    assert store.put_back([assistant(CALL)], 10.0)[0].parts == (CALL,)
    store.keep([SIGNED, OTHER], 10.0)
    assert len(store) == 1


def test_the_oldest_goes_when_there_are_too_many() -> None:
    store = kept(SIGNED, CALL, most=1)
    store.keep([SIGNED, OTHER], 1.0)
    assert store.put_back([assistant(CALL)], 1.0)[0].parts == (CALL,)
    assert store.put_back([assistant(OTHER)], 1.0)[0].parts == (SIGNED, OTHER)


def test_the_oldest_go_when_there_is_too_much_and_what_never_fits_is_not_kept() -> None:
    store = ThinkingStore(most_bytes=2000)
    big = Thinking(text="x" * 800, signature="s")
    for number in range(5):
        store.keep([big, ToolCall(id=str(number), name="f", arguments="{}")], 0.0)
    assert len(store) == 1
    store.keep([Thinking(text="x" * 3000, signature="s"), CALL], 0.0)
    assert len(store) == 1
    assert repr(store) == "ThinkingStore(1 entries, 1315 bytes)"


def test_a_call_kept_twice_counts_once() -> None:
    store = kept(SIGNED, CALL)
    before = repr(store)
    store.keep([SIGNED, CALL], 1.0)
    assert repr(store) == before
