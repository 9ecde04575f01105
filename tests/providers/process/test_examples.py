"""The examples, run as they are started by a router, and what the command line says of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from infermux.cli.root import cli
from infermux.config import load_text
from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Adapter, Usage, describing, lasting
from infermux.providers.process.asking import described_by
from infermux.providers.registry import make_adapter
from tests.mocks.bedrock_upstream import HAIKU, MODELS, REGION, BedrockUpstream
from tests.mocks.openai_upstream import KEY, OpenAIUpstream, Reply
from tests.providers._calls import call, drained, failure, opened, whole

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


def declared(example: str, **env: str) -> ProviderSettings:
    program = str(ROOT / "examples" / example / "provider.py")
    return ProviderSettings(
        name=example, type="process", command=(sys.executable, program), env={"PYTHONPATH": str(ROOT), **env}
    )


@asynccontextmanager
async def running(settings: ProviderSettings) -> AsyncGenerator[Adapter]:
    """The adapter of an example, with its process."""
    adapter = make_adapter(settings, environ={})
    part = lasting(adapter)
    assert part is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(part.run, list[bool]().append)
        yield adapter
        await adapter.aclose()


async def test_echo_says_what_it_was_told() -> None:
    async with running(declared("echo")) as adapter:
        await adapter.probe(ProbeMethod.MODELS, None)
        told = describing(adapter)
        assert told is not None
        assert [model.id for model in told.described or ()] == ["echo"]
        request = call(model="echo")
        answer = await whole(adapter, request)
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "hi "
        stream = await opened(adapter, model="echo")
        assert b'"content":"hi "' in await drained(stream)
        assert stream.usage == Usage(prompt_tokens=1, completion_tokens=1)


@pytest.mark.long
async def test_an_openai_compatible_endpoint_is_passed_on_to() -> None:
    async with OpenAIUpstream() as upstream:
        settings = declared("openai_compatible", BASE_URL=upstream.base_url, API_KEY=KEY)
        async with running(settings) as adapter:
            assert "gpt-4o" in await adapter.list_models()
            said = await whole(adapter)
            assert json.loads(said.body)["choices"][0]["message"]["content"] == "Hello from the mock."
            assert said.usage == Usage(prompt_tokens=7, completion_tokens=5)
            assert (await drained(await opened(adapter))).endswith(b"data: [DONE]\n\n")
            for stream in (False, True):
                upstream.script.append(Reply(status=429, headers=(("Retry-After", "3"),)))
                refused = await failure(adapter, call(stream=stream))
                assert (refused.kind, refused.retry_after) == (FailureKind.RATE_LIMITED, 3.0)
            for cut in (Reply(finish=False, done=False), Reply(cut_after=2)):
                upstream.script.append(cut)
                answer = await opened(adapter)
                with pytest.raises(UpstreamFailure) as broken:
                    await drained(answer)
                assert broken.value.kind is FailureKind.BROKEN
        settings = declared("openai_compatible", BASE_URL="http://127.0.0.1:9", API_KEY=KEY)
        async with running(settings) as adapter:
            for stream in (False, True):
                assert (await failure(adapter, call(stream=stream))).kind is FailureKind.CONNECT


async def test_bedrock_runs_as_a_process_of_its_own() -> None:
    async with BedrockUpstream() as upstream:
        env = {"AWS_BEDROCK_ENDPOINT": upstream.base_url, "AWS_REGION": REGION, **upstream.environ}
        async with running(declared("bedrock", **env)) as adapter:
            assert HAIKU in await adapter.list_models()
            answer = await whole(adapter, call(model=HAIKU))
            assert json.loads(answer.body)["choices"][0]["message"]["content"]
            assert answer.usage == Usage(prompt_tokens=7, completion_tokens=5)
            assert upstream.requests[-1].json["messages"]
    assert len(MODELS) == 3


async def test_processes_are_asked_for_their_models_at_once_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    broken = ProviderSettings(name="broken", type="process", command=(sys.executable, "-c", "raise SystemExit(3)"))
    found, missing = await described_by([declared("echo"), broken])
    assert [model.id for model in found["echo"]] == ["echo"]
    assert "exited with code 3" in missing["broken"]
    assert caplog.messages == []  # nor is anything said to be started again


@pytest.mark.parametrize("example", ["echo", "openai_compatible", "bedrock"])
def test_each_has_a_configuration_that_loads(example: str) -> None:
    text = (ROOT / "examples" / example / "infermux.yml").read_text(encoding="utf-8")
    (provider,) = load_text(text, environ={}).providers
    program = f"examples/{example}/provider.py"
    assert provider.command == ("python", program)
    assert (ROOT / program).is_file()


def test_the_command_line_lists_the_models_of_processes(tmp_path: Path) -> None:
    text = json.dumps({
        "providers": [{
            "name": "echo", "type": "process", "model_aliases": {"smart": "echo"},
            "command": [sys.executable, str(ROOT / "examples" / "echo" / "provider.py")],
            "env": {"PYTHONPATH": str(ROOT)},
        }]
    })  # fmt: skip
    path = tmp_path / "infermux.yml"
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["models", "--json", "-c", str(path)], env=dict(os.environ))
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)["models"]
    assert [(row["model"], row["context_window"], row["images"]) for row in rows] == [
        ("echo", 8192, False),
        ("smart", 8192, False),
    ]
    shown = CliRunner().invoke(cli, ["models", "-c", str(path)], env=dict(os.environ)).stdout
    assert "8192 tokens, no images, no tools" in shown
    path.write_text(text.replace("provider.py", "missing.py"), encoding="utf-8")
    failed = CliRunner().invoke(cli, ["models", "-c", str(path)], env=dict(os.environ))
    assert failed.exit_code == 1
    assert "echo: " in failed.stderr
    assert isinstance(failed.exception, SystemExit)
