"""The environments of installed providers: folders of ours in ~/.infermux/providers, one for each installation.

A program in an environment has its path written into it, so nothing is built somewhere else and moved: an update makes
a new environment, and the one before is deleted once nothing in providers.json leads into it and nothing runs from it.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import attrs
import msgspec

from .failures import BadSource, CannotInstall
from .sources import Source, same_folder
from .tools import install, make_environment

MARK = "infermux-environment"  # a file in each of ours: nothing else is deleted
STARTING_LOOKS, STARTING_PAUSE = 200, 0.005  # how often, and how long between (s), a process without words is looked at


@attrs.frozen
class Environment:
    folder: Path

    @classmethod
    def build(cls, parent: Path, name: str, source: Source) -> Environment:
        """A new one with `source` in it. Raises CannotInstall; nothing is left then, nor when it is cancelled."""
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = cls(parent / f"{name}-{secrets.token_hex(4)}")
        try:
            environment.folder.mkdir(mode=0o700)
            (environment.folder / MARK).touch()  # first: what is broken off from here on can be swept up
            make_environment(environment.inside)
            install(str(environment.bin / "python"), source.requirement)
        except BaseException:
            environment.delete()
            raise
        return environment

    @property
    def inside(self) -> Path:
        return self.folder / "env"

    @property
    def bin(self) -> Path:
        return self.inside / ("Scripts" if os.name == "nt" else "bin")

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def distribution(self, source: Source) -> Distribution:
        """What was installed from `source`. Raises CannotInstall."""
        there = [*distributions(path=[str(path) for path in self._libraries()])]
        if source.name is not None:
            wanted = canonical(source.name)
            found = [each for each in there if canonical(each.name) == wanted]
        else:
            # PEP 610: what does not come from an index says where it comes from, and so may what it depends on.
            kind = "dir_info" if source.git is None else "vcs_info"
            direct = [(each, said) for each in there if (said := origin(each)) and kind in said]
            found = [each for each, said in direct if _is_of(said, source)] or [each for each, _ in direct]
        if len(found) != 1:
            raise CannotInstall(f"of what was installed {len(found)} packages come from {source}, not one")
        return found[0]

    def command(self, made_of: Distribution, given: str | None) -> list[str]:
        """What starts the provider: the words of `given`, else the one program that can be meant. Raises BadSource."""
        names = sorted(each.name for each in made_of.entry_points if each.group == "console_scripts")
        if given is None:
            like = [name for name in names if canonical(name) == canonical(made_of.name)]
            chosen = names if len(names) == 1 else like
            if len(chosen) != 1:
                have = f"has several programs: {', '.join(names)}" if names else "has no program (console script)"
                example = names[0] if names else "python -m MODULE"
                raise BadSource(f'{made_of.name} {have}; say what starts it, such as --command "{example}"')
            return [str(self.bin / chosen[0])]
        return self.words(_split(given), names)

    def words(self, words: Sequence[str], names: Sequence[str] = ()) -> list[str]:
        """`words` with the first of them looked up among the programs of this environment. Raises BadSource."""
        program = self.bin / words[0] if words and words[0] == os.path.basename(words[0]) else None
        if program is None or not program.is_file():
            there = f"; it has {', '.join(names)}" if names else ""
            raise BadSource(f"--command takes the name of a program of the package, with its arguments{there}")
        return [str(program), *words[1:]]

    def holds(self, command: Any) -> bool:
        """Whether a command, of providers.json or of a process, needs it."""
        words = cast("list[object]", command) if isinstance(command, list) else []
        return any(str(word).startswith(f"{self.folder}{os.sep}") for word in words)

    def _libraries(self) -> Iterable[Path]:
        return [*self.inside.glob("lib/python*/site-packages"), *self.inside.glob("Lib/site-packages")]


def sweep(parent: Path, commands: Iterable[Any]) -> bool:
    """Delete the environments that no command leads into: what updates and removals left, and what was broken off.

    False: some are left, since processes run from them: a provider that finishes its requests, or an installer whose
    command was killed.
    """
    wanted = list(commands)
    if not parent.is_dir():
        return True
    environments = [Environment(folder) for folder in parent.iterdir() if (folder / MARK).is_file()]
    unwanted = [each for each in environments if not any(map(each.holds, wanted))]
    run = processes() if unwanted else ()
    idle = [each for each in unwanted if not any(map(each.holds, run or ()))]
    for environment in idle:
        environment.delete()
    return len(idle) == len(unwanted)


def processes() -> list[list[str]] | None:
    """The command of every process, from /proc/PID/cmdline (proc(5)); None where there is no such thing."""
    if not os.path.exists("/proc/self/cmdline"):
        return None
    return [
        command for entry in os.listdir("/proc") if entry.isdigit() and (command := command_of(Path("/proc", entry)))
    ]


def command_of(process: Path) -> list[str]:
    """The words that a process was started with, from its folder of /proc; empty if it has ended or is the kernel's.

    Who has just started a process may look before its words are there: execve(2) lets the starter go on first, and the
    file is empty for some microseconds, on a busy machine for as long as the process is not scheduled.
    """
    program = ""
    try:
        for _ in range(STARTING_LOOKS):
            if words := (process / "cmdline").read_bytes():
                return os.fsdecode(words).split("\0")
            program = os.readlink(process / "exe")  # neither a thread of the kernel nor a zombie has one
            time.sleep(STARTING_PAUSE)
    except OSError:
        return []
    return [program]


def canonical(name: str) -> str:
    """As the index compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def origin(distribution: Distribution) -> dict[str, Any] | None:
    """Where it was installed from, if not from an index: direct_url.json (PEP 610)."""
    text = distribution.read_text("direct_url.json")
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def _is_of(said: dict[str, Any], source: Source) -> bool:
    if source.git is not None:
        return source.git.startswith(str(said.get("url")))
    return same_folder(unquote(urlsplit(str(said.get("url"))).path), source.path or "")


def _split(given: str) -> list[str]:
    try:
        return shlex.split(given)
    except ValueError as error:
        raise BadSource(f"--command: {error}") from None
