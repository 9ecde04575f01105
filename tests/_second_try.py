"""A second try for tests on real sockets: a machine that is busy with other things may be late for them once.

A test marked `slow` that fails is run once more, at once. A second failure counts. A first one is printed in full and
counted in a line above pytest's closing line, which stays as pytest writes it; where more than a few are, the run
fails, since that is no chance.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

FORGIVEN: Final = 5
OUTCOME: Final = "tried twice"
Status = tuple[str, str, tuple[str, dict[str, bool]]]


class SecondTry:
    """The plugin. In a run on several processes each tries its own again, the first one counts."""

    def __init__(self) -> None:
        self._first: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run `item`, twice if need be. None: not one of these, run as any other."""
        if item.get_closest_marker("slow") is None:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if (failed := next((each for each in reports if each.failed), None)) is not None:
            failed.outcome = OUTCOME  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
            hook.pytest_runtest_logreport(report=failed)
            getattr(item, "_initrequest")()  # noqa: B009 - fixtures are made anew; pytest has no public name for it
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_report_teststatus(self, report: pytest.TestReport) -> Status | None:
        if str(report.outcome) != OUTCOME:
            return None
        return "", "R", ("TRIED TWICE", {"yellow": True})  # no category: those are in the closing line

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if str(report.outcome) == OUTCOME:
            self._first.append(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for report in self._first:
            terminalreporter.section(f"failed at first: {report.nodeid}", yellow=True)
            report.toterminal(terminalreporter._tw)  # pyright: ignore[reportPrivateUsage]
        if self._first:
            terminalreporter.write_line(f"{len(self._first)} {OUTCOME}", yellow=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Fail a run with more of them than chance has."""
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        many = len(self._first) > FORGIVEN and session.exitstatus == pytest.ExitCode.OK
        if many and isinstance(reporter, pytest.TerminalReporter):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            reporter.write_line(f"\n{len(self._first)} tests failed at first: more than chance has", red=True)
        return (yield)
