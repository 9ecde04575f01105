"""Where infermux itself comes from, by what its installer has written down (PEP 610)."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from infermux import __version__
from infermux.installing import own
from infermux.installing.own import Origin, Updated, origin_of, update_own


def installed(tmp_path: Path, said: dict[str, Any] | None, installer: str = "pip") -> Distribution:
    info = tmp_path / "infermux-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: infermux\nVersion: 1.0\n")
    (info / "INSTALLER").write_text(f"{installer}\n")
    if said is not None:
        (info / "direct_url.json").write_text(json.dumps(said))
    return Distribution.at(info)


@pytest.mark.parametrize(
    ("said", "requirement"),
    [
        ({"url": "file:///srv/a%20b", "dir_info": {}}, "/srv/a b"),
        ({"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, "infermux @ git+https://h/r"),
        (
            {
                "url": "https://h/r",
                "subdirectory": "d",
                "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "c0ffee"},
            },
            "infermux @ git+https://h/r@main#subdirectory=d",
        ),
        ({"url": "file:///srv/infermux.whl", "archive_info": {}}, "infermux @ file:///srv/infermux.whl"),
    ],
)
def test_it_is_installed_anew_from_a_folder_a_repository_or_an_archive(
    tmp_path: Path, said: dict[str, Any], requirement: str
) -> None:
    assert origin_of(installed(tmp_path, said)) == Origin(requirement=requirement)


@pytest.mark.parametrize(
    ("said", "installer", "todo"),
    [
        (None, "pip", "from a package index: .* -m pip install -U infermux"),
        (None, "uv", "from a package index: uv pip install --python .* -U infermux"),
        ({"url": "file:///srv/a", "dir_info": {"editable": True}}, "pip", "editable installation: update /srv/a"),
    ],
)
def test_otherwise_its_user_is_told_what_to_do(
    tmp_path: Path, said: dict[str, Any] | None, installer: str, todo: str
) -> None:
    found = origin_of(installed(tmp_path, said, installer))
    assert found.requirement is None
    assert found.todo is not None
    assert re.search(todo, found.todo)


def test_the_installer_is_told_to_install_it_again_where_we_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    said: list[str] = []
    found = installed(tmp_path, {"url": "file:///srv/a", "dir_info": {}})

    def distribution(name: str) -> Distribution:
        return found

    def install(python: str, requirement: str, *, again: str | None = None) -> None:
        asked.append((python, requirement, again))

    monkeypatch.setattr(own, "distribution", distribution)
    monkeypatch.setattr(own, "install", install)
    monkeypatch.setattr(own, "_version_now", lambda: "2.0")
    done = update_own(said.append)
    assert done == Updated(before=__version__, after="2.0")
    assert asked == [(sys.executable, "/srv/a", "infermux")]
    assert said == ["updating infermux from /srv/a"]
