"""What holds for every test: a test that needs a program says so, and a run can be asked to allow no skips."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import os
import shutil
from collections.abc import Generator

import pytest

_NO_SKIPS = "INFERMUX_TEST_NO_SKIPS"


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not go through it each time."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _installed_once() -> Generator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    """What is installed does not change during a run: hundreds of routers need not look through it each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", functools.cache(importlib.metadata.entry_points))
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs("gcc")` where that program is not installed."""
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if shutil.which(program) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: not installed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which anything was skipped if INFERMUX_TEST_NO_SKIPS is set: CI shows what it says it shows."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not (isinstance(reporter, pytest.TerminalReporter) and os.environ.get(_NO_SKIPS)):
        return
    if "skipped" in reporter.stats and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"\n{_NO_SKIPS} is set and {len(reporter.stats['skipped'])} were skipped", red=True)
