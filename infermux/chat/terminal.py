"""The terminal: a line to type in, with completion and keys, and a list to pick from.

prompt_toolkit runs each of them in an event loop of its own that ends with it, so nothing of it is there while an
answer is read.
"""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.styles import Style

from .commands import HELP
from .keyboard import ASK, ASK_XTERM, Decoder
from .models import Row

STYLE = Style.from_dict(
    {"bottom-toolbar": "noreverse", "prompt": "bold", "completion-menu.meta.completion": "noinherit"}
)
PICK = "/model"  # what F2 is short for


class Screen(Protocol):
    """What the chat needs of a terminal."""

    def line(self, prompt: str, toolbar: Callable[[], str]) -> str:
        """A line that was typed. Raises EOFError at Ctrl+D."""
        ...

    def pick(self, prompt: str, rows: Sequence[Row]) -> str | None:
        """The value of one of `rows`, or what was typed instead; None: left as it is."""
        ...

    def write(self, text: str) -> None:
        """Show at once."""
        ...

    def quiet(self) -> AbstractContextManager[None]:
        """While an answer comes: what is typed is not shown, and is there at the next prompt. Ctrl+C is a signal."""
        ...

    def remember(self, questions: Iterable[str]) -> None:
        """What Arrow-Up brings back, the oldest first."""
        ...


class _Keyboard(Vt100Parser):
    """prompt_toolkit's parser of keys behind a decoder: it does not know the reports of newer terminals."""

    def __init__(self, callback: Callable[[KeyPress], None], learned: Callable[[str, str], None]) -> None:
        super().__init__(callback)
        # One of its own, since the parser calls its own `feed` again with the rest of what it was given.
        self._inner = Vt100Parser(callback)
        self._decoder = Decoder(learned)

    def feed(self, data: str) -> None:
        self._inner.feed(self._decoder.feed(data))

    def flush(self) -> None:
        self._inner.feed(self._decoder.flush())
        self._inner.flush()


class Terminal:
    """A real one, on stdin and stdout."""

    def __init__(self) -> None:
        self._switches: tuple[str, str] | None = None  # what turns the better reports of keys on and off
        self._asked = False
        self._draft = ""
        self._input = self._with_keyboard(create_input())
        self._prompt: PromptSession[str] = PromptSession(
            input=self._input,
            history=InMemoryHistory(),
            completer=_Commands(),
            complete_while_typing=True,
            key_bindings=self._bindings(),
            style=STYLE,
            enable_suspend=True,
            prompt_continuation="  ",
        )

    def line(self, prompt: str, toolbar: Callable[[], str]) -> str:
        draft, self._draft = self._draft, ""
        with self.quiet(), self._reports():  # the terminal's answer must not be echoed either
            return self._prompt.prompt(
                FormattedText([("class:prompt", prompt)]),
                default=draft,
                bottom_toolbar=lambda: FormattedText([("class:bottom-toolbar", toolbar())]),
            )

    def pick(self, prompt: str, rows: Sequence[Row]) -> str | None:
        bindings = KeyBindings()

        @bindings.add("c-c", eager=True)
        @bindings.add("<sigint>")
        @bindings.add("c-d", eager=True)
        @bindings.add("escape", eager=True)
        @bindings.add("f2")
        def leave(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - a binding
            event.app.exit(result="")

        session: PromptSession[str] = PromptSession(
            input=self._input,
            completer=_Rows(rows),
            complete_while_typing=True,
            key_bindings=bindings,
            style=STYLE,
            reserve_space_for_menu=12,
            erase_when_done=True,
            bottom_toolbar="type to narrow it down, arrows and Enter to take one, Escape to leave it as it is",
        )

        def open_menu() -> None:
            session.default_buffer.start_completion(select_first=False)

        with self.quiet(), self._reports():
            typed = session.prompt(FormattedText([("class:prompt", prompt)]), pre_run=open_menu)
        return meant(rows, typed)

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    @contextmanager
    def quiet(self) -> Generator[None]:
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin, termios.TCSANOW)
        try:
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)

    def remember(self, questions: Iterable[str]) -> None:
        history = InMemoryHistory(list(questions))
        self._prompt.history = history
        self._prompt.default_buffer.history = history

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("f2")
        def pick(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - a binding
            self._draft = event.current_buffer.text
            event.current_buffer.text = ""
            event.app.exit(result=PICK)

        @bindings.add("c-c")
        @bindings.add("<sigint>")
        def clear(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - a binding
            event.current_buffer.reset()

        @bindings.add("escape", "enter")
        def line(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - a binding
            event.current_buffer.insert_text("\n")

        return bindings

    def _with_keyboard(self, source: Input) -> Input:
        if isinstance(source, Vt100Input):
            source.vt100_parser = _Keyboard(source.vt100_parser.feed_key_callback, self._learned)
        return source

    def _learned(self, on: str, off: str) -> None:
        if self._switches is None:
            self._switches = (on, off)
            self.write(on)

    @contextmanager
    def _reports(self) -> Generator[None]:
        """Have keys told apart while something is typed; the first time ask the terminal whether it can."""
        self._begin_reports()
        try:
            yield
        finally:
            if self._switches is not None:
                self.write(self._switches[1])

    def _begin_reports(self) -> None:
        if self._switches is not None:
            self.write(self._switches[0])
        elif not self._asked:
            self._asked = True
            kind = os.environ.get("TERM", "")
            if kind not in ("", "dumb", "linux"):
                self.write(ASK + (ASK_XTERM if kind.startswith("xterm") else ""))


class _Commands(Completer):
    """The commands, while one is typed."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if text.startswith("/") and " " not in text:
            for name, meaning in HELP.items():
                if name.startswith(text) and name != text:
                    yield Completion(name, start_position=-len(text), display_meta=meaning)


class _Rows(Completer):
    """Every row that has all the words that are typed."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text_before_cursor
        for row in matching(self._rows, typed):
            yield Completion(row.value, start_position=-len(typed), display_meta=row.note)


def matching(rows: Sequence[Row], typed: str) -> list[Row]:
    """The rows that have all the words of `typed`, whatever their case: those with all in the value before others."""
    words = typed.casefold().split()
    best = [row for row in rows if _has(row.value, words)]
    return best + [row for row in rows if row not in best and _has(f"{row.value} {row.note}", words)]


def _has(text: str, words: Sequence[str]) -> bool:
    return all(word in text.casefold() for word in words)


def meant(rows: Sequence[Row], typed: str) -> str | None:
    """What was picked: the value of the row that matches best, where only one does, else what was typed.

    None: nothing was.
    """
    typed = typed.strip()
    if not typed or any(row.value == typed for row in rows):
        return typed or None
    found = matching(rows, typed)
    best = [row for row in found if _has(row.value, typed.casefold().split())] or found
    return best[0].value if len(best) == 1 else typed
