"""Coding agents that read and edit a file with tools, whatever kind of provider their model is at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.applications._applications import CODEX, OPENCODE, Reached, reaching
from tests.applications._upstreams import CLAUDE, GPT, Call, Kind, Say

TASK = "Mend the spelling in greeting.txt"
MENDED = Say("The greeting is spelt right now.")
CALM = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
}


def to_mend(reached: Reached) -> Path:
    """A file with a mistake in it, in the folder where the agent works."""
    file = reached.work / "greeting.txt"
    file.write_text("Hello, wrld!\n")
    return file


@pytest.mark.parametrize("kind", ["anthropic", "compatible", "bedrock"])
async def test_opencode_mends_a_file_by_messages(kind: Kind, tmp_path: Path) -> None:
    async with reaching(kind, tmp_path, side=Say("Spelling")) as reached:
        file = to_mend(reached)
        provider: Any = {
            "options": {"baseURL": f"{reached.router.url}/v1", "apiKey": "unused"},
            "models": {CLAUDE: {}},
        }
        model = f"anthropic/{CLAUDE}"
        settings = {"provider": {"anthropic": provider}, "model": model, "small_model": model}
        (reached.work / "opencode.json").write_text(json.dumps(settings))
        reached.says(
            (Call("read", {"filePath": str(file)}),),
            (Call("edit", {"filePath": str(file), "oldString": "wrld", "newString": "world"}, "call_2"),),
            MENDED,
        )
        done = await reached.run(OPENCODE, "run", "--pure", "--auto", TASK, environ=CALM)
        assert MENDED.text in done.stdout, done
        assert file.read_text() == "Hello, world!\n"
        assert_results_went_back(reached, "Hello, wrld!")


@pytest.mark.parametrize("kind", ["openai", "compatible", "anthropic"])
async def test_codex_mends_a_file_by_responses(kind: Kind, tmp_path: Path) -> None:
    async with reaching(kind, tmp_path, side=Say("Spelling")) as reached:
        file = to_mend(reached)
        (reached.home / ".codex").mkdir()
        (reached.home / ".codex" / "config.toml").write_text(
            f"""
model = "{GPT}"
model_provider = "infermux"

[model_providers.infermux]
name = "infermux"
base_url = "{reached.router.url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""
        )
        reached.says(
            (Call("exec_command", {"cmd": "cat greeting.txt"}),),
            (Call("exec_command", {"cmd": "sed -i s/wrld/world/ greeting.txt"}, "call_2"),),
            MENDED,
        )
        alone = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
        done = await reached.run(CODEX, "exec", *alone, TASK)
        assert MENDED.text in done.stdout, done
        assert file.read_text() == "Hello, world!\n"
        assert_results_went_back(reached, "Hello, wrld!")


def assert_results_went_back(reached: Reached, result: str) -> None:
    """Three turns; the model was given what the first tool said."""
    assert [result in request.body.decode() for request in reached.script.asked] == [False, True, True]
    assert not reached.script.turns
