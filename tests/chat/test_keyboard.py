"""Reports of keys become what plain terminals send, Ctrl+M becomes F2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.chat.keyboard import F2, KITTY_OFF, KITTY_ON, XTERM_OFF, XTERM_ON, Decoder


def decoder() -> tuple[Decoder, list[tuple[str, str]]]:
    learned: list[tuple[str, str]] = []
    return Decoder(lambda on, off: learned.append((on, off))), learned


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("\r", "\r"),
        ("\x1b[109;5u", F2),
        ("\x1b[27;5;109~", F2),
        ("\x1b[109;69u", F2),  # with Caps Lock
        ("\x1b[1100::109;5u", F2),  # on a Cyrillic layout
        ("\x1b[Q", F2),
        ("\x1b[13u", "\r"),
        ("\x1b[13;2u", "\x1b\r"),
        ("\x1b[27;5;13~", "\x1b\r"),
        ("\x1b[99;5u", "\x03"),
        ("\x1b[100;5:1u", "\x04"),
        ("\x1b[27u", "\x1b"),
        ("\x1b[98;3u", "\x1bb"),
        ("\x1b[97:65;4u", "\x1bA"),
        ("\x1b[109;7u", "\x1b\r"),
        ("\x1b[127;5u", "\x7f"),
        ("\x1b[32;5u", "\0"),
        ("\x1b[46;5u", ""),
        ("\x1b[57441;1u", ""),
        ("\x1b[233u", "é"),
        ("\x1b[A\x1b[1;5C\x1b[200~x\x1b[201~", "\x1b[A\x1b[1;5C\x1b[200~x\x1b[201~"),
    ],
)
def test_a_key_is_what_a_plain_terminal_sends(sent: str, meant: str) -> None:
    assert decoder()[0].feed(sent) == meant


@given(st.lists(st.sampled_from(["a", "é", "\r", "\x1b[109;5u", "\x1b[27;5;99~", "\x1b[A", "\x1b[?0u"])), st.data())
def test_it_does_not_matter_how_it_is_cut(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    # Not behind an escape: whoever waits there does not know a sequence from the key.
    places = [at for at in range(len(text)) if text[at - 1 : at] != "\x1b"]
    cuts = sorted(data.draw(st.sets(st.sampled_from(places)))) if places else []
    whole, cut = decoder()[0], decoder()[0]
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(map(cut.feed, pieces)) == whole.feed(text)
    assert cut.flush() == whole.flush() == ""


def test_what_nothing_follows_is_passed_on_when_it_is_flushed() -> None:
    keys, _ = decoder()
    assert keys.feed("a\x1b[") == "a"
    assert keys.flush() == "\x1b["
    assert keys.feed("b") == "b"


@pytest.mark.parametrize(
    ("answer", "learned"),
    [
        ("\x1b[?0u", [(KITTY_ON, KITTY_OFF)]),
        ("\x1b[>4;0m", [(XTERM_ON, XTERM_OFF)]),
        ("\x1b[?62;22c", []),
    ],
)
def test_the_terminal_s_own_answers_are_taken_out_of_what_is_typed(answer: str, learned: list[tuple[str, str]]) -> None:
    keys, found = decoder()
    assert keys.feed(f"a{answer}b") == "ab"
    assert found == learned
