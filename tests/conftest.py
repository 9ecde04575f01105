"""What holds for every test: a test that needs a program says so, and a run can be asked to allow no skips."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from glob import glob
from pathlib import Path
from typing import Any

import certifi
import hypothesis
import pytest
from werkzeug.routing import Rule

from infermux.config.settings import ProviderSettings
from infermux.providers.prices import loaded_library
from tests._properties import WHOLE, examples
from tests._second_try import SecondTry

_NO_SKIPS = "INFERMUX_TEST_NO_SKIPS"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give every test, and what it starts, a home of its own: whose tests these are has a ledger at ~/.infermux.

    Properties that say nothing else are tried with a hundred examples in the long form.
    """
    home = tempfile.TemporaryDirectory(prefix="infermux-home-")
    os.environ["HOME"] = home.name
    _trust_one_authority(Path(home.name, "authority.pem"))
    config.pluginmanager.register(SecondTry())
    config.add_cleanup(home.cleanup)
    hypothesis.settings.register_profile("infermux", max_examples=examples(100))
    hypothesis.settings.load_profile("infermux")


def _trust_one_authority(file: Path) -> None:
    """Let the system's store be one authority's: to read all that there are takes longer than most tests do."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
    file.write_text(first[first.index("-----BEGIN") :] + end + "\n", encoding="utf-8")
    os.environ["SSL_CERT_FILE"] = str(file)
    os.environ.pop("SSL_CERT_DIR", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`, unless this is the long form or a test is asked for by its name."""
    if WHOLE or any("::" in name for name in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("long") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("long") is None]


def pytest_sessionstart() -> None:
    """Load the prices now: a fleet would load them in a thread, and virtual time does not wait for threads."""
    loaded_library(ProviderSettings(name="any", type="openai"))


def which(program: str) -> str | None:
    """The path of a program; those of PostgreSQL are not on Debian's PATH."""
    return shutil.which(program) or next(iter(sorted(glob(f"/usr/lib/postgresql/*/bin/{program}"), reverse=True)), None)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not go through it each time."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _installed_once() -> Generator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    """What is installed does not change during a run: hundreds of routers need not look through it each.

    Nor need each compile two functions a route to build addresses with (a third of what an application costs): they are
    compiled when one is built, which is never.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", functools.cache(importlib.metadata.entry_points))
        patch.setattr(Rule, "_compile_builder", _compiled_when_used(Rule._compile_builder))  # pyright: ignore[reportPrivateUsage]
        yield


def _compiled_when_used(compiled: Callable[[Rule, bool], Callable[..., Any]]) -> Callable[[Rule, bool], Any]:
    def builder(rule: Rule, append_unknown: bool) -> Callable[..., Any]:
        def build(itself: Rule, **values: Any) -> Any:
            return compiled(rule, append_unknown)(itself, **values)

        return build

    return builder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs("gcc")` where that program is not installed."""
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if which(program) is None]
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
