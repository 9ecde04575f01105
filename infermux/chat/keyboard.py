"""Keys that plain terminals do not tell apart, such as Ctrl+M from Enter, where the terminal can.

Two ways of reporting them are understood. Kitty's keyboard protocol, flags 1 (unambiguous) and 4 (with the key of the
basic layout, since Ctrl+C is to be that on a Cyrillic keyboard too):
https://sw.kovidgoyal.net/kitty/keyboard-protocol/. And xterm's modifyOtherKeys 2:
https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (XTMODKEYS, XTQMODKEYS). Either is switched on only once the
terminal has said that it knows it, and only at the prompt: while an answer comes, Ctrl+C has to be a signal.
"""

from __future__ import annotations

import re
from collections.abc import Callable

ASK = "\x1b[?u"
ASK_XTERM = "\x1b[?4m"
KITTY_ON, KITTY_OFF = "\x1b[>5u", "\x1b[<u"
XTERM_ON, XTERM_OFF = "\x1b[>4;2m", "\x1b[>4m"

F2, KITTY_F2 = "\x1bOQ", "\x1b[Q"
SHIFT, ALT, CONTROL = 1, 2, 4
_M = ord("m")
_ENTER = 13

_KITTY = re.compile(r"\x1b\[(\d+)(?::\d*(?::(\d+))?)?(?:;(\d+)(?::\d+)?)?(?:;[\d:]*)?u")
_XTERM = re.compile(r"\x1b\[27;(\d+);(\d+)~")
_ANSWER = re.compile(r"\x1b\[(\?\d+u|>4;?\d*m|\?[\d;]*c)")
_BEGUN = re.compile(r"\x1b\[[?>]?[\d:;]*\Z")
_NOT_LETTERS = {" ": "\0", "@": "\0", "2": "\0", "[": "\x1b", "\\": "\x1c", "]": "\x1d", "^": "\x1e", "_": "\x1f"}


class Decoder:
    """Turns such reports into what plain terminals send, and Ctrl+M into F2. Everything else stays as it is.

    `learned` is called with the sequences that switch a way on and off, once the terminal has said that it knows it.
    """

    def __init__(self, learned: Callable[[str, str], None]) -> None:
        self._learned = learned
        self._rest = ""

    def feed(self, text: str) -> str:
        """What can be passed on. A sequence that is not over waits for the rest of it."""
        text = self._rest + text
        begun = _BEGUN.search(text)
        self._rest = begun[0] if begun else ""
        text = text[: len(text) - len(self._rest)]
        text = _ANSWER.sub(self._answered, text).replace(KITTY_F2, F2)
        text = _KITTY.sub(lambda m: plain(int(m[2] or m[1]), _modifiers(m[3])), text)
        return _XTERM.sub(lambda m: plain(int(m[2]), _modifiers(m[1])), text)

    def flush(self) -> str:
        """What waits, since nothing has followed."""
        rest, self._rest = self._rest, ""
        return rest

    def _answered(self, match: re.Match[str]) -> str:
        if match[1].endswith("u"):
            self._learned(KITTY_ON, KITTY_OFF)
        elif match[1].endswith("m"):
            self._learned(XTERM_ON, XTERM_OFF)
        return ""


def _modifiers(number: str | None) -> int:
    """The bits of a report, which says one more; Caps Lock and the like change nothing here."""
    return (int(number or 1) - 1) & (SHIFT | ALT | CONTROL)


def plain(code: int, modifiers: int) -> str:
    """What a plain terminal sends for a key; "" where it has nothing for it.

    Ctrl+M is F2, and Enter with Shift, Alt or Control is Alt+Enter.
    """
    if code == _ENTER:
        return "\x1b\r" if modifiers else "\r"
    if not 0 < code < 128:  # keys without a character, and those of other scripts
        return chr(code) if 160 <= code < 0xD800 and not modifiers & CONTROL else ""
    if modifiers & CONTROL:
        if code | 32 == _M and not modifiers & ALT:
            return F2
        key = _control(chr(code))
    else:
        key = chr(code).upper() if modifiers & SHIFT else chr(code)
    return "\x1b" + key if modifiers & ALT and key else key


def _control(key: str) -> str:
    if key.isalpha():
        return chr(ord(key) & 0x1F)
    if ord(key) < 32 or ord(key) == 127:
        return key
    return _NOT_LETTERS.get(key, "")
