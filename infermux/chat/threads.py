"""Conversations on disk: one file for each, JSON lines that are only ever added to.

A line is written, by one `write`, before what it says is shown. So whatever has been on the screen is in the file,
however the process ends (though not however the machine ends: nothing is forced onto the disk). A line that cannot be
read, such as the half of one that a full disk left, is left out, and what follows it is read.

    {"thread": 1, "at": 1767225600.0}                                the first line: the format's version
    {"model": "one/small"}                                           the thread's choice from here on; null: the default
    {"question": "Why?", "at": 1767225600.0}
    {"piece": "Be"}                                                  of the answer, as it came
    {"end": "whole" | "cut" | "broken", "why": "...", "by": "..."}   of the answer; without it: it was cut by a crash
"""

from __future__ import annotations

import enum
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from infermux.errors import InfermuxError

from .text import title

VERSION = 1
MOST_SECONDS = 2**37  # some four thousand years: dates end there
SUFFIX = ".jsonl"
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


class NoThread(InfermuxError):
    """There is no such thread, or it cannot be gone on with."""


class End(enum.Enum):
    """How an answer ended."""

    WHOLE = "whole"
    CUT = "cut"  # by who asked, or with the chat itself
    BROKEN = "broken"  # by whoever answered


@attrs.define(eq=True, kw_only=True)
class Turn:
    """A question and what came of it. `why`: the words of the error; `by`: the provider and model that answered."""

    question: str
    answer: str = ""
    end: End = End.CUT
    why: str = ""
    by: str = ""


@attrs.define(eq=True, kw_only=True)
class History:
    """What a thread's file says. `model`: its choice, None for the default; `at`: its last question, in seconds."""

    model: str | None = None
    turns: list[Turn] = attrs.field(factory=list[Turn])
    at: float = 0.0

    @property
    def title(self) -> str:
        return self.turns[0].question if self.turns else ""

    def add(self, line: Any) -> None:
        """Take in one line. What it does not know is nothing to it."""
        match line:
            case {"question": str(question)}:
                self.turns.append(Turn(question=question))
                self.at = _seconds(line.get("at"), self.at)
            case {"piece": str(piece)} if self.turns:
                self.turns[-1].answer += piece
            case {"end": "whole" | "cut" | "broken" as end} if self.turns:
                turn = self.turns[-1]
                turn.end, turn.why, turn.by = End(end), str(line.get("why", "")), str(line.get("by", ""))
            case {"model": str() | None as model}:
                self.model = model
            case _:
                pass

    def messages(self, question: str) -> list[dict[str, str]]:
        """What to send so that `question` goes on from here, as OpenAI's messages.

        The part of an answer that was cut is said too: it is what the reader refers to. Questions to which nothing was
        answered are left out, since they are mostly asked again.
        """
        said: list[dict[str, str]] = []
        for turn in self.turns:
            if turn.answer:
                said += [
                    {"role": "user", "content": turn.question},
                    {"role": "assistant", "content": turn.answer},
                ]
        return [*said, {"role": "user", "content": question}]


def _seconds(found: Any, default: float) -> float:
    """A time since 1970 that can be shown, else `default`."""
    return float(found) if isinstance(found, int | float) and 0 <= found < MOST_SECONDS else default


def read(data: bytes) -> History:
    """What a file says; lines that cannot be read are left out."""
    history = History()
    for line in data.split(b"\n"):
        try:
            history.add(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return history


@attrs.define(eq=False)
class Thread:
    """One thread. Its file is made by its first question, so that looking leaves nothing behind.

    While it is open no other process can go on with it.
    """

    path: Path
    history: History = attrs.field(factory=History)
    _fd: int | None = None
    _whole_line: bool = attrs.field(default=True, alias="whole_line")  # whether the file ends with one

    @property
    def id(self) -> str:
        return self.path.stem

    @classmethod
    def opened(cls, path: Path) -> Thread:
        """That of a file, to be gone on with. Raises NoThread, OSError."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoThread(f"there is no thread {path.stem}; `/threads` lists them") from None
        try:
            _lock(fd, path.stem)
            with open(fd, "rb", closefd=False) as file:
                data = file.read()
        except BaseException:
            os.close(fd)
            raise
        return cls(path, read(data), fd, whole_line=not data or data.endswith(b"\n"))

    def choose(self, model: str | None) -> None:
        """Go on with this model; None: the default."""
        if model != self.history.model:
            self._add({"model": model}, keep=self._fd is not None)

    def ask(self, question: str) -> None:
        if self._fd is None:
            self._create()
        self._add({"question": question, "at": time.time()})

    def piece(self, text: str) -> None:
        """More of the answer. To be called before it is shown."""
        self._add({"piece": text})

    def end(self, end: End, *, why: str = "", by: str = "") -> None:
        self._add({"end": end.value, "why": why, "by": by})

    def close(self) -> None:
        """Let others go on with it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _create(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _lock(self._fd, self.id)
        self._add({"thread": VERSION, "at": time.time()})
        if self.history.model is not None:
            self._add({"model": self.history.model})

    def _add(self, line: dict[str, Any], *, keep: bool = True) -> None:
        if keep:
            assert self._fd is not None, "a thread begins with a question"
            data = json.dumps(line).encode() + b"\n"  # ASCII: half a surrogate pair can be written too
            self._write(data if self._whole_line else b"\n" + data)
        self.history.add(line)

    def _write(self, data: bytes) -> None:
        """Add a line; what a full disk leaves of it is a line of its own, which nobody can read."""
        assert self._fd is not None
        self._whole_line = False
        while data:
            data = data[os.write(self._fd, data) :]
        self._whole_line = True


def _lock(fd: int, name: str) -> None:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NoThread(f"thread {name} is open in another `infermux chat`") from None


@attrs.frozen(kw_only=True)
class Listed:
    """A thread in the list. `at`: its last question, in seconds since 1970."""

    id: str
    title: str
    model: str | None
    turns: int
    at: float


@attrs.frozen
class Store:
    """The folder of all threads."""

    folder: Path

    def new(self, model: str | None) -> Thread:
        """A thread that has no file yet."""
        name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        return Thread(self.folder / (name + SUFFIX), History(model=model))

    def open(self, name: str) -> Thread:
        """Go on with a thread, given by its id or by the beginning of one alone. Raises NoThread, OSError."""
        found = [path for path in self._paths() if path.stem.startswith(name)] if name else []
        if len(found) != 1:
            which = "is the beginning of several threads" if found else "is no thread"
            raise NoThread(f"{name!r} {which}; `/threads` lists them")
        return Thread.opened(found[0])

    def latest(self) -> Thread:
        """The one that was asked last. Raises NoThread."""
        found = self.listed()
        if not found:
            raise NoThread("there is no thread to go on with yet")
        return self.open(found[0].id)

    def listed(self) -> list[Listed]:
        """All of them, the one asked last first. What cannot be read is left out."""
        return sorted(self._listed(), key=lambda each: (each.at, each.id), reverse=True)

    def _listed(self) -> Iterator[Listed]:
        for path in self._paths():
            try:
                history = read(path.read_bytes())
            except OSError:
                continue
            yield Listed(
                id=path.stem,
                title=title(history.title, 60),
                model=history.model,
                turns=len(history.turns),
                at=history.at,
            )

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if path.suffix == SUFFIX and _ID.fullmatch(path.stem)]
