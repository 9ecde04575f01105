"""The guide's table of faults is the wall."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.faults._page import HEAD, rows

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"


def test_the_table_of_faults_says_what_the_wall_holds() -> None:
    table = "\n".join((HEAD, *rows()))
    assert table in PAGE.read_text(), "python -m tests.e2e.faults._page prints the table as it is now"
