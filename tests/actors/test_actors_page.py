"""The page of the actor kit: its example and its test do what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio

from infermux.actors.kit import Ref, spawn

ROOT = Path(__file__).parents[2]


async def test_the_example_does_what_its_documentation_shows(
    autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    example = ROOT / "examples" / "actors_clock.py"
    page = (ROOT / "docs" / "actors.md").read_text(encoding="utf-8")
    assert f"```python\n{example.read_text(encoding='utf-8')}```" in page
    names = runpy.run_path(str(example))
    await names["main"]()
    printed = capsys.readouterr().out
    assert "3: ding ding ding" in printed
    assert f"```text\n{printed}```" in page


async def test_the_test_in_the_documentation_passes(nursery: trio.Nursery, autojump_clock: object) -> None:
    names = runpy.run_path(str(ROOT / "examples" / "actors_clock.py"))
    before = trio.current_time()
    clock: Ref[object] = await spawn(nursery, names["Clock"](), name="clock")
    assert await clock.ask(names["Wake"](3)) == 3
    assert trio.current_time() - before == 0.75
