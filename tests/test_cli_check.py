"""`check`, `schema`, `models` and what the command line makes of mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infermux import __version__
from infermux.cli import output, root
from infermux.config import Config
from infermux.errors import Overloaded

from .config.bad import ALL

GOOD = (
    "providers:\n  - {name: a, type: ollama, models: [m, n], model_aliases: {fast: n}}\n  - {name: b, type: ollama}\n"
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INFERMUX_CONFIG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["infermux", *arguments])
        with pytest.raises(SystemExit) as caught:
            root.run()
        out, err = capsys.readouterr()
        code = caught.value.code
        return (0 if code is None else int(code)), out, err

    return run


def written(text: str) -> str:
    Path("infermux.yml").write_text(text, encoding="utf-8")
    return "infermux.yml"


def test_a_good_file_is_ok(run: Run) -> None:
    written(GOOD)
    assert run("check") == (0, "infermux.yml: ok (2 providers, 3 model names)\n", "")


def test_warnings_do_not_fail_a_check(run: Run) -> None:
    written(GOOD + "pricing: {c: {}}\n")
    code, out, err = run("check")
    assert (code, out) == (0, "infermux.yml: ok (2 providers, 3 model names, 1 warning)\n")
    assert err == "infermux.yml:4: pricing.c: warning: no provider has that name; there are: a, b\n"


def test_every_bad_file_is_exit_code_2_with_all_its_problems(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOT_SET_HERE", "A", "B", "HOST"):
        monkeypatch.delenv(name, raising=False)
    for case in ALL:
        written(case.text)
        code, out, err = run("check")
        lines = err.splitlines()
        assert (code, out) == (2, ""), case.name
        assert lines[:-1] == [f"infermux.yml:{problem}" for problem in case.problems], case.name
        count = len(case.problems)
        assert lines[-1] == f"{count} problem{'s' * (count > 1)}; nothing was started"


def test_a_check_as_json(run: Run) -> None:
    path = written("providers: [{name: a, type: ollama, weight: 0}]\n")
    code, out, err = run("check", "--json", "-c", path)
    assert (code, err) == (2, "")
    problem = {"file": path, "line": 1, "path": "providers[0].weight", "message": "must be a number above zero, not 0"}
    assert json.loads(out) == {"ok": False, "problems": [problem], "warnings": []}
    written(GOOD)
    assert json.loads(run("check", "--json")[1]) == {"ok": True, "file": path, "problems": [], "warnings": []}


def test_no_file_at_all_says_what_to_do(run: Run) -> None:
    code, _, err = run("check")
    assert code == 2
    assert "no model providers configured" in err
    assert "--demo" in err


def test_the_environment_may_name_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other.yml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("INFERMUX_CONFIG", "other.yml")
    assert run("check")[1].startswith("other.yml: ok")


def test_models_and_aliases_come_in_file_order(run: Run) -> None:
    written(GOOD)
    code, out, _ = run("models")
    assert code == 0
    assert out.splitlines() == [
        "MODEL  PROVIDER  TYPE    ALIAS FOR",
        "m      a         ollama",
        "n      a         ollama",
        "fast   a         ollama  n",
        "considered for any model name: b",
    ]
    shown = json.loads(run("models", "--json")[1])
    assert shown["open_ended"] == ["b"]
    assert shown["models"][2] == {"model": "fast", "provider": "a", "type": "ollama", "alias_for": "n"}


def test_an_alias_beats_a_listing_of_the_same_provider(run: Run) -> None:
    written("providers: [{name: a, type: ollama, models: [m, n], model_aliases: {m: n}}]\n")
    models = json.loads(run("models", "--json")[1])["models"]
    assert [(row["model"], row["alias_for"]) for row in models] == [("n", None), ("m", "n")]


def test_the_models_of_the_demo_need_no_file(run: Run) -> None:
    code, out, _ = run("models", "--demo")
    assert code == 0
    assert "demo-large" in out


def test_tables_on_a_terminal_hold_the_same_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.print_table(("MODEL", "PROVIDER"), [("[bold]m", "a")])
    out = capsys.readouterr().out
    assert "MODEL" in out
    assert "[bold]m" in out


def test_schema_prints_a_json_schema(run: Run) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("check", "--bogus"),
        ("check", "extra"),
        ("serve", "--listen", "nowhere"),
        ("serve", "--log-level", "loud"),
        ("serve", "--demo", "-c", "x.yml"),
        ("serve", "-c", "missing.yml"),
        ("models", "-c", "missing.yml"),
        ("infer", "auto"),
    ],
)
def test_mistakes_of_usage_are_exit_code_2_without_a_traceback(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


def test_every_command_is_listed_with_its_help() -> None:
    result: Result = CliRunner().invoke(root.cli, ["--help"])
    assert result.exit_code == 0
    for name in root.COMMANDS:
        assert f"\n  {name} " in result.output


class _Serving(types.ModuleType):
    """In place of infermux.serving: remembers what it was called with, answers what it is told to."""

    def __init__(self, outcome: int | Exception) -> None:
        super().__init__("infermux.serving")
        self.outcome = outcome
        self.calls: list[tuple[Config, dict[str, Any]]] = []

    def serve_command(self, config: Config, **options: Any) -> int:
        self.calls.append((config, options))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    infer_command = serve_command


def _serving(monkeypatch: pytest.MonkeyPatch, outcome: int | Exception = 0) -> _Serving:
    serving = _Serving(outcome)
    monkeypatch.setitem(sys.modules, "infermux.serving", serving)
    return serving


def test_serve_hands_over_the_checked_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = _serving(monkeypatch)
    written(GOOD + "pricing: {c: {}}\n")
    code, _, err = run("serve", "--listen", "localhost:0", "--log-level", "debug")
    assert code == 0
    assert "warning: no provider has that name" in err
    ((config, options),) = serving.calls
    assert (config.listen, config.log.level, len(config.providers)) == ("localhost:0", "debug", 2)
    assert (options["demo"], options["watch"]) == (False, False)
    assert options["load"]()[0] == config, "a reload reads the same file, by the same options"


def test_serve_demo_needs_no_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = _serving(monkeypatch)
    assert run("serve", "--demo")[0] == 0
    assert serving.calls[0][0].source == "demo"
    assert serving.calls[0][1]["load"] is None
    code, _, err = run("serve", "--demo", "--watch")
    assert (code, "leave --watch out" in err) == (2, True)


def test_infer_hands_over_model_and_prompt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = _serving(monkeypatch, outcome=1)
    assert run("infer", "--demo", "--no-stream", "auto", "hello")[0] == 1
    assert serving.calls[0][1] == {"model": "auto", "prompt": "hello", "stream": False, "as_json": False}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Overloaded("too many"), "infermux: too many\n"),
        (OSError(98, "Address already in use"), "infermux: Address already in use\n"),
    ],
)
def test_a_failure_is_a_sentence_and_exit_code_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    _serving(monkeypatch, outcome=error)
    assert run("serve", "--demo") == (1, "", said)


def test_the_version_does_not_wait_for_yaml_or_the_server() -> None:
    code = (
        "import sys; sys.argv = ['infermux', '--version']\n"
        "from infermux.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"infermux {__version__}\n"
    assert not {"trio", "httpx", "yaml", "hypercorn", "rich", "quart"} & set(done.stderr.split())


def test_python_m_infermux_is_infermux() -> None:
    done = subprocess.run([sys.executable, "-m", "infermux", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"infermux {__version__}\n"
