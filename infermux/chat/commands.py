"""What begins with a slash."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

HELP: Mapping[str, str] = {
    "/model": "pick the model of this thread; `/model NAME` takes that one, `/model auto` the default (F2)",
    "/threads": "pick a thread to go on with; `/threads ID` takes that one",
    "/new": "begin a new thread",
    "/help": "list the commands and keys",
    "/quit": "leave; the thread is kept",
}
KEYS: Mapping[str, str] = {
    "F2": "/model, with what is typed kept; Ctrl+M too where the terminal tells it from Enter",
    "Alt+Enter": "a new line",
    "Ctrl+C": "end the answer that comes; at the prompt: clear what is typed",
    "Ctrl+D": "leave",
}


@attrs.frozen
class Command:
    """A command with its argument, "" for none."""

    name: str
    argument: str = ""


@attrs.frozen
class Question:
    """Something to ask the model."""

    text: str


@attrs.frozen
class Unknown:
    """What begins like a command and is none."""

    word: str


def parse(line: str) -> Command | Question | Unknown | None:
    """What was typed; None: nothing. A question that has to begin with a slash begins with a space before it.

    The beginning of a command will do, where it is of one alone. Neither a path (`/etc/hosts is ...`) nor a text of
    several lines is a command.
    """
    text = line.strip()
    if not text:
        return None
    word, _, argument = text.partition(" ")
    if line[0] != "/" or "/" in word[1:] or "\n" in text:
        return Question(text)
    meant = [name for name in HELP if name.startswith(word)]
    return Command(meant[0], argument.strip()) if len(meant) == 1 else Unknown(word)
