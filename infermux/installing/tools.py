"""The programs that make environments and install into them: uv where it is there, venv and pip otherwise."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .failures import CannotInstall

Say = Callable[[str], None]

# Of this process, and wrong for one of another environment.
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")
_STDERR = 2


def make_environment(folder: Path) -> None:
    """An environment of this Python in `folder`, whose parent is there. Raises CannotInstall."""
    uv = shutil.which("uv")
    if uv is not None:
        run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], "making the environment")
    else:
        # Our own pip can install into it, and copying another one there takes seconds.
        bare = ["--without-pip"] if _has_pip() else []
        hint = "; Debian has venv in a package of its own, python3-venv, and uv does without it"
        run([sys.executable, "-m", "venv", *bare, str(folder)], "making the environment", hint)


def install(python: str, requirement: str, *, again: str | None = None) -> None:
    """Install the newest of `requirement` into the environment of `python`. Raises CannotInstall.

    `again`: the package is there, and is installed anew if it is the same version.
    """
    uv = shutil.which("uv")
    if uv is not None:
        # --refresh: it would take a folder that was built before for unchanged.
        more = [] if again is None else ["--upgrade", "--reinstall-package", again]
        run([uv, "pip", "install", "--refresh", *more, "--python", python, requirement], "installing it")
        return
    pip = [sys.executable, "-m", "pip", "--python", python] if _has_pip() else [python, "-m", "pip"]
    pip += ["install", "--disable-pip-version-check", "--no-input"]
    if again is not None:
        # By itself it takes another commit of the same version for what is there, and when forced to it would install
        # everything anew that the package needs.
        run([*pip, "--force-reinstall", "--no-deps", requirement], "installing it")
    run([*pip, requirement], "installing it")


def _has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def run(command: Sequence[str], what: str, hint: str = "") -> None:
    """Run a program; all that it prints goes to stderr, as it comes. Raises CannotInstall where it fails."""
    environ = {name: value for name, value in os.environ.items() if name not in _OURS}
    environ.setdefault("GIT_TERMINAL_PROMPT", "0")
    try:
        code = subprocess.run(  # noqa: S603 - a list of words, no shell
            command, stdin=subprocess.DEVNULL, stdout=_STDERR, stderr=_STDERR, env=environ, check=False
        ).returncode
    except OSError as error:
        raise CannotInstall(f"{what} failed: {command[0]}: {error.strerror}") from None
    if code:
        # Of `python -m pip` the second one is what its user knows.
        program = command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name
        raise CannotInstall(f"{what} failed: {program} ended with exit code {code}, see above{hint}")
