"""What a crew needs before its first worker is started."""

from __future__ import annotations

import pytest

from infermux.workers.opening import room_for_sockets


def test_sockets_go_where_their_paths_are_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, wanted in (("/var/tmp", "/var/tmp"), ("/" + "x" * 90, "/tmp")):
        monkeypatch.setattr("tempfile.tempdir", folder)
        assert room_for_sockets() == wanted
