"""What is typed is a command or a question."""

from __future__ import annotations

import pytest

from infermux.chat.commands import HELP, Command, Question, Unknown, parse


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("", None),
        (" \n ", None),
        ("Why?", Question("Why?")),
        ("/model", Command("/model")),
        ("/model  quick/large ", Command("/model", "quick/large")),
        ("/quit\n", Command("/quit")),
        ("/mo small", Command("/model", "small")),
        ("/", Unknown("/")),
        ("/modle", Unknown("/modle")),
        (" /model is what?", Question("/model is what?")),
        ("/etc/hosts has what in it?", Question("/etc/hosts has what in it?")),
        ("/model\nis what?", Question("/model\nis what?")),
    ],
)
def test_a_line_is_understood(line: str, meaning: object) -> None:
    assert parse(line) == meaning


def test_every_command_is_known_by_its_name() -> None:
    assert [parse(name) for name in HELP] == [Command(name) for name in HELP]
