"""What commands print: problems on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import click

from infermux.errors import Problem


def print_problems(problems: Sequence[Problem]) -> None:
    """One line each on stderr, then how many."""
    for problem in problems:
        click.echo(str(problem), err=True)
    click.echo(f"{counted(len(problems), 'problem')}; nothing was started", err=True)


def print_warnings(warnings: Sequence[Problem]) -> None:
    """One line each on stderr, marked as warnings."""
    for warning in warnings:
        click.echo(f"{warning.file}:{warning.line}: {warning.path}: warning: {warning.message}", err=True)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_dicts(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [attrs.asdict(problem) for problem in problems]


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people on a terminal, aligned columns of the same for a pipe: nothing is cut off there."""
    if sys.stdout.isatty():
        _print_rich(columns, rows)
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
