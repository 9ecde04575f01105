"""Compiles the C tools of the bench into bench/build/, when they are missing or older than their sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / "build"
SOURCES = HERE / "c"


class CannotCompile(Exception):
    """There is no C compiler, or it refused: the message says which."""


def compiler() -> str | None:
    """The C compiler to use, None when there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compiled(name: str, *, into: Path = BUILD) -> Path:
    """The executable made of `c/NAME.c`, compiled now if need be."""
    executable = into / name
    if executable.exists() and executable.stat().st_mtime >= _newest_source():
        return executable
    found = compiler()
    if found is None:
        raise CannotCompile("the bench needs a C compiler (Debian: apt-get install gcc libc6-dev)")
    into.mkdir(parents=True, exist_ok=True)
    command = [found, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(executable), str(SOURCES / f"{name}.c")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CannotCompile(f"{' '.join(command)}\n{result.stderr}")
    return executable


def _newest_source() -> float:
    return max(source.stat().st_mtime for source in SOURCES.iterdir())
