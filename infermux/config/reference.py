"""The tables of the reference page, made from the JSON Schema.

`python -m infermux.config.reference docs/configuration.md` renews them in place.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .schema import json_schema

BEGIN = "<!-- reference: made by `python -m infermux.config.reference docs/configuration.md`, do not edit -->"
END = "<!-- end of reference -->"

# One of each; written the way it would stand in the file.
_TITLES = {
    "": "Top level",
    "providers[]": "`providers[]`: one provider",
    "routing.groups[]": "`routing.groups[]`: one group",
    "budgets[]": "`budgets[]`: one budget",
    "pricing.*.*": "`pricing.PROVIDER.MODEL`: one price",
    "pricing.*.*.above[]": "`pricing.PROVIDER.MODEL.above[]`: the price for longer prompts",
    "pricing.*.*.service_tiers.*": "`pricing.PROVIDER.MODEL.service_tiers.TIER`: the price in a tier of service",
}


def keys(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every key as (section, key, its schema), sections after the keys of the one around them."""
    inner: list[tuple[str, dict[str, Any]]] = []
    for key, part in schema.get("properties", {}).items():
        yield path, key, part
        inner.append((f"{path}.{key}" if path else key, part))
    for place, part in inner:
        yield from keys(*_descended(part, place))


def _descended(part: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    """Through lists (`[]`) and mappings of the user's own keys (`.*`) to the section in them, if there is one."""
    while "properties" not in part:
        if isinstance(part.get("items"), dict):
            part, place = part["items"], f"{place}[]"
        elif isinstance(part.get("additionalProperties"), dict):
            part, place = part["additionalProperties"], f"{place}.*"
        else:
            break
    return part, place


def tables() -> str:
    """All sections as Markdown tables."""
    schema = json_schema()
    sections: dict[str, list[str]] = {}
    for section, key, part in keys(schema):
        sections.setdefault(section, []).append(_row(key, part))
    return "\n".join(_table(section, rows) for section, rows in sections.items())


def _table(section: str, rows: list[str]) -> str:
    title = _TITLES.get(section, f"`{section}`")
    return "\n".join([f"### {title}", "", "| key | default | takes | meaning |", "|---|---|---|---|", *rows, ""])


def _row(key: str, part: dict[str, Any]) -> str:
    if "default" in part:
        default = f"`{json.dumps(part['default'])}`"
    else:
        default = "see below" if "properties" in part else "required"
    return f"| `{key}` | {default} | {_cell(part['x-allowed'])} | {_cell(part['description'])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def renewed(page: str) -> str:
    """`page` with the part between the two marks made anew. Raises ValueError when a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page lacks its marks")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Renew each file named."""
    for argument in arguments:
        path = Path(argument)
        path.write_text(renewed(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
