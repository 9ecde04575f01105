"""What a process prints, as the log shows it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.processes.output import LINES_PER_SECOND, LONGEST_LINE, Allowance, Cleaner, Splitter

NOTHING = Cleaner.of({})


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_lines_are_the_same_however_they_come(data: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    splitter = Splitter()
    lines = [line for a, b in pairwise(bounds) for line in splitter.feed(data[a:b])]
    *whole, rest = data.split(b"\n")
    assert lines == [line.removesuffix(b"\r") for line in whole]
    assert splitter.rest == rest


def test_a_line_without_an_end_takes_no_more_than_its_bound() -> None:
    splitter = Splitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 65536) == []
    assert len(splitter.rest) == LONGEST_LINE + 1
    (line,) = splitter.feed(b"\n")
    assert NOTHING.clean(line) == "x" * LONGEST_LINE + " ... (cut)"
    assert splitter.feed(b"next\n") == [b"next"]


def test_what_a_terminal_would_obey_and_what_is_no_text_is_escaped() -> None:
    assert NOTHING.clean(b"a\tb \x1b[31mred\x1b[0m \xff\xfe \x07\r \xc2\x9b1m") == (
        r"a" "\t" r"b \x1b[31mred\x1b[0m \xff\xfe \x07\r \x9b1m"
    )
    assert NOTHING.clean("grün \u202egnp.exe\u2028".encode()) == r"grün \u202egnp.exe\u2028"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_every_line_is_printable(line: bytes) -> None:
    assert NOTHING.clean(line).replace("\t", "").replace("\xad", "").isprintable() or not line.isascii()
    assert "\n" not in NOTHING.clean(line)
    assert "\x1b" not in NOTHING.clean(line)


def test_values_of_its_environment_are_shown_by_name() -> None:
    cleaner = Cleaner.of(
        {"KEY": "sk-abcdef", "LONG": "sk-abcdef-and-more", "DEBUG": "1", "PEM": "BEGIN\nMIIEpA==\nEND"}
    )
    assert cleaner.clean(b"with sk-abcdef-and-more, sk-abcdef and 1") == "with [LONG], [KEY] and 1"
    assert cleaner.clean(b"MIIEpA==") == "[PEM]"


def test_what_else_is_secret_is_starred() -> None:
    cleaner = Cleaner.of({"KEY": "sk-abcdef"}, ("tk-123456", "sk-abcdef"))
    assert cleaner.clean(b"sk-abcdef is not tk-123456") == "[KEY] is not ***"


@settings(max_examples=50, deadline=None)
@given(before=st.integers(0, 40), between=st.integers(0, 4200))
def test_no_part_of_a_secret_is_shown_where_a_line_is_cut(before: int, between: int) -> None:
    secret = b"abcdefghijklmnopqrstuvwxyz"
    cleaner = Cleaner.of({"K": secret.decode()})
    splitter = Splitter(spare=cleaner.longest)
    (line,) = splitter.feed(secret * before + b"-" * between + secret * 3 + b"-" * 5000 + b"\n")
    assert not set(cleaner.clean(line).removesuffix(" ... (cut)")) & set(secret.decode())


def test_so_many_lines_a_second_and_the_number_of_the_others() -> None:
    allowance = Allowance()
    admitted = [allowance.admits(10.5) for _ in range(LINES_PER_SECOND + 7)]
    assert admitted == [True] * LINES_PER_SECOND + [False] * 7
    assert allowance.claim(11.4) == 0
    assert allowance.claim(11.5) == 7
    assert allowance.claim(11.5) == 0
    assert allowance.admits(11.5)
