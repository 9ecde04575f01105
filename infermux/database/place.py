"""Where a database is: the URL of `ledger.url`, checked without asking the database."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs

POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_WHAT = "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"


@attrs.frozen(kw_only=True)
class Place:
    """A database's place. `file` is SQLite's, its `~` expanded, None: in memory, or PostgreSQL's.

    `url` may hold a password and so shows in no repr; `str()` is for people: without user information and query.
    """

    url: str = attrs.field(repr=False)
    postgresql: bool
    file: Path | None = None
    shown: str

    def __str__(self) -> str:
        return self.shown

    @property
    def in_memory(self) -> bool:
        """Whether it lives and dies with this process."""
        return not self.postgresql and self.file is None

    @classmethod
    def of(cls, url: str) -> Place:
        """The place that `url` names. ValueError, with a sentence that shows nothing of it, where it names none.

        `sqlite:///PATH` (relative to the working directory; four slashes begin an absolute path, `~` is the home),
        `sqlite://` (memory), `postgresql://USER:PASSWORD@HOST:PORT/NAME?sslmode=...` as libpq takes them.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or not rest.isprintable():
            raise ValueError(_WHAT)
        if scheme == "sqlite":
            return _sqlite(url, rest)
        if scheme in POSTGRESQL:
            return _postgresql(rest)
        raise ValueError(_WHAT)


def _sqlite(url: str, rest: str) -> Place:
    if rest == "/":
        raise ValueError("must name a file: sqlite:///PATH; sqlite:// is a database in memory")
    if rest in ("", "/:memory:"):
        return Place(url="sqlite://", postgresql=False, shown="sqlite:// (in memory)")
    if not rest.startswith("/") or "?" in rest:
        raise ValueError("must have three slashes and no query: sqlite:///PATH")
    file = Path(os.path.expanduser(unquote(rest[1:])))
    return Place(url=url, postgresql=False, file=file, shown=f"sqlite:///{file}")


def _postgresql(rest: str) -> Place:
    try:
        parts = urlsplit(f"postgresql://{rest}")
        port = parts.port
    except ValueError:  # no number, out of range, brackets that do not match; its message shows a part of the URL
        raise ValueError(_WHAT) from None
    if port == 0:
        raise ValueError(_WHAT)
    if parts.fragment or not parts.path.strip("/"):
        raise ValueError("must name a database: postgresql://USER:PASSWORD@HOST/NAME")
    shown = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return Place(url=f"postgresql+psycopg://{rest}", postgresql=True, shown=shown)
