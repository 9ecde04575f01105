"""What models say does nothing to the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.chat.text import showable, title


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_what_is_shown_can_be_encoded_and_has_no_control_characters(text: str) -> None:
    shown = showable(text)
    shown.encode()
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown if char not in "\n\t")
    assert showable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\r\nlines\tof text é 漢 🙂", "two\nlines\tof text é 漢 🙂"),
        ("\x1b]52;c;aGk=\x07", "\ufffd]52;c;aGk=\ufffd"),
        ("\x9b2J", "\ufffd2J"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_what_a_terminal_would_obey_is_replaced(text: str, shown: str) -> None:
    assert showable(text) == shown


def test_a_title_is_one_line_that_is_cut() -> None:
    assert title(" a\n b ", 10) == "a b"
    assert title("abcdef", 5) == "abcd…"
