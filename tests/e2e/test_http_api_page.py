"""The page on the HTTP API, held to what the server does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from infermux import errors
from infermux.actors.description import Description
from infermux.actors.messages import Reason
from infermux.actors.provider_messages import Verb
from infermux.processes import ProcessUnavailable
from tests.e2e._router import routing

PAGE = Path(__file__).parents[2].joinpath("docs", "http-api.md").read_text()


def every(kind: type[errors.InfermuxError]) -> Iterator[type[errors.InfermuxError]]:
    """Those that answers have: what the command line and the starting of processes fail with is declared elsewhere."""
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__ and below is not errors.ProviderNotStarted:
            yield below
            yield from every(below)


def test_every_error_code_is_on_the_page_beside_its_status() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [45]\d\d \|", line)]
    told = {(int(row[2:5]), code) for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[2])}
    # Families, and what is not an answer: a provider's own words, a configuration that is refused, a start that failed.
    unsaid = {errors.CallerError, errors.PolicyError, errors.ProviderError, errors.ProviderRefusal, errors.ConfigError}
    unsaid |= {errors.ProviderNotStarted, ProcessUnavailable}
    made = {(kind.status, kind.code) for kind in every(errors.InfermuxError) if kind not in unsaid}
    made |= {(504, kind.value) for kind in errors.FailureKind if kind.is_timeout}
    assert told == made


def test_every_reason_verb_and_key_of_a_provider_is_on_the_page() -> None:
    words = {reason.value for reason in Reason if reason is not Reason.MODEL_SET_ASIDE}
    for word in words:
        assert f"`{word}`" in PAGE
    for verb in Verb:
        assert f"/{verb.value}` |" in PAGE
    for name in Description.__annotations__:
        assert f'"{name}": ' in PAGE


@pytest.mark.slow
@pytest.mark.needs("curl")
async def test_the_curl_lines_work() -> None:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    assert len(commands) >= 19
    simulate = {"first_token": "1ms", "tokens_per_second": 10000}
    providers = [
        {"name": name, "type": "simulated", "models": ["demo-small", "demo-large"], "simulate": simulate}
        for name in ("quick", "slow")
    ]
    providers[0]["model_aliases"] = {"smart": "demo-large"}
    async with routing(*providers, ledger={"url": "sqlite://"}) as router:
        await router.wait_for("quick", health="healthy")
        for command in commands:
            line = command.replace("127.0.0.1:8080", f"127.0.0.1:{router.port}").replace("curl", "curl -sS --fail", 1)
            done = await trio.run_process(line, shell=True, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
            assert done.returncode == 0, (line, done.stdout)
            assert done.stdout, line
