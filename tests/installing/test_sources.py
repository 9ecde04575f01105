"""Where from: what is taken, what is refused, and what is recorded of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infermux.installing.failures import BadSource
from infermux.installing.sources import source, source_of


@pytest.mark.parametrize(
    ("given", "requirement"),
    [
        ({"package": "my-provider"}, "my-provider"),
        ({"package": "my_provider[extra]==1.0.post1"}, "my_provider[extra]==1.0.post1"),
        ({"git": "https://h/o/r"}, "git+https://h/o/r"),
        ({"git": "git+https://h/o/r.git@v1"}, "git+https://h/o/r.git@v1"),
        ({"git": "git@h:o/r.git", "subdirectory": "p/q"}, "git+ssh://git@h/o/r.git#subdirectory=p/q"),
        ({"git": "ssh://git@h:22/o/r"}, "git+ssh://git@h:22/o/r"),
        ({"git": "file:///srv/r"}, "git+file:///srv/r"),
    ],
)
def test_a_source_is_what_installers_take_and_is_read_back_from_an_entry(
    given: dict[str, str], requirement: str
) -> None:
    found = source(**given)
    assert found.requirement == requirement
    assert source_of({"command": ["x"], "version": "1", **found.recorded()}) == found


def test_folders_are_recorded_with_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert source(path=".").recorded() == {"path": str(tmp_path)}
    assert source(git=".").requirement == f"git+{tmp_path.as_uri()}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "by one of --package NAME, --git URL and --path DIR"),
        ({"package": "a", "git": "https://h/o/r"}, "by one of"),
        ({"package": "--index-url=http://h"}, "--package takes"),
        ({"package": "a @ https://h/a.whl"}, "--package takes"),
        ({"package": "a>=1"}, "--package takes"),
        ({"package": "a", "subdirectory": "b"}, "--subdirectory goes with --git"),
        ({"git": "https://h/o/r", "subdirectory": "../b"}, "--subdirectory takes"),
        ({"git": "https://h/o/r", "subdirectory": "a&egg=b"}, "--subdirectory takes"),
        ({"git": "https://h"}, "--git takes the URL of a repository"),
        ({"git": "ext::sh -c x"}, "--git takes the URL of a repository"),
        ({"git": "--upload-pack=x"}, "--git takes the URL of a repository"),
        ({"git": "https://h/o/r#egg=x"}, "without a fragment"),
        ({"path": "/nowhere"}, "has no pyproject.toml"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSource, match=message):
        source(**given)


@pytest.mark.parametrize("url", ["https://canary@h/o/r", "https://user:canary@h/o/r", "ssh://git:canary@h/o/r"])
def test_credentials_are_not_written_down_nor_shown(url: str) -> None:
    with pytest.raises(BadSource, match="without a credential") as caught:
        source(git=url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"command": ["x"]},
        {"command": ["x"], "crate_name": "x", "git": "https://h/o/r"},  # a crate: cargo's
        {"command": ["x"], "git": 3},
        {"command": ["x"], "package": "-r x"},
    ],
)
def test_entries_without_a_source_of_ours_are_left_to_whoever_wrote_them(entry: dict[str, Any]) -> None:
    assert source_of(entry) is None
