"""providers.json: which one is read, after what, and what is said about a bad one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.config import document, json_document, load, load_checked, load_text
from infermux.config.loader import reader
from infermux.errors import ConfigError

YAML = "providers: [{name: own, type: ollama, models: [m]}]\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "home" / ".infermux"
    folder.mkdir(parents=True)
    return folder


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home.parent), **more}


def problems(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_text(f"providers_file: {file}\n{YAML}", environ={})
    return [str(each).removeprefix(f"{tmp_path}{os.sep}") for each in caught.value.problems]


class TestWhichOne:
    def test_that_of_the_home_follows_the_file_s_own_providers(self, home: Path) -> None:
        (home / "infermux.yml").write_text(YAML)
        (home / "providers.json").write_text('{"b": {"command": ["b"]}, "a": {"command": ["a", "--flag"]}}')
        config = load(None, environ=environ(home))
        assert [provider.name for provider in config.providers] == ["own", "b", "a"]
        assert config.providers[2].type == "process"
        assert config.providers[2].command == ("a", "--flag")
        assert config.providers_file == str(home / "providers.json")

    def test_without_a_file_it_is_the_configuration(self, home: Path) -> None:
        (home / "providers.json").write_text('{"a": {"command": ["a"]}}')
        config = load(None, environ=environ(home))
        assert [provider.name for provider in config.providers] == ["a"]
        assert config.source == str(home / "providers.json")

    def test_with_minus_c_it_is_read_only_where_the_file_names_it(self, home: Path) -> None:
        (home / "providers.json").write_text('{"a": {"command": ["a"]}}')
        file = home / "other.yml"
        file.write_text(YAML)
        assert [provider.name for provider in load(str(file), environ=environ(home)).providers] == ["own"]
        file.write_text(f"providers_file: {home / 'providers.json'}\n{YAML}")
        assert [provider.name for provider in load(str(file), environ=environ(home)).providers] == ["own", "a"]

    def test_one_that_comes_later_is_read_again_with_the_rest(self, home: Path) -> None:
        (home / "infermux.yml").write_text(YAML)
        read = reader(None, environ=environ(home))
        assert len(read()[0].providers) == 1
        (home / "providers.json").write_text('{"a": {"command": ["a"]}}')
        assert [provider.name for provider in read()[0].providers] == ["own", "a"]

    def test_one_that_is_named_must_be_there(self) -> None:
        with pytest.raises(ConfigError, match=r'1: providers_file: there is no file "nowhere\.json"'):
            load_text(f"providers_file: nowhere.json\n{YAML}", environ={})


class TestEntries:
    def test_every_key_of_a_provider_is_taken_by_its_rules(self, tmp_path: Path) -> None:
        entry = {"command": ["a"], "env": {"KEY": "${KEY}"}, "cwd": "/", "strict": True, "models": ["m"], "timeout": 5}
        (tmp_path / "p.json").write_text(json.dumps({"a": entry}))
        text = f"providers_file: {tmp_path / 'p.json'}\ncircuit_breaker: {{consecutive_failures: 9}}\n"
        (found,) = load_text(text, environ={"KEY": "canary"}).providers
        assert found.env == {"KEY": "canary"}
        assert (found.cwd, found.strict, found.models, found.timeout) == ("/", True, ("m",), 5.0)
        assert found.circuit_breaker.consecutive_failures == 9

    def test_where_it_came_from_and_what_nobody_knows_are_left_alone_slips_are_warned_of(self, tmp_path: Path) -> None:
        (tmp_path / "c.yml").write_text(f"providers_file: {tmp_path / 'p.json'}\n")
        known = {"package": "p", "git": "g", "path": "x", "subdirectory": "s", "version": "1", "commit": "c"}
        entry = {"command": ["a"], **known, "crate_name": "c", "note": {"x": 1}, "comand": [], "type": "openai"}
        (tmp_path / "p.json").write_text(json.dumps({"a": entry}, indent=1))
        _, warnings = load_checked(str(tmp_path / "c.yml"), environ={})
        assert [(each.path, each.message.split(":")[0]) for each in warnings] == [
            ("a.comand", 'unknown key; did you mean "command"?'),
            ("a.type", "has no effect here"),
        ]


class TestProblems:
    def test_each_names_the_file_the_line_and_the_key(self, tmp_path: Path) -> None:
        text = '{\n"a": {"command": ["x"],\n "cwd": 3},\n"b": {},\n"b": {},\n"c d": {"command": ["x"]},\n"e": []}'
        assert problems(text, tmp_path) == [
            "p.json:3: a.cwd: must be text that is not empty, or null, not 3; put it in quotes",
            'p.json:4: b.command: is required for type process, such as ["my-provider", "--some-flag"]',
            "p.json:5: b: is there twice, first on line 4",
            'p.json:6: ["c d"]: must be a name of the characters a-z A-Z 0-9 . _ -, not "c d"',
            "p.json:7: e: must be an object with a command, not a list",
        ]

    def test_an_id_that_the_yaml_has_too_is_refused(self, tmp_path: Path) -> None:
        (only,) = problems('{"own": {"command": ["x"]}}', tmp_path)
        assert only == 'p.json:1: own: the name "own" is taken, first on line 2'

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"a": {"command": ["x"],}\n}', "p.json:1: (file): is not valid JSON"),
            ('{\n"a": NaN}', "p.json:1: (file): is not valid JSON"),
            ("[]", "p.json:1: (file): must be an object of provider ids, not a list"),
            ('{"a":' * 100 + "1" + "}" * 100, "p.json:1: (file): is nested more than 64 levels deep"),
            ("[" * 100_000, "p.json:1: (file): is not valid JSON"),
        ],
    )
    def test_what_is_no_such_file_is_said_once(self, tmp_path: Path, text: str, message: str) -> None:
        (only,) = problems(text, tmp_path)
        assert only.startswith(message)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=_JSON, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
def test_the_tree_of_a_json_text_is_what_is_in_it(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert _plain(json_document.parse(text, source="p.json")) == value


def _plain(node: document.Node) -> Any:
    match node:
        case document.Mapping(entries=entries):
            return {entry.key: _plain(entry.value) for entry in entries}
        case document.Sequence(items=items):
            return [_plain(item) for item in items]
        case document.Scalar(text=text, tag="str"):
            return text
        case document.Scalar(text=text):
            return json.loads(text)
