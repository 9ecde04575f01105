"""The end of a JSON value is seen where it is, however it is cut."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.dialects.json_end import JsonEnd
from tests._properties import examples

LEAVES = st.text(alphabet='a"\\{}[]\n\u00e9', max_size=8) | st.integers() | st.none()
VALUES = st.recursive(
    st.dictionaries(st.text(max_size=3), LEAVES, max_size=3) | st.lists(LEAVES, max_size=3) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(80), deadline=None)
@given(VALUES, st.integers(1, 5), st.booleans())
def test_the_end_is_seen_at_the_last_character_and_not_before(value: object, size: int, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    end = JsonEnd()
    for start in range(0, len(text) - 1, size):
        end.feed(text[start : min(start + size, len(text) - 1)])
        assert not end.seen
    end.feed("")
    assert not end.seen
    end.feed(text[-1])
    assert end.seen


def test_white_space_and_words_have_no_end() -> None:
    end = JsonEnd()
    end.feed(" \n 12 null ")
    assert not end.seen
