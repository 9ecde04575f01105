"""A transaction, as those who know their SQL use it: the same over SQLite's own driver and over SQLAlchemy.

SQLAlchemy composes questions (`costs`) and speaks to PostgreSQL. What a router writes down all the time, and asks when
it starts, needs neither on SQLite: there it would cost ten times as much, and ten megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class Unfit(Exception):
    """What the database has against the values themselves: sent again, they would be refused again."""


class Session(Protocol):
    """Statements mark their values by `?` and have no other one. All raise Unfit, and DatabaseUnavailable."""

    @property
    def postgresql(self) -> bool:
        """Else it is SQLite."""
        ...

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """What a question finds."""
        ...

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Change something; how many rows."""
        ...

    def part(self) -> AbstractContextManager[None]:
        """A part of the transaction that is undone where its block raises."""
        ...
