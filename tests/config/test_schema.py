"""The JSON Schema agrees with the loader, and the reference page with both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
import yaml

from infermux.config import load_text, reference
from infermux.config.demo import DEMO, demo_config
from infermux.config.schema import json_schema
from infermux.config.settings import Config

from .bad import KEYS, VALUES, WORKERS, Bad

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()
VALIDATOR: Any = jsonschema.Draft202012Validator(SCHEMA)
GOOD = [*sorted((Path(__file__).parent / "seed").glob("*.yml")), ROOT / "examples" / "infermux.yml"]
# What a JSON Schema cannot see: YAML's own layer, ranges of written durations and ports, words of installed plugins.
ONLY_THE_LOADER_SEES = {
    "twice",
    "twice-in-provider",
    "twice-in-a-mapping-of-ones-own",
    "names-and-types",
    "listen-port",
    "listen-v6",
    "size-zero",
    "duration-zero",
    "duration-negative",
    "duration-base-60",
    "url-port",
    "strategy",
    "header-name",
    "script-clash",
    "both-keys",
    "keys-of-bedrock",
    "region-of-bedrock",
    "backoff",
    "model-number",
}


def problems(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_the_schema_is_a_schema_and_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", GOOD, ids=[path.stem for path in GOOD])
def test_what_loads_satisfies_the_schema(path: Path) -> None:
    assert problems(path.read_text()) == []


def test_the_demo_satisfies_the_schema_and_needs_no_environment() -> None:
    assert problems(DEMO) == []
    config = demo_config()
    assert [provider.type for provider in config.providers] == ["simulated"] * 3
    assert any(provider.simulate.failure_rate > 0 for provider in config.providers)


def _is_bad_by_shape(case: Bad) -> bool:
    return case.name not in ONLY_THE_LOADER_SEES


@pytest.mark.parametrize(
    "case", [case for case in KEYS + VALUES + WORKERS if _is_bad_by_shape(case)], ids=lambda case: case.name
)
def test_what_is_refused_for_its_shape_fails_the_schema(case: Bad) -> None:
    assert problems(case.text) != []


@pytest.mark.parametrize(
    "text", ["timeout: '${T:-5s}'", "http2: '${X:-no}'", "weight: '${W:-2}'", "models: ['${M:-a}']"]
)
def test_references_satisfy_the_schema_wherever_the_loader_takes_them(text: str) -> None:
    whole = f"providers:\n  - name: a\n    type: ollama\n    {text}\n"
    load_text(whole, environ={})
    assert problems(whole) == []


def _plain_keys() -> Iterator[tuple[str, Any]]:
    for section, key, part in reference.keys(SCHEMA):
        if not section and "properties" not in part:
            yield key, part


@pytest.mark.parametrize(
    ("key", "part"), list(_plain_keys()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_top_level_default_of_the_schema_may_be_written_down(key: str, part: dict[str, Any]) -> None:
    if key == "providers":
        return
    written = {"providers": [{"name": "a", "type": "ollama"}], key: part["default"]}
    loaded = load_text(yaml.safe_dump(written), environ={})
    plain = load_text(yaml.safe_dump({"providers": written["providers"]}), environ={})
    assert loaded == plain


def test_every_default_of_a_section_may_be_written_down() -> None:
    for section, key, part in reference.keys(SCHEMA):
        if "default" not in part or section.startswith(("pricing", "routing.groups")):
            continue
        provider: dict[str, Any] = {"name": "a", "type": "ollama"}
        written: dict[str, Any] = {"providers": [provider]}
        names = section.replace("providers[]", "").strip(".").split(".") if section else []
        place = provider if section.startswith("providers[]") else written
        for name in filter(None, names):
            if name.endswith("[]"):
                place = {}  # a step of a fault script has no defaults to speak of
                break
            place = place.setdefault(name, {})
        if key != "providers":
            place[key] = part["default"]
        load_text(yaml.safe_dump(written), environ={})


def test_every_setting_has_a_key_in_the_schema() -> None:
    worked_out = {"source", "providers.borrows"}
    missing = [path for path in _settings_paths(Config, SCHEMA, "") if path not in worked_out]
    assert missing == []


def _settings_paths(owner: type[Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    attrs.resolve_types(owner)
    for field in attrs.fields(owner):
        part = schema["properties"].get(field.name)
        place = f"{path}.{field.name}".lstrip(".")
        if part is None:
            yield place
        elif attrs.has(field.type):
            yield from _settings_paths(field.type, part, place)
        elif "items" in part and "properties" in part["items"] and field.name != "script":
            yield from _settings_paths(field.type.__args__[0], part["items"], place)


class TestReference:
    PAGE = (ROOT / "docs" / "configuration.md").read_text()

    def test_the_page_is_current(self) -> None:
        assert reference.renewed(self.PAGE) == self.PAGE, (
            "run: python -m infermux.config.reference docs/configuration.md"
        )

    def test_every_key_of_the_schema_is_on_the_page(self) -> None:
        rows = self.PAGE.partition(reference.BEGIN)[2].splitlines()
        for section, key, _ in reference.keys(SCHEMA):
            assert any(row.startswith(f"| `{key}` |") for row in rows), (section, key)

    def test_every_row_of_the_page_is_a_key_of_the_schema(self) -> None:
        known = {key for _, key, _ in reference.keys(SCHEMA)}
        rows = [row for row in self.PAGE.partition(reference.BEGIN)[2].splitlines() if row.startswith("| `")]
        assert len(rows) == len(list(reference.keys(SCHEMA)))
        assert {row.split("`")[1] for row in rows} == known

    def test_a_file_is_renewed_in_place(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"before\n{reference.BEGIN}\nold\n{reference.END}\nafter\n")
        reference.main([str(page)])
        assert page.read_text() == f"before\n{reference.BEGIN}\n\n{reference.tables()}\n{reference.END}\nafter\n"

    def test_a_page_without_marks_is_refused(self) -> None:
        with pytest.raises(ValueError, match="lacks its marks"):
            reference.renewed("nothing here")

    def test_every_yaml_example_of_the_page_loads(self) -> None:
        blocks = [block.partition("```")[0] for block in self.PAGE.split("```yaml\n")[1:]]
        assert blocks
        for block in blocks:
            if not block.startswith("# yaml-language-server"):
                load_text(block, environ={"OPENAI_API_KEY": "k"})
