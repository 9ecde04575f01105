"""The screen that the chat is tested on shows what terminals show."""

from __future__ import annotations

import pytest

from tests.chat._screen import Screen


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\r\ntwo", "one\ntwo"),
        ("abc\b\bX", "aXc"),
        ("12345678", "12345\n678"),
        ("12345\rx", "x2345"),  # the cursor waits at the last column
        ("1234漢", "1234\n漢"),
        ("漢字\x1b[2D\x1b[K|", "漢|"),
        ("a\r\nb\r\nc\r\nd", "b\nc\nd"),
        ("\x1b[3;2Hx\x1b[Ay\x1b[9Bz\x1b[9D-", "\n  y\n-x z"),
        ("one\r\ntwo\x1b[H\x1b[1C\x1b[J", "o"),
        ("one\x1b[2Jx", "   x"),
        ("one\x1b[2Kx", "   x"),
        ("\x1b[1;31mred\x1b[0m\x1b[?25l\x1b[?2004h\x1b[>4;2m\x07\x1b]2;title\x07!", "red!"),
    ],
)
def test_what_is_written_is_shown_however_it_is_cut(written: str, shown: str) -> None:
    data = written.encode()
    for cut in range(len(data) + 1):
        screen = Screen(3, 5, print)
        screen.feed(data[:cut])
        screen.feed(data[cut:])
        assert screen.text == shown


def test_it_says_where_the_cursor_is() -> None:
    said: list[str] = []
    Screen(3, 5, said.append).feed(b"ab\r\nc\x1b[6n")
    assert said == ["\x1b[2;2R"]


@pytest.mark.parametrize("unknown", [b"\x1b[3Z", b"\x1b(B", b"\x0e"])
def test_what_it_does_not_know_is_an_error(unknown: bytes) -> None:
    with pytest.raises(AssertionError, match="no terminal of these tests knows"):
        Screen(3, 5, print).feed(unknown)
