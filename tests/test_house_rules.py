"""What the repository promises about itself: one version, a documented Makefile, an import that costs little."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import infermux

ROOT = Path(__file__).parent.parent
HEAVY = {
    "httpx",
    "quart",
    "quart_trio",
    "hypercorn",
    "cattrs",
    "yaml",
    "rich",
    "structlog",
    "sqlalchemy",
    "prompt_toolkit",
}


def test_the_version_is_the_newest_of_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+) - (?:unreleased|\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert headings[0] == infermux.__version__


def test_every_make_target_is_documented_and_listed_by_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    documented = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "docs" / "development.md").read_text(encoding="utf-8")))
    listed = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert set(phony.split()) == documented == listed


def test_importing_infermux_does_not_import_what_is_heavy() -> None:
    code = "import infermux, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
