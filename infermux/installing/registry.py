"""~/.infermux/providers.json as a file that is changed: what is not ours in it stays, in its order."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import attrs

from infermux.config import document
from infermux.config.installed import providers_of, root_of
from infermux.config.reading import Reading
from infermux.config.settings import ProviderSettings
from infermux.config.source_text import text_of
from infermux.errors import ConfigError, Problem

from .tools import Say

Entries: TypeAlias = dict[str, dict[str, Any]]


@attrs.frozen
class Registry:
    """The file, and the folder of the environments beside it."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "providers.json"

    @property
    def environments(self) -> Path:
        return self.folder / "providers"

    @contextmanager
    def changing(self, say: Say) -> Generator[None]:
        """One command changes it at a time; another one waits for that, and says so."""
        import fcntl  # here: reading works without it too

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "providers.lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another `infermux provider` command is at work; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> Entries:
        """All entries. Raises ConfigError where it cannot be written again without a loss."""
        if not self.file.exists():
            return {}
        text, source = text_of(str(self.file)), str(self.file)
        root = root_of(text, source)
        others = (entry for entry in root.entries if not isinstance(entry.value, document.Mapping))
        wrong = (Problem(source, entry.line, entry.key, "must be an object with a command") for entry in others)
        problems = [*_faults(root, source), *wrong]
        if problems:
            raise ConfigError(problems)
        return cast("Entries", json.loads(text)) if text.strip() else {}

    def write(self, entries: Entries) -> None:
        """Put `entries` in its place, whole or not at all. Its mode stays; a new one is for nobody else to read."""
        target = Path(os.path.realpath(self.file))
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
        fd, temporary = tempfile.mkstemp(dir=target.parent, prefix=".providers-", suffix=".json")
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise


def settings_of(text: str, file: Path, environ: Mapping[str, str] = os.environ) -> list[ProviderSettings]:
    """The providers of a text as a router would have them; `file` is what problems name. Raises ConfigError."""
    reading = Reading(str(file), environ)
    root = root_of(text, str(file))
    found = [draft.settings for draft in providers_of(root, str(file), reading, first=0)]
    for index, settings in enumerate(found):
        if not settings.command and reading.fine(("providers", index, "command")):
            reading.problem(("providers", index, "command"), 'is required, such as ["my-provider", "--some-flag"]')
    if reading.problems:
        raise ConfigError(reading.problems)
    return found


def _faults(node: document.Node, source: str, key: str = "(file)") -> Iterator[Problem]:
    """Keys that are there twice, at any depth: only one of them would be written again."""
    match node:
        case document.Mapping():
            for fault in node.faults:
                yield Problem(source, fault.line, fault.key or key, fault.message)
            for entry in node.entries:
                yield from _faults(entry.value, source, entry.key)
        case document.Sequence():
            for item in node.items:
                yield from _faults(item, source, key)
        case _:
            pass
