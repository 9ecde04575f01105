"""Which programs are run, and what becomes of what they print and of their failures."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infermux.installing import tools
from infermux.installing.failures import CannotInstall

Tools = Callable[[str | None, bool], list[list[str]]]


@pytest.fixture
def there_are(monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Sets which tools there are: the path of uv, and whether we have pip. What is run is put into the list."""
    ran: list[list[str]] = []

    def there_are(uv: str | None, pip: bool) -> list[list[str]]:
        def which(name: str) -> str | None:
            return uv

        def run(command: list[str], what: str, hint: str = "") -> None:
            ran.append(command)

        monkeypatch.setattr(shutil, "which", which)
        monkeypatch.setattr(tools, "_has_pip", lambda: pip)
        monkeypatch.setattr(tools, "run", run)
        return ran

    return there_are


def made(ran: list[list[str]], again: str | None = None) -> list[str]:
    tools.make_environment(Path("/e"))
    tools.install("/e/bin/python", "mine", again=again)
    return [" ".join(command) for command in ran]


class TestTools:
    def test_uv_is_taken_where_it_is(self, there_are: Tools) -> None:
        assert made(there_are("/uv", True)) == [
            f"/uv venv --quiet --python {sys.executable} /e",
            "/uv pip install --refresh --python /e/bin/python mine",
        ]

    def test_otherwise_our_own_pip_installs_into_an_environment_without_one(self, there_are: Tools) -> None:
        pip = f"{sys.executable} -m pip --python /e/bin/python install --disable-pip-version-check --no-input"
        assert made(there_are(None, True)) == [f"{sys.executable} -m venv --without-pip /e", f"{pip} mine"]

    def test_and_where_we_have_none_it_gets_one(self, there_are: Tools) -> None:
        assert made(there_are(None, False)) == [
            f"{sys.executable} -m venv /e",
            "/e/bin/python -m pip install --disable-pip-version-check --no-input mine",
        ]

    def test_the_same_version_can_be_installed_again(self, there_are: Tools) -> None:
        _, *ran = made(there_are(None, True), "mine")
        assert [command.split("--no-input ")[1] for command in ran] == ["--force-reinstall --no-deps mine", "mine"]
        _, uv = made(there_are("/uv", True), "mine")[-2:]
        assert "--upgrade --reinstall-package mine" in uv


class TestRunning:
    def test_what_it_prints_goes_to_stderr_as_it_comes(
        self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", "/ours")
        code = "import os, sys; print('said', os.environ.get('PYTHONPATH'), sys.stdin.read())"
        tools.run([sys.executable, "-c", code], "trying")
        out, err = capfd.readouterr()
        assert (out, err) == ("", "said None \n")

    def test_a_failure_says_what_failed_and_how(self) -> None:
        with pytest.raises(CannotInstall, match=r"trying failed: python.* ended with exit code 3, see above; so"):
            tools.run([sys.executable, "-c", "raise SystemExit(3)"], "trying", "; so")
        with pytest.raises(CannotInstall, match="trying failed: timeit ended with exit code 1,"):
            tools.run([sys.executable, "-m", "timeit", "("], "trying")
        with pytest.raises(CannotInstall, match="trying failed: /nowhere/uv: No such file"):
            tools.run(["/nowhere/uv"], "trying")
