"""Who asks: what a request's key, and the headers that name its caller, say about it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of one request, as far as anybody said.

    `caller` is the name in `X-Infermux-Caller`, else the key's name, else "". `key` is the public id of the key it came
    with (never the key), "" where keys are not handed out. `tags` are those of `X-Infermux-Tags`.
    """

    caller: str = ""
    key: str = ""
    tags: Mapping[str, str] = {}


NOBODY = Identity()
