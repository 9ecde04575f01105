"""The development's bench: its runner writes what it measured, and ratios are of the same round."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import markdown, ratios
from bench.run import main
from bench.tools import ROOT
from infermux.bench.figures import Spread
from tests.bench._made import measured, outcome, result


@pytest.mark.slow
@pytest.mark.needs("cc")
@pytest.mark.long
def test_the_runner_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    options = ["--quick", "--rounds", "1", "--scenario", "whole-16", "--fronts", "direct", "--peers", "none"]
    command = [sys.executable, "-m", "bench.run", *options, "--json", str(file)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(file.read_text())["scenarios"][0]
    assert [(row["target"], row["success"], row["failure"]) for row in found["rows"]] == [("direct", 1.0, None)]
    assert "| direct |" in file.with_suffix(".md").read_text()


def test_results_that_could_not_be_written_are_told_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main(["--json", str(tmp_path / "file" / "below" / "out.json")])
    assert "cannot be written to: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("taken", ["out.json", "out.md", "out.svg"])
def test_a_folder_where_results_are_to_be_is_told_before_the_run(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(SystemExit):
        main(["--quick", "--scenario", "decision", "--json", str(tmp_path / "out.json")])
    assert f"argument --json: {tmp_path / taken} is a folder" in capsys.readouterr().err


def test_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--quick", "--scenario", "decision", "--rounds", "0"])
    assert "argument --rounds: '0' is not a number from 1 on" in capsys.readouterr().err


# What the figures say.


def test_ratios_compare_rounds_with_nginx_in_the_same_round() -> None:
    slow_machine = [measured("nginx", cpu_us=40), measured("infermux", cpu_us=160)]
    fast_machine = [measured("nginx", cpu_us=20), measured("infermux", cpu_us=80)]
    found = ratios(outcome(*slow_machine, *fast_machine))
    assert found["infermux"] == Spread(median=4.0, low=4.0, high=4.0)
    assert found["nginx"] == Spread(median=1.0, low=1.0, high=1.0)


def test_a_front_that_failed_has_no_ratio() -> None:
    bad = measured("infermux", cpu_us=80, load=result(good=998, failed=2))
    found = outcome(measured("nginx", cpu_us=20), bad)
    assert list(ratios(found)) == ["nginx"]
    assert "| infermux | FAIL " in markdown(found)


def test_a_failed_nginx_gives_no_ratios() -> None:
    floor = measured("nginx", cpu_us=20, load=result(good=1, failed=9))
    assert ratios(outcome(floor, measured("infermux", cpu_us=80))) == {}


def test_an_earlier_checkout_is_compared_round_by_round() -> None:
    found = outcome(measured("before", cpu_us=100), measured("infermux", cpu_us=80))
    assert "0.800 times the CPU of before" in markdown(found)


def test_a_missing_front_is_named_with_the_reason() -> None:
    assert "- litellm: missing, not installed" in markdown(outcome(missing={"litellm": "not installed"}))
