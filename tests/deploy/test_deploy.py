"""The files of docs/deploy are such that the programs they are for take them."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from infermux.cli.root import cli

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docs" / "deploy" / "infermux.service"
CONTAINER = ROOT / "docs" / "deploy" / "Containerfile"


def instructions(name: str) -> list[str]:
    """What stands behind each `name` in the container file, continued lines joined."""
    text = CONTAINER.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", text, re.MULTILINE)


def parsed(arguments: list[str]) -> click.Context:
    """`infermux` with these arguments, as far as that its options are understood. Raises click.ClickException."""
    context = cli.make_context("infermux", list(arguments))
    command = cli.get_command(context, arguments[0])
    assert command is not None
    return command.make_context(arguments[0], list(arguments[1:]))


@pytest.mark.slow
@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    # The program has to be there for the check.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/infermux/bin/infermux", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.needs("hadolint")
def test_hadolint_has_nothing_to_say_about_the_container_file() -> None:
    done = subprocess.run(["hadolint", CONTAINER], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_they_run_are_commands_of_ours() -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program.endswith("/infermux")
    assert parsed(arguments).params["path"] == "/etc/infermux/infermux.yml"
    (line,) = (each for each in instructions("CMD") if "infermux" in each and "serve" in each)
    program, *arguments = re.findall(r'"([^"]*)"', line)
    assert program == "infermux"
    assert parsed(arguments).params["path"] == "/etc/infermux/infermux.yml"
    with pytest.raises(click.ClickException):
        parsed(["serve", "--colour", "red"])


def test_the_container_s_health_is_asked_where_management_listens() -> None:
    said = "\n".join(instructions("ENV"))
    found: list[tuple[str, str]] = re.findall(r'^(\w+)="(\S+/_infermux/health)"$', said, re.MULTILINE)
    [(name, url)] = found
    [check] = instructions("HEALTHCHECK")
    assert f"urlopen(os.environ['{name}']" in check
    assert [urlsplit(url).port] == [int(port) for port in instructions("EXPOSE")]
    assert name in (ROOT / "docs" / "daemon.md").read_text()


def test_the_container_gets_everything_that_is_installed() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    links = {path.name for path in (ROOT / "infermux").iterdir() if path.is_symlink()}
    wanted = {package.split(".")[0] for package in pyproject["tool"]["setuptools"]["packages"]} | links
    assert wanted | {"pyproject.toml", pyproject["project"]["readme"], *pyproject["project"]["license-files"]} <= copied
    (extras,) = re.findall(r"/src\[([\w,]+)\]", CONTAINER.read_text())
    assert set(extras.split(",")) <= set(pyproject["project"]["optional-dependencies"])


def test_they_wait_for_the_drain() -> None:
    from infermux.config.settings import Config
    from infermux.workers.crew import ENDS_WITHIN

    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)s$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > Config().shutdown_grace + ENDS_WITHIN
