"""A late test on real sockets is tried once more, and that is seen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.tools import ROOT
from tests._second_try import FORGIVEN

CONFTEST = """
from tests._second_try import SecondTry

def pytest_configure(config):
    config.pluginmanager.register(SecondTry())
    config.addinivalue_line("markers", "slow: real time")
"""
HEAD = """
import pytest

tried = []

@pytest.fixture
def times(request):
    tried.append(request.node.name)
    return tried.count(request.node.name)
"""


def run(folder: Path, *tests: str) -> tuple[int, str]:
    """The exit code of a run of `tests`, and what it printed."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(HEAD + "\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", f"--rootdir={folder}"]
    # Without the plugins that are installed, which it does not use: to load them takes longer than all else.
    environ = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, str(folder)], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def late(name: str, *, passes_at: int = 2, mark: str = "@pytest.mark.slow") -> str:
    return f"{mark}\ndef test_{name}(times):\n    assert times >= {passes_at}\n"


@pytest.mark.slow
def test_a_late_test_passes_at_its_second_try_and_the_first_is_shown(tmp_path: Path) -> None:
    code, said = run(tmp_path, late("late"))
    assert code == 0, said
    *_, counted, closing = said.splitlines()
    assert counted == "1 tried twice"
    assert re.fullmatch(r"=* ?1 passed in [0-9.]+s ?=*", closing), "as pytest writes it"
    assert "assert 1 >= 2" in said


@pytest.mark.slow
@pytest.mark.long
def test_what_fails_twice_or_goes_by_no_clock_fails(tmp_path: Path) -> None:
    code, said = run(tmp_path, late("never", passes_at=3), late("plain", mark=""))
    assert code == 1
    assert "\n1 tried twice\n" in said
    assert "2 failed in " in said


@pytest.mark.slow
@pytest.mark.long
def test_many_late_tests_are_no_chance(tmp_path: Path) -> None:
    code, said = run(tmp_path, *(late(f"late{number}") for number in range(FORGIVEN + 1)))
    assert code == 1, said
    assert "more than chance has" in said
