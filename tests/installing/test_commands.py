"""`infermux provider` and `infermux update` as they are used: what they print, their exit codes, who is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infermux.cli import update as update_command
from infermux.daemon.lock import Home
from infermux.installing import environments
from infermux.installing.own import Updated
from infermux.installing.tools import Say
from tests.daemon._daemons import SIMULATED, infermux, write
from tests.daemon._daemons import home as home

from . import _quick
from ._project import build_wheel, write_project

pytestmark = pytest.mark.slow


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "make_environment", _quick.make_environment)
    monkeypatch.setattr(environments, "install", _quick.install)


def as_json(*arguments: str, code: int = 0) -> Any:
    done = infermux(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def served() -> list[str]:
    """The providers of the router in the background."""
    return [each["name"] for each in as_json("status")["router"]["providers"]]


@pytest.mark.usefixtures("quick")
class TestOneAfterTheOther:
    def test_a_provider_comes_is_looked_at_changes_and_goes(self, home: Home) -> None:
        project = write_project(Path("project"), wanted="canary")
        done = infermux("provider", "install", "one", "--path", "project", "--env", "WANTED=canary")
        assert (done.exit_code, done.stdout) == (0, "installed one 1.0 with 1 model: small\n")
        assert done.stderr.splitlines()[0] == f"installing {project.absolute()}"

        (row,) = as_json("provider", "list")["providers"]
        assert row == as_json("provider", "show", "one")
        assert row["env"] == ["WANTED"]
        listed, shown = infermux("provider", "list"), infermux("provider", "show", "one")
        assert listed.stdout.splitlines()[1].split()[:3] == ["one", "1.0", str(project.absolute())]
        assert "canary" not in listed.output + shown.output
        assert infermux("provider", "check").stdout == "one: ok, 1 model: small\n"
        models = as_json("models")["models"]
        assert [(each["provider"], each["model"]) for each in models] == [("one", "small")]

        write_project(project, version="2.0", wanted="canary", models=("small", "large"))
        assert infermux("provider", "update").stdout == "updated one: 1.0 -> 2.0\n"
        assert len([*(home.folder / "providers").iterdir()]) == 1
        assert infermux("provider", "remove", "one").stdout == "removed one\n"
        assert [*(home.folder / "providers").iterdir()] == []
        assert as_json("provider", "list")["providers"] == []

    def test_the_router_in_the_background_serves_what_is_there_now(self, home: Home) -> None:
        home.make()
        write(home.folder / "infermux.yml", SIMULATED)
        assert infermux("start").exit_code == 0
        project = write_project(Path("project"))
        installed = infermux("provider", "install", "two", "--path", "project")
        assert "the router in the background has taken it up" in installed.stderr
        assert served() == ["one", "two"]
        write_project(project, version="2.0", models=("large",))
        assert as_json("provider", "update", "two")["router"] == "reloaded"
        assert as_json("provider", "remove", "two")["router"] == "reloaded"
        assert served() == ["one"]
        (home.folder / "infermux.yml").write_text("listen: 3")
        refused = infermux("provider", "install", "three", "--path", "project")
        assert refused.exit_code == 0
        assert "the router in the background goes on as before: " in refused.stderr
        assert "infermux.yml:1: listen: must be an address" in refused.stderr

    def test_mistakes_are_2_failures_are_1_and_nothing_is_left_of_either(self, home: Home) -> None:
        project = write_project(Path("project"), models=())
        assert infermux("provider", "install", "one").exit_code == 2
        assert infermux("provider", "install", "a b", "--path", "project").exit_code == 2
        assert infermux("provider", "install", "one", "--path", "project", "--command", "none").exit_code == 2
        failed = infermux("provider", "install", "one", "--path", "project")
        assert failed.exit_code == 1
        assert not (home.folder / "providers.json").exists()
        for command in ("show", "update", "remove", "check"):
            assert infermux("provider", command, "one").exit_code == 1
        write(Path("infermux.yml"), {"name": "own", "type": "ollama"})
        write_project(project)
        taken = infermux("provider", "install", "own", "--path", "project")
        assert taken.exit_code == 2
        assert "has a provider named 'own' already" in taken.stderr

    def test_one_that_cannot_be_updated_does_not_stop_the_others(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("one", "two"):
            write_project(Path(name))
            assert infermux("provider", "install", name, "--path", name).exit_code == 0
        write_project(Path("one"), models=())
        write_project(Path("two"), version="2.0")

        def update_own(say: Say) -> Updated:
            return Updated(before="1", todo="do it by hand")

        monkeypatch.setattr(update_command, "update_own", update_own)
        found = as_json("update", code=1)
        one, two = found["providers"]
        assert one == {"id": "one", "error": "one was started and lists no models"}
        assert (two["before"], two["version"], two["error"]) == ("1.0", "2.0", None)
        assert found["infermux"] == {"before": "1", "after": None, "todo": "do it by hand"}
        check = as_json("provider", "check")
        assert [each["ok"] for each in check["providers"]] == [True, True]  # the one before is still there


@pytest.mark.long
def test_it_is_installed_for_real_from_a_package_and_a_repository(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(Path("index").absolute()))
    project = write_project(Path("repository") / "below")
    build_wheel(project, Path("index"))
    assert infermux("provider", "install", "packaged", "--package", "mine==1.0").exit_code == 0
    commit = _committed(Path("repository"))
    arguments = ("--git", "repository", "--subdirectory", "below")
    assert infermux("provider", "install", "cloned", *arguments).exit_code == 0
    packaged, cloned = as_json("provider", "list")["providers"]
    assert (packaged["package"], packaged["version"]) == ("mine==1.0", "1.0")
    assert (cloned["git"], cloned["commit"]) == (Path("repository").absolute().as_uri(), commit)


def _committed(repository: Path) -> str:
    import subprocess

    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
