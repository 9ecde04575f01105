"""Claude Code, where INFERMUX_CLAUDE_CODE names its program: its licence is not an open one, so nothing installs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.applications._applications import reaching
from tests.applications._page import example
from tests.applications._upstreams import Call, Kind, Say, claude
from tests.applications.test_coding_agents import MENDED, RIGHT, TASK, assert_results_went_back, to_mend

PROGRAM = os.environ["INFERMUX_CLAUDE_CODE"]


@pytest.mark.parametrize("kind", ["anthropic", "compatible", "ollama", "bedrock"])
async def test_claude_code_mends_a_file_by_messages(kind: Kind, tmp_path: Path) -> None:
    async with reaching(tmp_path, kind, side=Say("Spelling")) as reached:
        file = to_mend(reached.work)
        settings = dict(line.split("=", 1) for line in example("Claude Code", "sh", reached, kind).split())
        edit = {"file_path": str(file), "old_string": "wrld", "new_string": "world"}
        reached.says(kind, (Call("Read", {"file_path": str(file)}),), (Call("Edit", edit, "call_2"),), MENDED)
        options = ("-p", "--model", claude(kind), "--allowedTools", "Read,Edit")
        done = await reached.run(PROGRAM, *options, "--", TASK, environ=settings)
        assert MENDED.text in done.stdout, done
        assert file.read_text() == RIGHT
        assert_results_went_back(reached, kind)
        assert reached.fence.tried == []
