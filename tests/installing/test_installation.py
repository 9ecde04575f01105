"""Installing, updating and removing, with environments that are made quickly and providers that really start."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from infermux.errors import ConfigError, NotFound
from infermux.installing import environments, installation
from infermux.installing.environments import MARK, Environment
from infermux.installing.failures import BadSource, CannotInstall
from infermux.installing.registry import Registry
from infermux.installing.sources import Source, source

from . import _quick
from ._project import write_project

pytestmark = pytest.mark.slow  # real providers start

BY_HAND = {"command": ["/usr/local/bin/by-hand", "--flag"], "note": {"of": ["mine"]}}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(environments, "make_environment", _quick.make_environment)
    monkeypatch.setattr(environments, "install", _quick.install)
    return Registry(tmp_path / ".infermux")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def of(project: Path) -> Source:
    return source(path=str(project))


def put(registry: Registry, project: Path, **more: Any) -> installation.Done:
    nothing: dict[str, str] = {}
    given: dict[str, Any] = {"id": "one", "command": None, "env": nothing, "say": _quiet}
    return installation.install(registry, source=of(project), **(given | more))


def _quiet(text: str) -> None:
    """Progress is for people."""


def there(registry: Registry) -> list[Path]:
    return sorted(registry.environments.iterdir()) if registry.environments.exists() else []


class TestInstalling:
    def test_what_starts_and_lists_models_is_written_down_with_its_source_and_version(
        self, registry: Registry, project: Path
    ) -> None:
        done = put(registry, project)
        (environment,) = there(registry)
        command = [str(environment / "env" / "bin" / "mine")]
        assert registry.read() == {"one": {"command": command, "path": str(project), "version": "1.0"}}
        assert [model.id for model in done.models] == ["small"]
        assert registry.file.stat().st_mode & 0o777 == 0o600

    def test_entries_of_others_stay_as_they_are_in_their_order(self, registry: Registry, project: Path) -> None:
        registry.folder.mkdir()
        registry.file.write_text(json.dumps({"z": BY_HAND, "a": BY_HAND | {"crate_name": "x"}}))
        put(registry, project)
        read = json.loads(registry.file.read_text())
        assert list(read) == ["z", "a", "one"]
        assert read["z"] == BY_HAND
        assert read["a"]["crate_name"] == "x"

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"models": ()}, "lists no models"),
            ({"wanted": "something"}, "WANTED is not set as it must be"),
            ({"scripts": ("two", "three")}, "has several programs: three, two; say what starts it"),
            ({"scripts": ()}, "has no program"),
        ],
    )
    def test_what_does_not_work_is_not_kept(
        self, registry: Registry, project: Path, changed: dict[str, Any], message: str
    ) -> None:
        write_project(project, **changed)
        with pytest.raises(CannotInstall, match=message):
            put(registry, project)
        assert there(registry) == []
        assert not registry.file.exists()

    def test_what_cannot_be_installed_leaves_nothing(self, registry: Registry, project: Path) -> None:
        (project / "broken").touch()
        with pytest.raises(CannotInstall, match="exit code 1"):
            put(registry, project)
        assert there(registry) == []

    def test_an_id_that_is_taken_is_refused(self, registry: Registry, project: Path) -> None:
        put(registry, project)
        before = registry.file.read_text()
        with pytest.raises(CannotInstall, match="`infermux provider update one` installs the newest of it"):
            put(registry, project)
        assert registry.file.read_text() == before
        assert len(there(registry)) == 1

    def test_variables_are_given_to_it_and_may_be_taken_from_ours(
        self, registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_project(project, wanted="something")
        monkeypatch.setenv("OURS", "something")
        done = put(registry, project, env={"WANTED": "${OURS}"})
        assert done.entry["env"] == {"WANTED": "${OURS}"}

    def test_a_variable_that_cannot_be_is_refused_before_anything_is_installed(
        self, registry: Registry, project: Path
    ) -> None:
        (project / "broken").touch()
        with pytest.raises(CannotInstall, match=r"one\.env\.KEY: the environment variable OURS is not set"):
            put(registry, project, env={"KEY": "${OURS}"})

    def test_the_program_like_the_package_is_meant_and_another_one_can_be(
        self, registry: Registry, project: Path
    ) -> None:
        write_project(project, scripts=("other", "mine"))
        assert put(registry, project).entry["command"][0].endswith("/bin/mine")
        other = put(registry, project, id="two", command="other --flag 'a b'").entry["command"]
        assert other[0].endswith("/bin/other")
        assert other[1:] == ["--flag", "a b"]
        for wrong in ("none", "/bin/sh", "'", ""):
            with pytest.raises(BadSource, match="--command"):
                put(registry, project, id="three", command=wrong)


class TestUpdating:
    def test_the_newest_takes_its_place_and_what_was_edited_stays(self, registry: Registry, project: Path) -> None:
        put(registry, project)
        entries = registry.read()
        entries["one"]["command"].append("--by-hand")
        entries["one"]["tags"] = ["mine"]
        registry.write({"first": BY_HAND, **entries, "last": BY_HAND})
        write_project(project, version="2.0", models=("small", "large"))
        done = installation.update(registry, "one", say=_quiet)
        read = registry.read()
        assert (done.before, done.entry["version"], len(done.models)) == ("1.0", "2.0", 2)
        assert list(read) == ["first", "one", "last"]
        assert read["one"]["command"][1:] == ["--by-hand"]
        assert read["one"]["tags"] == ["mine"]
        assert len(there(registry)) == 2  # requests may still be with the one before
        installation.tidy(registry, within=0, say=_quiet)
        (left,) = there(registry)
        assert read["one"]["command"][0] == str(left / "env" / "bin" / "mine")

    @pytest.mark.parametrize("changed", [{"models": ()}, {"scripts": ("renamed",)}, {"wanted": "something"}])
    def test_one_that_does_not_work_any_more_is_left_as_it_was(
        self, registry: Registry, project: Path, changed: dict[str, Any]
    ) -> None:
        put(registry, project)
        before = registry.file.read_text()
        write_project(project, version="2.0", **changed)
        with pytest.raises(CannotInstall):
            installation.update(registry, "one", say=_quiet)
        assert registry.file.read_text() == before
        (left,) = there(registry)
        assert (left / "env" / "bin" / "mine").exists()

    def test_one_without_a_source_is_not_for_us_to_update(self, registry: Registry) -> None:
        registry.folder.mkdir()
        registry.write({"z": dict(BY_HAND)})
        with pytest.raises(CannotInstall, match="has no recorded source"):
            installation.update(registry, "z", say=_quiet)
        with pytest.raises(NotFound, match="there are: z"):
            installation.update(registry, "y", say=_quiet)


class TestRemoving:
    def test_its_entry_goes_and_its_environment_with_the_next_command(self, registry: Registry, project: Path) -> None:
        put(registry, project)
        put(registry, project, id="two")
        installation.remove(registry, "one", say=_quiet)
        assert list(registry.read()) == ["two"]
        installation.tidy(registry, within=0, say=_quiet)
        assert [path.name[:4] for path in there(registry)] == ["two-"]

    def test_folders_of_others_are_left_alone(self, registry: Registry, project: Path) -> None:
        (registry.environments / "not-ours").mkdir(parents=True)
        put(registry, project)
        installation.remove(registry, "one", say=_quiet)
        installation.tidy(registry, within=0, say=_quiet)
        assert [path.name for path in there(registry)] == ["not-ours"]

    def test_what_still_runs_keeps_its_environment_until_it_has_ended(
        self, registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = Environment(registry.environments / "one-12345678")
        environment.folder.mkdir(parents=True)
        (environment.folder / MARK).touch()
        monkeypatch.setattr(installation, "LOOK_EVERY", 0.01)
        said: list[str] = []
        command = ["/bin/sh", "-c", "read line", str(environment.bin / "mine")]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
            installation.tidy(registry, within=0, say=said.append)
            assert "still runs" in said.pop()
            installation.remove(registry, put(registry, project, id="two").id, say=said.append)  # nor does a command
            assert environment.folder.exists()
            threading.Timer(0.05, running.communicate).start()
            installation.tidy(registry, within=5, say=said.append)
        assert (there(registry), said) == ([], [])

    def test_a_process_is_seen_from_its_first_moment(self, tmp_path: Path) -> None:
        (tmp_path / "cmdline").touch()
        assert environments.command_of(tmp_path) == []  # of the kernel, or it has ended
        (tmp_path / "exe").symlink_to("/bin/sh")
        starting = threading.Timer(0.05, (tmp_path / "cmdline").write_text, ["sh\0-c\0read line\0"])
        starting.start()
        assert environments.command_of(tmp_path) == ["sh", "-c", "read line", ""]
        starting.join()

    def test_a_process_that_hides_its_words_is_named_by_its_program(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environments, "STARTING_PAUSE", 0)
        (tmp_path / "cmdline").touch()
        (tmp_path / "exe").symlink_to("/bin/sh")
        assert environments.command_of(tmp_path) == ["/bin/sh"]

    def test_a_file_that_would_lose_something_is_not_written(self, registry: Registry) -> None:
        registry.folder.mkdir()
        text = '{"a": {"command": ["x"],\n"env": {"A": "1", "A": "2"}}}'
        registry.file.write_text(text)
        with pytest.raises(ConfigError, match=r"providers\.json:2: A: is there twice, first on line 2"):
            installation.remove(registry, "a", say=_quiet)
        assert registry.file.read_text() == text


@pytest.mark.parametrize("wrong", ["", "a b", "..", "-x", ".x", "infermux.x", "a/b"])
def test_an_id_must_be_fit_for_a_name_and_a_folder(wrong: str) -> None:
    with pytest.raises(BadSource):
        installation.check_id(wrong)
    assert installation.check_id("my-provider_2") == "my-provider_2"
