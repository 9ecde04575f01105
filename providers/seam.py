"""Where a continuation meets the text it goes on from. Pure."""

from __future__ import annotations

from typing import Final

LEAST_REPEATED: Final = 12
"""Characters that are the same by chance are fewer: below it a repetition is taken for the answer's own."""
LEAST_BEGUN_ANEW: Final = 4  # as above, where all of the text is repeated


class Seam:
    """Takes the continuation's text and returns what is new in it.

    The provider was given the text so far without its trailing white space, so the continuation begins with that again
    or leaves it out; it comes once. With `repeats` the model may also have said its last words once more, or begun
    anew: what is held back to see that is text which the answer has word for word. A repetition counts from the start
    of a word and from a dozen characters on.
    """

    __slots__ = ("_blank", "_done", "_held", "_repeats", "_said")

    def __init__(self, said: str, *, repeats: bool) -> None:
        self._said = said.rstrip()
        self._blank = said[len(self._said) :]
        self._repeats = repeats and bool(self._said)
        self._held = ""
        self._done = not self._blank and not self._repeats

    def feed(self, text: str) -> str:
        """What is new and certain, "" while nothing is."""
        if self._done:
            return text
        self._held += text
        if self._repeats and not self._passed_repetition(final=False):
            return ""
        return self._pass_blank(final=False)

    def flush(self) -> str:
        """At the end: what was held back and is new."""
        if self._done:
            return ""
        if self._repeats:
            self._passed_repetition(final=True)
        return self._pass_blank(final=True)

    def _passed_repetition(self, *, final: bool) -> bool:
        """Cut a repetition off; False while more of the text could turn out to be one."""
        words = self._held.lstrip()
        if not final and (not words or words in self._said):
            return False
        self._repeats = False
        size = self._repeated(words)
        if size:
            self._held = words[size:]
        return True

    def _repeated(self, words: str) -> int:
        """How many characters of `words` are the end of what was said."""
        said = self._said
        for size in range(min(len(words), len(said)), LEAST_BEGUN_ANEW - 1, -1):
            if not said.endswith(words[:size]):
                continue
            if size == len(said) or (size >= LEAST_REPEATED and not said[-size - 1].isalnum()):
                return size
        return 0

    def _pass_blank(self, *, final: bool) -> str:
        """The white space that the caller has already is not said twice."""
        held, blank = self._held, self._blank
        same = 0
        while same < min(len(held), len(blank)) and held[same] == blank[same]:
            same += 1
        if same == len(held) < len(blank) and not final:
            return ""
        self._done = True
        self._held = ""
        return held[same:]
