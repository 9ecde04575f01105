"""Where a continuation meets what was said: nothing twice, nothing lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.seam import Seam
from tests._properties import examples

SAID = "It rains. The sky over the harbour is grey."


def joined(said: str, more: str, *, repeats: bool, pieces: int = 1) -> str:
    """The whole text, the continuation fed in pieces of so many characters."""
    seam = Seam(said, repeats=repeats)
    fed = [seam.feed(more[at : at + pieces]) for at in range(0, len(more), pieces)]
    return said + "".join(fed) + seam.flush()


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize(
    ("said", "more", "whole"),
    [
        (SAID, " It is late.", SAID + " It is late."),
        (SAID, "The sky over the harbour is grey. It is late.", SAID + " It is late."),
        (SAID, " over the harbour is grey. It is late.", SAID + " It is late."),
        (SAID, SAID + " It is late.", SAID + " It is late."),
        (SAID, "\n\n" + SAID + " It is late.", SAID + " It is late."),
        (SAID + " ", " It is late.", SAID + " It is late."),
        (SAID + "\n", "\n\nIt is late.", SAID + "\n\nIt is late."),
        ("Hello wor", "ld", "Hello world"),
        ("Hello wor", "Hello world", "Hello world"),
        ("Hel", "lo", "Hello"),
        ("the cat, the", " cat, the dog", "the cat, the cat, the dog"),
        (SAID, "", SAID),
        (SAID, SAID, SAID),
        (SAID, "is grey", SAID + "is grey"),
        ("", " It is late.", " It is late."),
        ("\n", "\nIt is late.", "\nIt is late."),
    ],
)
def test_last_words_that_are_said_again_are_said_once(said: str, more: str, whole: str, pieces: int) -> None:
    assert joined(said, more, repeats=True, pieces=pieces) == whole


def test_a_beginning_that_was_given_is_not_looked_for_again() -> None:
    assert joined("ha ha ha ha ha ha ha", " ha ha ha ha ha", repeats=False) == "ha " * 11 + "ha"


def test_text_goes_on_as_soon_as_it_is_new() -> None:
    seam = Seam(SAID, repeats=True)
    assert [seam.feed(piece) for piece in (" It", " is", " late", ".")] == ["", " It is", " late", "."]


WORDS = st.lists(st.sampled_from([f"w{number}x" for number in range(200)]), min_size=1, max_size=30, unique=True)


@settings(max_examples=examples(60), deadline=None)
@given(words=WORDS, where=st.floats(0, 1), pieces=st.integers(1, 40), repeats=st.booleans(), gap=st.sampled_from(" \n"))
def test_the_exact_rest_gives_the_whole_text(
    words: list[str], where: float, pieces: int, repeats: bool, gap: str
) -> None:
    """What a provider goes on with that was given the text without the white space at its end."""
    whole = "".join(itertools.chain.from_iterable((word, gap) for word in words))
    said = whole[: int(where * len(whole))]
    assert joined(said, whole[len(said.rstrip()) :], repeats=repeats, pieces=pieces) == whole
