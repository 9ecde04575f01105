"""The scripts that Redis runs, as files beside this one, called by their hash.

They are the only writers of what they keep, so that a change of one of them needs another `VERSION`, which is a part of
every key: nodes of two versions, as there are while a deployment is rolled out, share nothing and spoil nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

import attrs

VERSION: Final = "v3"
NAMES: Final = ("beat", "limit", "purse", "tell")


@attrs.frozen
class Script:
    """A script's text and the hash that Redis knows it by."""

    name: str
    text: str
    sha: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


@attrs.frozen
class Call:
    """One script, to be run with these keys and arguments. Running it again must change nothing more."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | int]


def load_scripts() -> Mapping[str, Script]:
    """All scripts by name."""
    folder = files("infermux.shared") / "lua"
    return {name: Script(name, (folder / f"{name}.lua").read_text("utf-8")) for name in NAMES}
