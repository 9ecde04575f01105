"""What is carried along while a configuration is read: where we are, what was wrong, which lines things stand on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import attrs

from infermux.errors import Problem

from . import document
from .interpolate import CannotFill, fill

Path: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_SHOWN = 60


def show_path(path: Path) -> str:
    """`providers[0].timeout`; keys that would be ambiguous are quoted: `pricing.openai["gpt-3.5-turbo"]`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif _BARE.fullmatch(part):
            shown += f".{part}" if shown else part
        else:
            shown += f"[{quoted(part)}]"
    return shown or "(file)"


def quoted(text: str) -> str:
    """In double quotes, on one line, at most 60 characters."""
    short = text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
    return '"' + "".join(char if char.isprintable() else "?" for char in short) + '"'


def before_colon(key: str) -> str:
    """A key that is none, as it may be shown: `api_key:sk-...` without its space has a secret in it."""
    name, colon, _ = key.partition(":")
    return f"{name}:..." if colon else key


def near(word: str, words: Iterable[str]) -> str:
    """`; did you mean "x"?` for the word most like it, or nothing."""
    matches = difflib.get_close_matches(word, sorted(words), n=1, cutoff=0.6)
    return f"; did you mean {quoted(matches[0])}?" if matches else ""


@attrs.frozen
class Literal:
    """A scalar after interpolation. `tag` is what YAML takes it for, `filled` when its value came from elsewhere."""

    text: str
    tag: str
    filled: bool

    @property
    def shown(self) -> str:
        """As it is written in the file. Only for what was not filled and is no secret."""
        if self.tag == "null":
            return "empty"
        return quoted(self.text) if self.tag == "str" else self.text[:_LONGEST_SHOWN]


@attrs.define(eq=False)
class Reading:
    """One pass over one file, and what was read into it from another: see `elsewhere`.

    What depends on a path with a problem is not judged again: see `fine`.
    """

    source: str
    environ: Mapping[str, str]
    problems: list[Problem] = attrs.field(factory=list[Problem])
    warnings: list[Problem] = attrs.field(factory=list[Problem])
    _bad: set[Path] = attrs.field(factory=set[Path])
    _around_bad: set[Path] = attrs.field(factory=set[Path])
    _filled: set[str] = attrs.field(factory=set[str])
    _keys: dict[Path, str] = attrs.field(factory=dict[Path, str])
    _lines: dict[Path, int] = attrs.field(factory=dict[Path, int])
    _elsewhere: dict[Path, tuple[str, str]] = attrs.field(factory=dict[Path, tuple[str, str]])

    def problem(self, path: Path, message: str, line: int | None = None, *, spoils: bool = True) -> None:
        """`spoils` False: the value can be read all the same, what depends on it is still judged."""
        if spoils:
            self.spoil(path)
        self.problems.append(self._made(path, message, line))

    def warn(self, path: Path, message: str) -> None:
        self.warnings.append(self._made(path, message, None))

    def at(self, path: Path, line: int) -> None:
        """Remember that `path` stands on `line`."""
        self._lines[path] = line

    def elsewhere(self, path: Path, file: str, key: str) -> None:
        """Remember that `path`, a provider, is the entry `key` of another file."""
        self._elsewhere[path] = (file, key)

    def says(self, path: Path) -> bool:
        """Whether `path` is written down, be it as it would be anyway."""
        return path in self._lines

    def where(self, path: Path) -> str:
        """The line of `path` for a sentence; with its file, where that is not this one."""
        file, _ = self._elsewhere.get(path[:2], (None, ""))
        return f"line {self.line(path)}{f' of {file}' if file else ''}"

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it that is written down."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def spoil(self, path: Path) -> None:
        """Mark `path` as wrong without a problem of its own."""
        self._bad.add(path)
        self._around_bad.update(path[:length] for length in range(len(path)))

    def fine(self, path: Path) -> bool:
        """Nothing was wrong with `path`, with anything around it, or in it."""
        return path not in self._around_bad and self.readable(path)

    def readable(self, path: Path) -> bool:
        """Nothing was wrong with `path` itself or with anything around it."""
        return not self._bad or not any(path[:length] in self._bad for length in range(len(path) + 1))

    def literal(self, node: document.Scalar, path: Path) -> Literal | None:
        """`node` with its references filled in; None, and a problem, when that cannot be done."""
        if node.tag not in document.PLAIN_TAGS:
            self.problem(path, "YAML tags are not allowed here", node.line)
            return None
        try:
            filled = fill(node.text, self.environ)
        except CannotFill as error:
            self.problem(path, str(error), node.line)
            return None
        if filled.touched:
            self._filled.add(filled.text)
        return Literal(filled.text, node.tag, filled.touched)

    def key(self, entry: document.Entry, path: Path) -> str | None:
        """A key of the user's choice, filled in. `place` finds the way back from it."""
        place = (*path, entry.key)
        literal = self.literal(document.Scalar(entry.key, "str", entry.line), place)
        if literal is None:
            return None
        if literal.filled:
            self._keys[(*path, literal.text)] = entry.key
        return literal.text

    def place(self, path: Path, key: str) -> Path:
        """Where `key`, as it is after filling in, stands in the file."""
        return (*path, self._keys.get((*path, key), key))

    def shown(self, text: str) -> str:
        """`text` in quotes, unless it came from outside the file."""
        return "that" if text in self._filled else quoted(text)

    def listed(self, names: Iterable[str]) -> str:
        """The first ten of `names` that may be shown."""
        may = self.showable(names)
        return ", ".join(may[:10]) + (" ..." if len(may) > 10 else "")

    def showable(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self._filled]

    def meant(self, name: str, names: Iterable[str]) -> str:
        """`; did you mean ...?` among `names`, else what there is."""
        hint = "" if name in self._filled else near(name, self.showable(names))
        return hint or f"; there are: {self.listed(names)}"

    def faults(self, node: document.Mapping, path: Path) -> None:
        """Report what is wrong with the mapping itself: keys that are there twice, keys that are no text."""
        for fault in node.faults:
            self.problem(path if fault.key is None else (*path, fault.key), fault.message, fault.line)

    def _made(self, path: Path, message: str, line: int | None) -> Problem:
        line = self.line(path) if line is None else line
        if path[:2] in self._elsewhere:
            file, key = self._elsewhere[path[:2]]
            rest = () if path[2:] == ("name",) else path[2:]  # its name is its key there
            return Problem(file, line, show_path((key, *rest)), message)
        return Problem(self.source, line, show_path(path), message)
