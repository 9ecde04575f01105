"""What holds for every test: a test that needs a program says so, and a run can be asked to allow no skips."""

from __future__ import annotations

import os
import shutil

import pytest

from infermux.config.settings import ProviderSettings
from infermux.providers.prices import loaded_library

_NO_SKIPS = "INFERMUX_TEST_NO_SKIPS"


def pytest_sessionstart() -> None:
    """Load the prices now: a fleet would load them in a thread, and virtual time does not wait for threads."""
    loaded_library(ProviderSettings(name="any", type="openai"))


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
