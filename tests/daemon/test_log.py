"""The daemon's log, and that it is bounded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from infermux.daemon.log import RollingLog


@pytest.fixture
def descriptors() -> Generator[None]:
    """Stdout and stderr are as before afterwards."""
    kept = [os.dup(1), os.dup(2)]
    yield
    for number, each in enumerate(kept, 1):
        os.dup2(each, number)
        os.close(each)


@pytest.mark.usefixtures("descriptors")
def test_everything_goes_there_also_what_others_print_and_large_files_are_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    path.write_text("before\n")
    log = RollingLog(path, most_bytes=100, kept=2)
    assert log.open() == 7
    assert path.stat().st_mode & 0o777 == 0o644  # as it was: it is not ours to change
    subprocess.run(["/bin/sh", "-c", "echo one; echo two >&2"], check=True)
    assert not log.roll()
    for number in range(4):
        os.write(2, b"%d" % number * 100)
        assert log.roll()
    os.write(1, b"last")
    assert path.read_text() == "last"
    assert path.with_name("daemon.log.1").read_text() == "3" * 100
    assert path.with_name("daemon.log.2").read_text() == "2" * 100
    assert sorted(each.name for each in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1", "daemon.log.2"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("descriptors")
def test_a_log_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    log = RollingLog(tmp_path / "daemon.log")
    log.open()
    (tmp_path / "daemon.log").unlink()
    assert log.roll()
    os.write(1, b"here")
    assert (tmp_path / "daemon.log").read_text() == "here"
