"""References in strings: to the environment, to files, and the way to write a dollar sign."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.config.interpolate import LARGEST_SECRET_FILE, CannotFill, Filled, fill
from tests._properties import examples

ENVIRON = {"A": "one", "B": "two", "EMPTY": "", "TRICKY": "${A} $$"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", Filled("plain", False)),
        ("$", Filled("$", False)),
        ("pa$word", Filled("pa$word", False)),
        ("${A}", Filled("one", True)),
        ("<${A}-${B}>", Filled("<one-two>", True)),
        ("${EMPTY}", Filled("", True)),
        ("${EMPTY:-x}", Filled("x", True)),
        ("${NONE:-x y:-z}", Filled("x y:-z", True)),
        ("${NONE:-}", Filled("", True)),
        ("${A:-x}", Filled("one", True)),
        ("$${A}", Filled("${A}", False)),
        ("$$$${A}", Filled("$${A}", False)),
        ("$$${A}", Filled("$one", True)),
        ("${TRICKY}", Filled("${A} $$", True)),
    ],
)
def test_references_are_filled_once(text: str, filled: Filled) -> None:
    assert fill(text, ENVIRON) == filled


@pytest.mark.parametrize("text", ["${NONE}", "${", "${A", "${}", "${1A}", "${A-x}", "${A:x}", "${ A}", "${NONE:-${A}}"])
def test_what_gives_nothing_is_refused(text: str) -> None:
    with pytest.raises(CannotFill):
        fill(text, ENVIRON)


def test_a_file_is_read_without_the_newline_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"secret\r\n\n")
    assert fill(f"Bearer ${{file:{tmp_path}/key}}", {}) == Filled("Bearer secret", True)


def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (LARGEST_SECRET_FILE + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "large", "larger than 64 KiB"),
        (tmp_path / "binary", "not UTF-8"),
        ("/a\0b", "not a usable path"),
    ):
        with pytest.raises(CannotFill, match=reason) as caught:
            fill(f"${{file:{path}}}", {})
        assert str(path) in str(caught.value)


@given(st.text(alphabet="$${}:-AB", max_size=20))
@settings(max_examples=examples(120), deadline=None)
def test_any_text_is_filled_or_refused(text: str) -> None:
    try:
        filled = fill(text, ENVIRON)
    except CannotFill:
        return
    assert filled.touched or "${" not in text.replace("$$", "")


@given(st.text(max_size=30))
@settings(max_examples=examples(100), deadline=None)
def test_doubling_every_dollar_keeps_any_text(text: str) -> None:
    assert fill(text.replace("$", "$$"), {}) == Filled(text, False)
