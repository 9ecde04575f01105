"""The JSON Schema of infermux.yml, for editors and the reference page, made from the keys the loader reads by."""

from __future__ import annotations

from .kinds import Json
from .sections import ROOT

_INTERPOLATED = {
    "description": "Text with ${VAR}, ${VAR:-default} or ${file:/path} in it, which may give any kind of value.",
    "type": "string",
    "pattern": r"\$\{",
}


def json_schema() -> Json:
    """Draft 2020-12. It knows shapes, words and bounds; what must fit together is for the loader.

    `x-allowed` says in words what a key takes.
    """
    schema: Json = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "infermux.yml",
        "description": "Configuration of infermux.",
    }
    return schema | ROOT.schema() | {"type": "object", "$defs": {"interpolated": _INTERPOLATED}}
