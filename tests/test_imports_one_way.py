"""Imports point one way: http -> actors -> providers -> the base of `infermux` (errors, secret, config, shared values).

The command line, the server and the embedding API stand on top and import everything. Read from the source, so an
import inside a function or under TYPE_CHECKING counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEIGHT = {"base": 0, "providers": 1, "actors": 2, "http": 3, "top": 4}
ROOMS = ("actors", "http", "providers")
TOP = {
    *("__init__", "__main__", "announcing", "bench", "chat", "cli", "embedding", "installing", "serving", "simulation"),
    "workers",
}


def room_of(parts: tuple[str, ...]) -> str:
    """The room of `infermux.{parts}`; a name that is no module there is what `infermux/__init__.py` offers."""
    name = parts[0] if parts else "__init__"
    if name in ROOMS:
        return name
    module = ROOT / "infermux" / name
    return "base" if name not in TOP and (module.is_dir() or module.with_suffix(".py").is_file()) else "top"


def parts_of(path: Path) -> tuple[str, ...]:
    """('actors', 'mailbox') for actors/mailbox.py, ('cli', 'serve') for infermux/cli/serve.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1:] if parts[0] == "infermux" else parts


def statements_of(tree: ast.Module) -> Iterator[ast.AST]:
    """All that may be an import: expressions, which are most of a tree, have no statements."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, ())


def imports_of(path: Path, source: str) -> Iterator[tuple[int, bool, str]]:
    """Line, whether it is relative, and the absolute name of everything that `source`, the text of `path`, imports."""
    package = ("infermux", *parts_of(path))[:-1]
    for node in statements_of(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, False, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*base, *(node.module.split(".") if node.module else ())))
            yield from ((node.lineno, node.level > 0, f"{origin}.{alias.name}") for alias in node.names)


def wrong_imports(path: Path, source: str) -> Iterator[str]:
    mine = room_of(parts_of(path))
    for line, relative, name in imports_of(path, source):
        first, *rest = name.split(".")
        where = f"{path.relative_to(ROOT)}:{line}: {name}"
        if first in {"actors", "providers"}:
            yield f"{where}: say infermux.{first}"
        if first != "infermux" or name == "infermux.__version__":
            continue
        theirs = room_of(tuple(rest))
        if HEIGHT[theirs] > HEIGHT[mine]:
            yield f"{where}: {mine} must not import {theirs}"
        if relative and theirs != mine and {theirs, mine} & set(ROOMS):
            yield f"{where}: absolute from one folder to another"
        if not relative and theirs == mine and mine in ROOMS:
            yield f"{where}: relative inside a folder"


@pytest.mark.parametrize("room", ["infermux", *ROOMS])
def test_a_module_imports_only_what_is_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert len(files) > 10
    assert [wrong for path in files for wrong in wrong_imports(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("actors/a.py", "from infermux.http.app import app", "actors must not import http"),
        ("actors/a.py", "def f():\n    import infermux.http", "actors must not import http"),
        ("providers/a.py", "from infermux import actors", "providers must not import actors"),
        ("infermux/config/a.py", "from infermux.providers.interface import Usage", "base must not import providers"),
        ("http/a.py", "from infermux import Infermux", "http must not import top"),
        ("http/a.py", "from infermux.cli.main import main", "http must not import top"),
        ("actors/a.py", "from ..errors import InfermuxError", "absolute from one folder to another"),
        ("actors/a.py", "from infermux.actors.mailbox import Mailbox", "relative inside a folder"),
        ("http/a.py", "from actors.mailbox import Mailbox", "say infermux.actors"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str, complaint: str) -> None:
    (found,) = wrong_imports(ROOT / path, source)
    assert found.endswith(complaint)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "http/a.py",
            "from infermux.actors.mailbox import Mailbox\nfrom .exchange import Head\nfrom http import HTTPStatus",
        ),
        ("actors/a.py", "from infermux.providers.interface import Usage\nfrom infermux.errors import InfermuxError"),
        ("http/a.py", "from infermux import __version__"),
        ("infermux/cli/a.py", "from infermux.http.app import app\nfrom . import b"),
        ("infermux/__init__.py", "from .config import load\nfrom .embedding import Router"),
        ("infermux/config/a.py", "from .settings import Config\nfrom infermux.secret import Secret"),
    ],
)
def test_a_right_import_is_let_through(path: str, source: str) -> None:
    assert not list(wrong_imports(ROOT / path, source))
