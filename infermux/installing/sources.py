"""Where a provider is installed from: a package of the index, a git repository, or a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from .failures import BadSource

_PACKAGE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(\[[A-Za-z0-9._, -]+\])?(==[A-Za-z0-9.!+_*-]+)?")
_SCP = re.compile(r"([A-Za-z0-9._-]+@[A-Za-z0-9.-]+):(?!/)(.+)")  # git's short form: git@host:owner/repository
_SCHEMES = ("https", "http", "ssh", "git", "file")


@attrs.frozen(kw_only=True)
class Source:
    """One of `package`, `git`, `path`, as it is recorded; `subdirectory` is one of the repository."""

    package: str | None = None
    git: str | None = None
    subdirectory: str | None = None
    path: str | None = None

    @property
    def requirement(self) -> str:
        """As pip and uv take it."""
        if self.git is not None:
            return f"git+{self.git}" + (f"#subdirectory={self.subdirectory}" if self.subdirectory else "")
        return self.path or self.package or ""

    @property
    def name(self) -> str | None:
        """The package's name, where it is known before it is installed."""
        match = _PACKAGE.fullmatch(self.package or "")
        return match[1] if match else None

    def recorded(self) -> dict[str, str]:
        return {key: value for key, value in attrs.asdict(self).items() if value is not None}

    def __str__(self) -> str:
        where = self.git or self.path or self.package or ""
        return f"{where} ({self.subdirectory})" if self.subdirectory else where


def source(
    *, package: str | None = None, git: str | None = None, subdirectory: str | None = None, path: str | None = None
) -> Source:
    """The source of what was given on the command line. Raises BadSource."""
    if sum(given is not None for given in (package, git, path)) != 1:
        raise BadSource("say where to install from, by one of --package NAME, --git URL and --path DIR")
    if subdirectory is not None:
        if git is None:
            raise BadSource("--subdirectory goes with --git")
        if not re.fullmatch(r"[^#&\s]+", subdirectory) or subdirectory.startswith("/") or ".." in subdirectory:
            raise BadSource("--subdirectory takes a folder inside the repository, such as providers/mine")
    if package is not None and not _PACKAGE.fullmatch(package):
        raise BadSource("--package takes a package's name, or NAME==VERSION")
    if path is not None:
        path = _folder(path)
    return Source(package=package, git=None if git is None else _git(git), subdirectory=subdirectory, path=path)


def source_of(entry: Mapping[str, Any]) -> Source | None:
    """The source that an entry records; None: it has none, or one that is not for Python's installers."""
    if "crate_name" in entry:
        return None
    given = {key: entry[key] for key in ("package", "git", "path") if isinstance(entry.get(key), str)}
    if not given:
        return None
    key = next(key for key in ("git", "path", "package") if key in given)
    below = entry.get("subdirectory") if key == "git" else None
    try:
        return source(**{key: given[key]}, subdirectory=below if isinstance(below, str) else None)
    except BadSource:
        return None


def _folder(path: str) -> str:
    folder = Path(path).expanduser().absolute()
    if not (folder / "pyproject.toml").is_file() and not (folder / "setup.py").is_file():
        raise BadSource(f"--path takes the folder of a Python project: {str(folder)!r} has no pyproject.toml")
    return str(folder)


def _git(url: str) -> str:
    url = url.removeprefix("git+")
    if (short := _SCP.fullmatch(url)) is not None:
        url = f"ssh://{short[1]}/{short[2]}"
    elif "://" not in url and Path(url).expanduser().is_dir():
        url = Path(url).expanduser().absolute().as_uri()
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadSource("--git takes the URL of a repository") from None
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.scheme == "file") or not parts.path.strip("/"):
        raise BadSource(
            "--git takes the URL of a repository, such as https://HOST/OWNER/REPOSITORY, or a folder's path"
        )
    if parts.password is not None or (parts.username is not None and parts.scheme in ("https", "http")):
        raise BadSource(
            "--git takes a URL without a credential, since it is written down: give git a credential helper"
        )
    if parts.fragment or re.search(r"\s", url):
        raise BadSource("--git takes a URL without a fragment; a folder of the repository is named by --subdirectory")
    return url


def same_folder(one: str, other: str) -> bool:
    """Whether two paths lead to the same place."""
    return os.path.realpath(one) == os.path.realpath(other)
