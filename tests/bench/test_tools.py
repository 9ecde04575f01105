"""The C tools: without a warning, compiled once for each version of their sources, and missed without harm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infermux.bench import tools
from infermux.bench.load import PYTHON, generator_for
from infermux.bench.tools import SOURCES, CannotCompile, compiled


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ["load", "mock"])
def test_a_tool_compiles_without_a_warning(name: str) -> None:
    strict = ["gcc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(SOURCES / f"{name}.c")]
    done = subprocess.run(strict, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a tool that is made in no time, in a home of its own."""
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "tool.c").write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(tools, "SOURCES", folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


@pytest.mark.needs("cc")
def test_a_tool_is_made_once_for_each_version_of_its_source(sources: Path, tmp_path: Path) -> None:
    first = compiled("tool")
    assert first.is_relative_to(tmp_path / "home" / ".infermux" / "bench")
    made = first.stat().st_mtime_ns
    assert compiled("tool").stat().st_mtime_ns == made
    (sources / "tool.c").write_text("int main(void) { return 1; }\n")
    assert compiled("tool") != first
    assert first.exists()
    assert [file.name for file in first.parent.iterdir()] == ["tool"]


@pytest.mark.needs("cc")
def test_what_does_not_compile_is_told(sources: Path) -> None:
    (sources / "tool.c").write_text("int main(void) { return nobody; }\n")
    with pytest.raises(CannotCompile, match="nobody"):
        compiled("tool")


@pytest.mark.needs("cc")
def test_a_home_that_cannot_be_written_is_told(sources: Path, tmp_path: Path) -> None:
    del sources
    (tmp_path / "home").touch()
    with pytest.raises(CannotCompile, match="cannot be written"):
        compiled("tool")


def test_without_a_compiler_the_load_is_sent_by_python(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del sources
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(CannotCompile, match="C compiler"):
        compiled("tool")
    assert generator_for("http://127.0.0.1:9/v1") == PYTHON
