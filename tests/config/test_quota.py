"""What control groups leave of the processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from infermux.config.quota import quota


@pytest.mark.parametrize(
    ("group", "files", "found"),
    [
        ("/", {"": "150000 100000"}, 1.5),  # a container's own namespace
        ("/", {"": "max 100000"}, None),
        ("/", {}, None),
        ("/a/b", {"": "max 100000", "a": "200000 100000", "a/b": "400000 100000"}, 2.0),
        ("/a/b", {"a/b": "50000 100000"}, 0.5),
        ("/a/b", {"a/b": "nonsense"}, None),
        ("/../other", {"": "300000 100000"}, 3.0),
    ],
)
def test_the_least_of_all_groups_above_holds(
    tmp_path: Path, group: str, files: dict[str, str], found: float | None
) -> None:
    groups, mount = tmp_path / "cgroup", tmp_path / "mount"
    groups.write_text(f"4:memory:/elsewhere\n0::{group}\n")
    for folder, text in files.items():
        (mount / folder).mkdir(parents=True, exist_ok=True)
        (mount / folder / "cpu.max").write_text(f"{text}\n")
    assert quota(groups, mount) == found


def test_where_there_are_no_such_groups_there_is_no_bound(tmp_path: Path) -> None:
    assert quota(tmp_path / "missing", tmp_path) is None
    (tmp_path / "cgroup").write_text("1:cpu:/\n")
    assert quota(tmp_path / "cgroup", tmp_path) is None
