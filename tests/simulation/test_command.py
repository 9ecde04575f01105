"""`infermux simulate`: what it prints, and what it makes of mistakes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from infermux.cli.simulate import simulate


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command sets up logging for its process, which here is everybody's."""
    root, ours = logging.getLogger(), logging.getLogger("infermux")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_another_process_prints_the_same_bytes() -> None:
    """With another hash seed: nothing depends on the order of a set."""
    line = ["--demo", "--duration", "15s", "--fault", "quick=hang@5s..", "--fault", "flaky=cut@2s..9s", "--seed", "7"]
    other = subprocess.run(
        [sys.executable, "-m", "infermux", "simulate", *line],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    here = CliRunner().invoke(simulate, line)
    assert here.stdout_bytes == other.stdout
    assert b"PROVIDER" in other.stdout
    assert b"seed 7" in other.stdout


def test_a_trace_as_json(tmp_path: Path) -> None:
    config, trace = tmp_path / "infermux.yml", tmp_path / "requests.jsonl"
    config.write_text("providers: [{name: a, type: ollama, models: [m]}]\n")
    trace.write_text('{"at": 1, "model": "m"}\n{"at": "2s", "model": "none"}\n')
    done = CliRunner().invoke(
        simulate, [str(config), "--trace", str(trace), "--json", "--latency", "a=1s", "--speed", "a=1000"]
    )
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert (shown["requests"], shown["answered"], shown["errors"]) == (2, 1, {"model_not_found": 1})
    assert shown["latency"]["p50"] > 400


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("--fault quick", "Invalid value for --fault: 'quick' is not NAME=KIND@FROM..TO"),
        ("--fault fast=429", "there is no provider named 'fast'; there are: quick, slow, flaky"),
        ("--trace none.jsonl", "none.jsonl cannot be read: No such file"),
        ("--trace none.jsonl --rate 3", "leave --rate, --duration, --model out"),
        ("--rate 0", "Invalid value for --rate: 0 is no number of requests a second"),
        ("--duration long", "'long' is not a duration such as 90s"),
        ("--latency quick=fast", "Invalid value for --latency: 'fast' is not a duration"),
        ("--speed quick=-1", "Invalid value for --speed: '-1' is no number of tokens per second"),
        ("--speed quick", "'quick' is not NAME=VALUE such as quick=80"),
        ("infermux.yml", "--demo brings its own configuration"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(line: str, problem: str) -> None:
    done = CliRunner().invoke(simulate, ["--demo", *line.split()])
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())


def test_without_declared_models_one_has_to_be_named(tmp_path: Path) -> None:
    config = tmp_path / "infermux.yml"
    config.write_text("providers: [{name: a, type: ollama}]\n")
    done = CliRunner().invoke(simulate, [str(config)])
    assert done.exit_code == 2
    assert "name one that requests are to ask for" in " ".join(done.output.split())
