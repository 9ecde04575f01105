"""The line that names the socket of a process, and whether to trust it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs

from .spec import NotLaunched

OWN_FOLDER = "infermux-"  # how the folders begin that `infermux.providers.process.serve` makes, for a socket alone
LONGEST_PATH = 107  # bytes of `sun_path` without its end, unix(7); more could not be connected to


def names_a_path(line: bytes) -> bool:
    """Whether `line` is the announcement, and not a banner printed before it: an absolute path."""
    return line.startswith(b"/")


@attrs.frozen
class Socket:
    """A socket of ours, and which one: a later process may have made another one at the same path."""

    path: Path
    identity: tuple[int, int]

    def unlink(self) -> None:
        """Remove it, if it is still there, and the folder that was made for it."""
        try:
            if identity_of(os.lstat(self.path)) == self.identity:
                os.unlink(self.path)
                if self.path.parent.name.startswith(OWN_FOLDER):
                    os.rmdir(self.path.parent)
        except OSError:
            pass  # the process removed it itself, or its folder; or there is more in that


def identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def trusted(line: bytes) -> Socket:
    """The socket that `line` names.

    Raises NotLaunched where it is not a socket of ours: connecting to another's would give it our callers' requests.
    """
    path = os.fsdecode(line)
    shown = repr(path)
    if len(line) > LONGEST_PATH:
        raise NotLaunched(f"the path it printed is longer than {LONGEST_PATH} bytes, which no socket can have: {shown}")
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise NotLaunched(f"it printed {shown}, which does not exist (listen first, then print the path)") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise NotLaunched(f"it printed {shown}, which cannot be looked at: {reason}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise NotLaunched(f"it printed {shown}, which is not a socket")
    if found.st_uid != os.geteuid():
        raise NotLaunched(f"it printed {shown}, a socket of another user (uid {found.st_uid})")
    return Socket(Path(path), identity_of(found))
