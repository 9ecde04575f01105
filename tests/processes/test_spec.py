"""What can be said about a process without starting it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from infermux.processes.spec import NotLaunched, Spec, environment, folder, program


def spec(*command: str, **more: Any) -> Spec:
    return Spec(name="one", command=command, **more)


def test_a_bare_name_is_looked_up_on_its_own_path(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.touch(mode=0o755)
    wanted = spec("tool", env={"PATH": str(tmp_path)})
    assert program(wanted, environment(wanted, {"PATH": "/usr/bin"})) == str(tool)
    with pytest.raises(NotLaunched, match=r"'tool' is not found on its PATH \(/usr/bin\)"):
        program(wanted, {"PATH": "/usr/bin"})


def test_a_path_is_that_of_the_home_or_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tool").touch(mode=0o755)
    (tmp_path / "text").touch(mode=0o644)
    assert program(spec("~/tool"), {}) == str(tmp_path / "tool")
    assert program(spec("./tool", cwd=tmp_path), {}) == str(tmp_path / "tool")
    assert folder(spec("tool", cwd=Path("~"))) == tmp_path
    with pytest.raises(NotLaunched, match=r"'\./nothing' does not exist"):
        program(spec("./nothing", cwd=tmp_path), {})
    for name in ("~/text", str(tmp_path)):
        if os.geteuid() or name == str(tmp_path):
            with pytest.raises(NotLaunched, match="not a program that may be run"):
                program(spec(name), {})
    with pytest.raises(NotLaunched, match="'/no/where' is not a folder"):
        folder(spec("x", cwd=Path("/no/where")))


def test_its_environment_is_what_is_declared_and_what_every_program_needs() -> None:
    ours = {"PATH": "/bin", "HOME": "/root", "LANG": "C", "OPENAI_API_KEY": "x", "LC_ALL": "C"}
    assert environment(spec("x", env={"A": "b", "LANG": "C.UTF-8"}), ours) == {
        "PATH": "/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "A": "b",
    }
    assert environment(spec("x"), {}) == {}


def test_its_secrets_are_not_in_its_repr_and_a_command_is_needed() -> None:
    assert "sesame" not in repr(spec("x", env={"KEY": "sesame"}))
    with pytest.raises(ValueError, match="command"):
        spec()
