"""Compiles the C tools into a folder of infermux's home, once for each version of their sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "c"


class CannotCompile(Exception):
    """There is no C compiler, or it refused: the message says which."""


def compiler() -> str | None:
    """The C compiler to use, None when there is none. The tools are made of epoll, which only Linux has."""
    if not sys.platform.startswith("linux"):
        return None
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_folder() -> Path:
    """~/.infermux/bench/DIGEST: of these sources, so that versions beside each other do not mix."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    return Path(os.environ.get("HOME") or "/", ".infermux", "bench", digest.hexdigest()[:16])


def compiled(name: str, *, into: Path | None = None) -> Path:
    """The executable made of `c/NAME.c`, compiled now if need be. Raises CannotCompile."""
    executable = (into or build_folder()) / name
    if executable.exists():
        return executable
    found = compiler()
    if found is None:
        raise CannotCompile("this needs Linux and a C compiler (Debian: apt-get install gcc libc6-dev)")
    try:
        executable.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made beside it and put in its place whole: another bench may be doing the same.
        with tempfile.TemporaryDirectory(dir=executable.parent) as folder:
            made = Path(folder, name)
            _compile([found, "-O2", "-o", str(made), str(SOURCES / f"{name}.c")])
            made.replace(executable)
    except OSError as error:
        raise CannotCompile(f"{executable.parent} cannot be written: {error.strerror}") from None
    return executable


def _compile(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CannotCompile(f"{' '.join(command)}\n{result.stderr}")
