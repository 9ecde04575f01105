"""What models say, as it may be shown."""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"

# Control characters but for tab and line feed, those of the second half of Latin-1, and halves of surrogate pairs.
# What a model says must not move the cursor, fill the clipboard or rename the window, and has to be encoded.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def showable(text: str) -> str:
    """`text` with nothing in it that a terminal obeys: what it would obey is U+FFFD. CR LF may come in two pieces."""
    return _UNSHOWABLE.sub(REPLACEMENT, text.replace("\r", ""))


def title(text: str, width: int) -> str:
    """The beginning of `text` in one line of at most `width` characters."""
    line = " ".join(showable(text).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
