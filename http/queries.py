"""What the management pages take after the `?`; a misspelt name would otherwise change nothing, unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from quart import request

from infermux.errors import InvalidRequest

TAKES: Final[Mapping[str, tuple[str, ...]]] = {
    "/_infermux/costs": ("group_by", "since", "until", "format"),
    "/_infermux/explain": ("limit",),
    "/_infermux/reload": ("dry_run",),
}
"""Names by path; what is not here takes none."""
LONGEST_TOLD: Final = 50


def check_query(path: str) -> None:
    """Of the request under way, for `path`. Raises InvalidRequest naming what is unknown or there twice."""
    takes = TAKES.get(path, ())
    for name, values in request.args.lists():
        told = name[:LONGEST_TOLD]
        if name not in takes:
            what = f"takes {', '.join(takes)}" if takes else "takes no parameters"
            raise InvalidRequest(f"{path} {what}, not {told!r}", param=told)
        if len(values) > 1:
            raise InvalidRequest(f"{told} is there {len(values)} times, and may be there once", param=told)
