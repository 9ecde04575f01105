"""The rooms stand at the top of the repository and are imported as parts of `infermux`, through three links."""

from __future__ import annotations

import http
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import infermux

ROOT = Path(__file__).parent.parent
ROOMS = ("actors", "http", "providers")


def test_the_tests_import_this_checkout() -> None:
    assert Path(infermux.__file__).resolve() == ROOT / "infermux" / "__init__.py"


@pytest.mark.parametrize("room", ROOMS)
def test_each_link_is_the_folder_at_the_top(room: str) -> None:
    link = ROOT / "infermux" / room
    assert link.is_symlink(), f"{link} is not a link; with git on Windows: core.symlinks=true"
    assert link.readlink() == Path("..") / room
    assert link.samefile(ROOT / room)


@pytest.mark.parametrize("folder", [*ROOMS, "tests", "bench"])
def test_no_top_folder_is_a_regular_package(folder: str) -> None:
    assert not list((ROOT / folder).glob("__init__.py"))


def test_http_is_the_standard_library_s() -> None:
    assert http.__file__ is not None
    assert Path(http.__file__).is_relative_to(sysconfig.get_path("stdlib"))


def test_http_is_the_standard_library_s_for_python_run_from_the_root() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import http.client, infermux.http as room; print(http.__file__, list(room.__path__)[0])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    stdlib_file, room = done.stdout.split()
    assert Path(stdlib_file).is_relative_to(sysconfig.get_path("stdlib"))
    assert Path(room).samefile(ROOT / "http")
