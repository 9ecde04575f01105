"""What a terminal shows of what a program writes: as much of ECMA-48 and xterm as `infermux chat` uses.

A sequence that is not known is an error, so nothing is shown wrongly because it was passed over.
https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from prompt_toolkit.utils import get_cwidth

_PART = re.compile(
    r"\x1b\[(?P<given>[?>=<]?[\d;:]*)(?P<csi>[@-~])|\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|(?P<control>[\r\n\b\x07])|(?P<text>[^\x00-\x1f\x7f])"
)
_BEGUN = re.compile(r"\x1b(\[[?>=<]?[\d;:]*|\][^\x07\x1b]*\x1b?)?\Z")
_WIDE_END = ""  # the second cell of a wide character

# Colours, modes, reports of keys: what does not change which characters are where.
_NOTHING_TO_SEE = re.compile(r"[\d;:]*m|\?[\d;]+[hl]|>4(;\d)?m|\?4m|\?u|[<>]\d*u|\d* q")


class Screen:
    """`lines` are the cells that are shown. `answer` is called with what the terminal says to the program."""

    def __init__(self, rows: int, columns: int, answer: Callable[[str], None]) -> None:
        self._columns = columns
        self._answer = answer
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self.lines = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip()

    def feed(self, data: bytes) -> None:
        text = self._rest + self._decoder.decode(data)
        begun = _BEGUN.search(text)
        self._rest = begun[0] if begun else ""
        at, end = 0, len(text) - len(self._rest)
        while at < end:
            part = _PART.match(text, at, end)
            assert part is not None, f"no terminal of these tests knows {text[at : at + 20]!r}"
            at = part.end()
            if part["csi"] is not None:
                self._sequence(part["given"], part["csi"])
            elif part["control"] is not None:
                self._control(part["control"])
            elif part["text"] is not None:
                self._put(part["text"])

    def _control(self, control: str) -> None:
        match control:
            case "\r":
                self._column = 0
            case "\n":
                self._down()
            case "\b":
                self._column = max(0, self._column - 1)
            case _:
                pass  # the bell

    def _down(self) -> None:
        if self._row < len(self.lines) - 1:
            self._row += 1
        else:
            self.lines = [*self.lines[1:], [" "] * self._columns]

    def _put(self, character: str) -> None:
        width = get_cwidth(character)
        if self._column + width > self._columns:  # only now: the last column of a line is not its end yet
            self._column = 0
            self._down()
        if width:
            self.lines[self._row][self._column : self._column + width] = [character, *[_WIDE_END] * (width - 1)]
            self._column += width

    def _sequence(self, given: str, kind: str) -> None:
        if _NOTHING_TO_SEE.fullmatch(given + kind):
            return
        numbers = [int(number or 0) for number in given.split(";")]
        by = max(1, numbers[0])
        match kind:
            case "A":
                self._go(self._row - by, self._column)
            case "B":
                self._go(self._row + by, self._column)
            case "C":
                self._go(self._row, self._column + by)
            case "D":
                self._go(self._row, self._column - by)
            case "H":
                self._go(by - 1, max(1, numbers[1]) - 1 if len(numbers) > 1 else 0)
            case "J" | "K" if numbers[0] in (0, 2):
                self._erase(whole=numbers[0] == 2, below=kind == "J")
            case "n" if numbers == [6]:
                self._answer(f"\x1b[{self._row + 1};{min(self._column, self._columns - 1) + 1}R")
            case _:
                raise AssertionError(f"no terminal of these tests knows CSI {given} {kind}")

    def _go(self, row: int, column: int) -> None:
        self._row = min(max(0, row), len(self.lines) - 1)
        self._column = min(max(0, column), self._columns - 1)

    def _erase(self, *, whole: bool, below: bool) -> None:
        for number, line in enumerate(self.lines):
            if number == self._row or (below and (whole or number > self._row)):
                start = self._column if number == self._row and not whole else 0
                line[start:] = [" "] * (self._columns - start)
