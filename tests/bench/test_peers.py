"""The peers of the bench: each is pinned, configured for the mock upstream, and named with the reason where missing."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from bench import half
from bench.fronts import Asks, Command, Front, Site, version_in
from bench.peers import litellm, nginx, portkey, sglang, tensorzero
from bench.registry import FRONTS, INFERMUX_ON, OWN, PEERS
from bench.run import ALL, SETS
from bench.scenarios import SCENARIOS, round_load
from bench.tools import HERE
from infermux.bench.load import KEY, Load

INSTALLED = {"litellm": litellm, "portkey": portkey, "sglang": sglang, "tensorzero": tensorzero}
UPSTREAM = "http://127.0.0.1:9/v1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(port=8080, upstream=UPSTREAM, folder=tmp_path)


def command_of(front: Front, site: Site) -> Command:
    assert front.command is not None
    return front.command(site)


def test_every_front_is_either_ours_or_a_peer() -> None:
    assert sorted((*OWN, *PEERS)) == sorted(FRONTS)
    assert set(PEERS) == {"nginx", *INSTALLED}


@pytest.mark.parametrize("name", SETS)
def test_a_set_names_scenarios_and_fronts_that_there_are(name: str) -> None:
    assert set(SETS[name]["scenario"]) <= set(ALL)
    assert set(SETS[name]["fronts"]) <= set(OWN)


@pytest.mark.parametrize("name", INSTALLED)
def test_its_script_pins_an_exact_version_and_the_page_names_it(name: str) -> None:
    script = (HERE / "peers" / f"{name}.sh").read_text(encoding="utf-8")
    (pinned, *_) = re.findall(r'(?:==|": ")(\d+(?:\.\d+)+)["\s]', script)
    (line,) = re.findall(rf"^\| `{name}` \| .+", (HERE / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned in line


@pytest.mark.parametrize("name", INSTALLED)
def test_one_that_is_not_installed_says_how_to_install_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(INSTALLED[name], "_PYTHON" if name in {"sglang", "tensorzero"} else "_PROGRAM", tmp_path / "no")
    node = tmp_path / "node"
    node.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = FRONTS[name].missing()
    assert missing == f"not installed: run bench/peers/{name}.sh"


def test_portkey_needs_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert portkey.FRONT.missing() == "there is no node"


def test_tensorzero_is_configured_for_the_upstream_and_asked_in_its_own_way(site: Site) -> None:
    command = command_of(tensorzero.FRONT, site)
    config = tomllib.loads((site.folder / "tensorzero.toml").read_text(encoding="utf-8"))
    assert config["models"]["bench-model"]["providers"]["mock"]["api_base"] == UPSTREAM
    assert config["gateway"]["observability"]["enabled"] is False
    assert command.port_file is not None
    assert str(command.port_file) in command.words
    load = tensorzero.FRONT.asks(site).of(Load())
    assert load.path == "/openai/v1/chat/completions"
    assert json.loads(load.body)["model"] == "tensorzero::model_name::bench-model"


def test_portkey_is_told_the_provider_by_headers(site: Site) -> None:
    assert "--port=8080" in command_of(portkey.FRONT, site).words
    headers = portkey.FRONT.asks(site).of(Load()).sent_headers
    assert headers == {
        "Authorization": f"Bearer {KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": UPSTREAM,
    }


def test_sglang_forwards_to_the_upstream_itself(site: Site) -> None:
    words = command_of(sglang.FRONT, site).words
    assert words[words.index("--worker-urls") + 1] == "http://127.0.0.1:9"


def test_litellm_is_configured_for_the_upstream_and_checks_the_callers_key(site: Site) -> None:
    command_of(litellm.FRONT, site)
    config = json.loads((site.folder / "litellm.yaml").read_text(encoding="utf-8"))
    assert config["model_list"][0]["litellm_params"]["api_base"] == UPSTREAM
    assert litellm.FRONT.asks(site).key == config["general_settings"]["master_key"]


def test_nginx_forwards_to_the_upstream(site: Site) -> None:
    command_of(nginx.FRONT, site)
    assert "upstream mock { server 127.0.0.1:9;" in (site.folder / "nginx.conf").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["sglang", "tensorzero"])
def test_a_runtime_of_rust_has_one_worker_thread_for_its_one_cpu(name: str, site: Site) -> None:
    assert command_of(FRONTS[name], site).env["TOKIO_WORKER_THREADS"] == "1"


def test_infermux_with_everything_on_is_asked_with_a_key_of_its_own(site: Site) -> None:
    assert INFERMUX_ON.asks(site).key.startswith("ifx_")


def test_a_load_without_what_a_front_needs_is_as_the_caller_sends_it() -> None:
    load = Asks().of(Load())
    assert (load.path, load.sent_headers) == (None, {"Authorization": f"Bearer {KEY}"})


def test_the_version_of_a_distribution_in_another_environment_is_read(tmp_path: Path) -> None:
    (tmp_path / "lib/python3.11/site-packages/sglang_router-0.3.2.dist-info").mkdir(parents=True)
    assert version_in(tmp_path, "sglang_router") == "0.3.2"
    assert version_in(tmp_path, "tensorzero") == "not installed"


def test_the_rate_is_half_of_what_litellm_held() -> None:
    assert half.at(84.4).rate == 42.2
    assert half.at(None).rate == half.WITHOUT


def test_each_of_the_5000_callers_has_one_stream() -> None:
    scenario = SCENARIOS["streams-5000"]
    streams_for = scenario.pace.tokens * scenario.pace.interval_ms / 1000
    assert streams_for > scenario.seconds > scenario.stagger
    assert round_load(scenario, quick=True).seconds == scenario.seconds
