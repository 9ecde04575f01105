"""Updating infermux itself, from where it was installed from."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from infermux import __version__

from .environments import origin
from .failures import CannotInstall
from .tools import Say, install

NAME = "infermux"


@attrs.frozen(kw_only=True)
class Origin:
    """`requirement`: what installs it anew. `todo`: what its user can do where that is not for us to do."""

    requirement: str | None = None
    todo: str | None = None


@attrs.frozen(kw_only=True)
class Updated:
    """`after` None: it was not updated, for `todo`."""

    before: str
    after: str | None = None
    todo: str | None = None


def origin_of(found: Distribution | None) -> Origin:
    """Where an installed infermux comes from (direct_url.json, PEP 610)."""
    if found is None:
        return Origin(todo="it is not installed but run from its sources: update those")
    said = origin(found)
    if said is None:
        installer = (found.read_text("INSTALLER") or "").strip()
        with_uv = installer == "uv" or importlib.util.find_spec("pip") is None
        command = f"uv pip install --python {sys.executable} -U" if with_uv else f"{sys.executable} -m pip install -U"
        return Origin(todo=f"it was installed from a package index: {command} {NAME}")
    return _direct(said)


def _direct(said: dict[str, Any]) -> Origin:
    url = str(said.get("url"))
    folder: dict[str, Any] | None = said.get("dir_info")
    if folder is not None:
        path = unquote(urlsplit(url).path)
        if folder.get("editable"):
            return Origin(todo=f"it is an editable installation: update {path}, such as by git -C {path} pull")
        return Origin(requirement=path)
    below = f"#subdirectory={said['subdirectory']}" if said.get("subdirectory") else ""
    vcs: dict[str, Any] | None = said.get("vcs_info")
    if vcs is None:
        return Origin(requirement=f"{NAME} @ {url}{below}")
    revision = f"@{vcs['requested_revision']}" if vcs.get("requested_revision") else ""
    return Origin(requirement=f"{NAME} @ {vcs.get('vcs', 'git')}+{url}{revision}{below}")


def update_own(say: Say) -> Updated:
    """Install the newest of infermux where this process runs from. Raises CannotInstall.

    What runs, this process too, goes on with what it has loaded.
    """
    try:
        found = distribution(NAME)
    except PackageNotFoundError:
        found = None
    known = origin_of(found)
    if known.requirement is None:
        return Updated(before=__version__, todo=known.todo)
    if importlib.util.find_spec("pip") is None and shutil.which("uv") is None:
        raise CannotInstall(f"neither uv nor pip is there to install {known.requirement}")
    say(f"updating infermux from {known.requirement}")
    install(sys.executable, known.requirement, again=NAME)
    return Updated(before=__version__, after=_version_now())


def _version_now() -> str:
    code = f"from importlib.metadata import version; print(version({NAME!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CannotInstall("infermux was installed anew, but cannot be found now; see above")
    return done.stdout.strip()
