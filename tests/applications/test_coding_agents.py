"""Coding agents that read and edit a file with tools, whatever kind of provider their model is at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.applications._applications import CODEX, OPENCODE, Reached, reaching
from tests.applications._page import example, program
from tests.applications._upstreams import Call, Give, Kind, Say, claude, gpt

TASK = "Mend the spelling in greeting.txt"
WRONG, RIGHT = "Hello, wrld!\n", "Hello, world!\n"
MENDED = Say("The greeting is spelt right now.")
SUNNY = Say("It is sunny.")
ASIDE = ((Call("weather", {"place": "Pau"}),), SUNNY)
"""What the examples of the page ask for."""
CALM = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
}


def to_mend(folder: Path) -> Path:
    """A file with a mistake in it."""
    folder.mkdir(exist_ok=True)
    file = folder / "greeting.txt"
    file.write_text(WRONG)
    return file


@pytest.mark.parametrize("kind", ["anthropic", "compatible", "bedrock"])
async def test_opencode_mends_a_file_by_messages(kind: Kind, tmp_path: Path) -> None:
    async with reaching(tmp_path, kind, side=Say("Spelling")) as reached:
        file = to_mend(reached.work)
        (reached.work / "opencode.json").write_text(example("OpenCode", "json", reached, kind))
        edit = {"filePath": str(file), "oldString": "wrld", "newString": "world"}
        reached.says(kind, (Call("read", {"filePath": str(file)}),), (Call("edit", edit, "call_2"),), MENDED)
        done = await reached.run(OPENCODE, "run", "--pure", "--auto", TASK, environ=CALM)
        assert MENDED.text in done.stdout, done
        assert file.read_text() == RIGHT
        assert_results_went_back(reached, kind)


@pytest.mark.parametrize("kind", ["openai", "compatible", "anthropic", "bedrock"])
async def test_codex_mends_a_file_by_responses(kind: Kind, tmp_path: Path) -> None:
    async with reaching(tmp_path, kind, side=Say("Spelling")) as reached:
        file = to_mend(reached.work)
        (reached.home / ".codex").mkdir()
        (reached.home / ".codex" / "config.toml").write_text(example("Codex", "toml", reached, kind))
        commands = [{"cmd": "cat greeting.txt"}, {"cmd": "sed -i s/wrld/world/ greeting.txt"}]
        first, second = ((Call("exec_command", each, f"call_{at}"),) for at, each in enumerate(commands))
        reached.says(kind, first, second, MENDED)
        alone = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
        done = await reached.run(CODEX, "exec", *alone, TASK)
        assert MENDED.text in done.stdout, done
        assert file.read_text() == RIGHT
        assert_results_went_back(reached, kind)


async def test_the_tool_runner_of_anthropics_sdk_mends_files(tmp_path: Path) -> None:
    kinds: list[Kind] = ["anthropic", "compatible", "ollama", "bedrock"]
    async with reaching(tmp_path, *kinds) as reached:
        files = [to_mend(reached.work / f"{claude(kind)}{how}") for kind in kinds for how in ("", ".stream")]
        edit = {"file_path": "greeting.txt", "old_string": "wrld", "new_string": "world"}
        read, edited = (Call("read", {"file_path": "greeting.txt"}),), (Call("edit", edit, "call_2"),)
        for kind in kinds:
            reached.says(kind, *(read, edited, MENDED) * 2)
        reached.says("compatible", *ASIDE)
        shown = program("Anthropic's SDK and its tool runner", reached, "compatible")
        done = await reached.program("anthropic_tools.py", TASK, *map(claude, kinds), shown)
        assert done.stdout.splitlines() == [*[MENDED.text] * len(files), SUNNY.text]
        assert [file.read_text() for file in files] == [RIGHT] * len(files)
        for kind in kinds:
            assert_results_went_back(reached, kind, times=2)
        assert reached.fence.tried == []


async def test_openais_agents_sdk_mends_files_and_reports(tmp_path: Path) -> None:
    kinds: list[Kind] = ["openai", "compatible", "ollama", "anthropic", "bedrock"]
    async with reaching(tmp_path, *kinds) as reached:
        files = [to_mend(reached.work / f"{gpt(kind)}{how}") for kind in kinds for how in ("", ".stream")]
        edit = {"name": "greeting.txt", "old": "wrld", "new": "world"}
        report = {"file": "greeting.txt", "changes": 1}
        read, edited = (Call("read_file", {"name": "greeting.txt"}),), (Call("edit_file", edit, "call_2"),)
        for kind in kinds:
            reached.says(kind, *(read, edited, Give(report)) * 2)
        reached.says("anthropic", *ASIDE)
        shown = program("OpenAI's agents SDK", reached, "anthropic")
        done = await reached.program("openai_agents_tools.py", TASK, *map(gpt, kinds), shown)
        *reports, last = done.stdout.splitlines()
        assert [json.loads(line) for line in reports] == [report] * len(files)
        assert last == SUNNY.text
        assert [file.read_text() for file in files] == [RIGHT] * len(files)
        for kind in kinds:
            assert_results_went_back(reached, kind, times=2)
        assert reached.fence.tried == []


def assert_results_went_back(reached: Reached, kind: Kind, *, times: int = 1) -> None:
    """Each time three turns; from the second on the model was given what the first tool said."""
    seen = ["Hello, wrld!" in request.body.decode() for request in reached.scripts[kind].asked]
    assert seen[: 3 * times] == [False, True, True] * times, kind
