"""Which file is loaded, what comes out of a good one, and how a file that is none is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from infermux.config import Overrides, find_config, load, load_checked, load_text
from infermux.config.settings import AuthMode, ProbeMethod
from infermux.errors import ConfigError
from infermux.secret import Secret

GOOD = "providers: [{name: a, type: ollama}]\n"
SEEDS = sorted((Path(__file__).parent / "seed").glob("*.yml"))
SEED_KEYS = ("MY", "OPENAI", "ANTHROPIC", "AZURE_OPENAI", "GROQ", "TOGETHER")
SEED_ENVIRON = {"API_KEY": "k", **{f"{name}_API_KEY": f"k-{name}" for name in SEED_KEYS}}


def problem(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(path), environ={})
    (only,) = caught.value.problems
    return str(only)


class TestFinding:
    def test_the_explicit_file_comes_first_there_or_not(self, tmp_path: Path) -> None:
        (tmp_path / "infermux.yml").write_text(GOOD)
        found = find_config("other.yml", {"INFERMUX_CONFIG": "third.yml"}, tmp_path, tmp_path)
        assert found == "other.yml"

    def test_then_the_environment(self, tmp_path: Path) -> None:
        (tmp_path / "infermux.yml").write_text(GOOD)
        assert find_config(None, {"INFERMUX_CONFIG": "third.yml"}, tmp_path, tmp_path) == "third.yml"

    def test_then_the_working_directory_then_home(self, tmp_path: Path) -> None:
        here, home = tmp_path / "here", tmp_path / "home"
        here.mkdir()
        (home / ".infermux").mkdir(parents=True)
        at_home = home / ".infermux" / "infermux.yml"
        at_home.write_text(GOOD)
        assert find_config(None, {"INFERMUX_CONFIG": ""}, here, home) == str(at_home)
        assert find_config(None, {"HOME": str(home)}, here) == str(at_home)
        (here / "infermux.yml").write_text(GOOD)
        assert find_config(None, {}, here, home) == str(here / "infermux.yml")

    def test_none_at_all_says_where_it_looked_and_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no model providers configured: none of") as caught:
            find_config(None, {}, tmp_path, tmp_path / "home")
        message = str(caught.value)
        for part in ("$INFERMUX_CONFIG", str(tmp_path / "home" / ".infermux" / "infermux.yml"), "-c FILE", "--demo"):
            assert part in message


class TestFiles:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "none.yml"
        assert problem(path) == f"{path}:1: (file): cannot be read: No such file or directory"

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        assert problem(tmp_path) == f"{tmp_path}:1: (file): cannot be read: Is a directory"

    def test_an_impossible_path_is_no_file(self) -> None:
        assert problem("a\0b").endswith("(file): cannot be read: not a usable path")

    def test_other_encodings_are_refused_with_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "latin.yml"
        path.write_bytes(b"a: 1\nb: \xe9\n")
        assert problem(path) == f"{path}:2: (file): is not UTF-8 text"

    def test_a_byte_order_mark_does_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "bom.yml"
        path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
        assert load(str(path), environ={}).providers[0].name == "a"

    def test_control_characters_are_refused_with_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "control.yml"
        path.write_bytes(b"a: 1\nb: \x07\n")
        assert problem(path) == f"{path}:2: (file): is not valid YAML: contains a control character"

    def test_an_endless_file_is_not_read_to_its_end(self) -> None:
        assert problem("/dev/zero") == "/dev/zero:1: (file): is larger than 8 MiB"

    def test_the_source_is_remembered(self, tmp_path: Path) -> None:
        path = tmp_path / "x.yml"
        path.write_text(GOOD)
        config, warnings = load_checked(str(path), environ={})
        assert (config.source, warnings) == (str(path), [])


class TestBounds:
    def test_a_billion_laughs_are_refused(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
        with pytest.raises(ConfigError, match="more than 500000 values once its aliases are expanded"):
            load_text("\n".join(lines), environ={})

    def test_a_long_chain_of_aliases_is_refused(self) -> None:
        lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000))]
        with pytest.raises(ConfigError, match="nested more than 64 levels deep"):
            load_text("\n".join(lines), environ={})

    @pytest.mark.parametrize("levels", [100, 900, 100_000])
    def test_deep_nesting_is_refused(self, levels: int) -> None:
        with pytest.raises(ConfigError):
            load_text("extra: " + "[" * levels + "]" * levels, environ={})

    def test_anchors_and_merge_keys_work(self) -> None:
        config = load_text(
            """\
providers:
  - &base {name: a, type: ollama, timeout: 5s, models: &m [x, y]}
  - {<<: *base, name: b, timeout: 7s}
  - {<<: [{weight: 3}, *base], name: c, models: *m}
""",
            environ={},
        )
        assert [(p.name, p.timeout, p.weight, p.models) for p in config.providers] == [
            ("a", 5.0, 1.0, ("x", "y")),
            ("b", 7.0, 1.0, ("x", "y")),
            ("c", 5.0, 3.0, ("x", "y")),
        ]

    @pytest.mark.slow
    def test_a_thousand_providers_load_fast(self) -> None:
        one = (
            "  - name: p{0}\n    type: openai\n    api_key: k\n    base_url: http://h{0}/v1\n    models: [a{0}, b]\n"
            "    rate_limits:\n      requests_per_minute: 5\n    health_check: {{interval: 5s}}\n"
        )
        text = "providers:\n" + "".join(one.format(index) for index in range(1000))
        start = time.process_time()
        assert len(load_text(text, environ={}).providers) == 1000
        assert time.process_time() - start < 1.5


@pytest.mark.parametrize("path", SEEDS, ids=[path.stem for path in SEEDS])
def test_each_example_of_the_seed_loads(path: Path) -> None:
    config, warnings = load_checked(str(path), environ=SEED_ENVIRON)
    assert config.providers
    assert all(warning.path.startswith("never") for warning in warnings)


def test_the_seed_with_every_field_means_what_it_says() -> None:
    (provider,) = load(str(SEEDS[0].parent / "every-field.yml"), environ=SEED_ENVIRON).providers
    assert (provider.name, provider.type, provider.base_url) == ("my-provider", "openai", "https://...")
    assert provider.api_key == Secret("k-MY")
    assert (provider.timeout, provider.models) == (30.0, ("gpt-4o", "gpt-4o-mini"))
    assert provider.model_aliases == {"gpt-4o": "claude-opus-4-5"}
    assert (provider.rate_limits.requests_per_minute, provider.rate_limits.tokens_per_minute) == (500, 100_000)
    check = provider.health_check
    assert (check.interval, check.timeout, check.disabled, check.method) == (30.0, 5.0, False, ProbeMethod.AUTO)


def test_the_example_file_loads_without_warnings() -> None:
    path = Path(__file__).parents[2] / "examples" / "infermux.yml"
    assert load_checked(str(path), environ=SEED_ENVIRON)[1] == []


def test_the_reference_of_all_sections_loads_with_its_defaults() -> None:
    text = """\
listen: "127.0.0.1:8080"
management_listen: null
providers_file: null
workers: 1
log: {level: info, format: text, timestamps: true, bodies: false}
tls: {cert_file: null, key_file: null}
auth: {mode: open, key: null}
limits: {max_body_bytes: 32MiB, max_concurrent_requests: 10000, header_timeout: 10s, write_timeout: 60s}
shutdown_grace: 30s
providers:
  - name: openai
    type: openai
    api_key: "${OPENAI_API_KEY}"
    api_keys: []
    base_url: "https://api.openai.com/v1"
    timeout: 60s
    timeouts: {connect: 5s, first_token: null, idle: 60s, total: null}
    models: [gpt-4o, gpt-4o-mini]
    model_aliases: {smart: gpt-4o}
    weight: 1
    tags: [eu]
    rate_limits: {requests_per_minute: 3500, tokens_per_minute: 800000, max_concurrent: null}
    health_check: {interval: 60s, timeout: 10s, disabled: false, method: auto, model: null}
    circuit_breaker: {}
    azure_deployment: null
    azure_api_version: null
    region: null
    command: null
    default_max_tokens: 4096
    headers: {}
    extra_body: {}
    fetch_images: false
    strict: false
    env: {}
    cwd: null
    http2: false
    proxy: null
    tls: {ca_file: null, verify: true}
    simulate: {first_token: 200ms, tokens_per_second: 50, failure_rate: 0, script: []}
circuit_breaker: {error_rate_threshold: 0.5, consecutive_failures: 5, latency_p95_ms: null, window_seconds: 60,
                  min_requests: 10, recovery_window: 30s, probe_timeout: 5s}
routing:
  strategy: round_robin
  default_model: null
  aliases: after
  least_latency: {ewma_decay: 0.1, min_samples: 5, measure: response}
  sticky: {key: prefix}
  fallbacks: {gpt-4o: [claude-opus-4-5]}
  context_fallbacks: {}
  groups:
    - {name: fast, models: [gpt-4o-mini, "claude-haiku-*"], strategy: cost_weighted, providers: [openai], cache: false}
retry: {max_attempts: 4, same_provider: 1, stay_when_model_changes: true, wait_for_retry_after: 3s,
        budget_ratio: 0.2, budget_min_per_second: 3, backoff: {base: 100ms, max: 2s}}
hedge: {enabled: false, after: p95, max_extra_ratio: 0.05}
queue: {max_wait: 0s, max_size: 1000}
pricing: {openai: {gpt-4o: {input_per_million: 2.50, output_per_million: 10.00}}}
budgets: []
ledger: {url: "sqlite:///~/.infermux/ledger.db"}
state: {url: null}
cache: {enabled: false, ttl: 5m, max_bytes: 64MiB, shared: false}
telemetry: {otlp_endpoint: null}
rescue: none
management_hosts: []
"""
    config = load_text(text, environ=SEED_ENVIRON)
    plain = load_text("providers: [{name: openai, type: openai, api_key: k}]", environ={})
    for section in ("listen", "log", "tls", "auth", "limits", "shutdown_grace", "circuit_breaker", "retry"):
        assert getattr(config, section) == getattr(plain, section), section
    for key in ("timeout", "timeouts", "weight", "health_check", "circuit_breaker", "tls", "simulate", "http2"):
        assert getattr(config.providers[0], key) == getattr(plain.providers[0], key), key
    assert config.routing.groups[0].models == ("gpt-4o-mini", "claude-haiku-*")
    assert config.pricing["openai"]["gpt-4o"].output_per_million == 10.0


def test_a_providers_circuit_breaker_overrides_the_global_one_key_by_key() -> None:
    text = """\
circuit_breaker: {min_requests: 3, recovery_window: 7s}
providers:
  - {name: a, type: ollama, circuit_breaker: {recovery_window: 1s}}
  - {name: b, type: ollama}
"""
    first, second = load_text(text, environ={}).providers
    assert (first.circuit_breaker.min_requests, first.circuit_breaker.recovery_window) == (3, 1.0)
    assert (second.circuit_breaker.min_requests, second.circuit_breaker.recovery_window) == (3, 7.0)


def test_interpolation_supplies_values_of_every_kind() -> None:
    text = """\
listen: "127.0.0.1:${PORT}"
auth: {mode: "${MODE}", key: "${KEY}"}
limits: {max_body_bytes: "${SIZE}"}
providers:
  - name: "${NAME}-1"
    type: "${TYPE:-ollama}"
    timeout: ${SECONDS}
    http2: ${YES}
    base_url: "${BASE:-}"
    rate_limits: {requests_per_minute: "${RPM:-500}", max_concurrent: "${NONE:-}"}
    model_aliases: {"${NAME}": "$${kept}"}
    headers: {X-Key: "k-${KEY}"}
    extra_body: {a: ["${NAME}", 1, 2.5, true, null], b: {c: "$$"}}
"""
    environ = {
        "PORT": "0",
        "MODE": "static_key",
        "KEY": "k",
        "SIZE": "1MiB",
        "NAME": "n",
        "SECONDS": "1m",
        "YES": "yes",
    }
    config = load_text(text, environ=environ)
    (provider,) = config.providers
    assert (config.listen, config.auth.mode, config.auth.key) == ("127.0.0.1:0", AuthMode.STATIC_KEY, Secret("k"))
    assert config.limits.max_body_bytes == 2**20
    assert (provider.name, provider.type, provider.timeout, provider.http2) == ("n-1", "ollama", 60.0, True)
    assert provider.base_url is None
    assert (provider.rate_limits.requests_per_minute, provider.rate_limits.max_concurrent) == (500, None)
    assert provider.model_aliases == {"n": "${kept}"}
    assert provider.headers == {"X-Key": "k-k"}
    assert provider.extra_body == {"a": ["n", 1, 2.5, True, None], "b": {"c": "$"}}


def test_an_unquoted_date_is_text_where_text_is_wanted() -> None:
    keys = "type: azure_openai, api_key: k, base_url: 'https://h', azure_api_version: 2024-10-21"
    text = f"providers:\n  - {{name: a, {keys}}}\n"
    assert load_text(text, environ={}).providers[0].azure_api_version == "2024-10-21"


def test_sections_left_empty_have_their_defaults() -> None:
    text = (
        "log:\nrouting:\n  fallbacks:\n  groups:\nproviders:\n  - name: a\n    type: ollama\n    models:\n    tags:\n"
    )
    config = load_text(text, environ={})
    assert config.log.level == "info"
    assert (config.providers[0].models, config.providers[0].tags, config.routing.groups) == (None, (), ())


def test_a_fault_script_is_read_with_times_in_seconds() -> None:
    text = """\
providers:
  - name: a
    type: simulated
    simulate:
      script: [{status: 429, retry_after: 3s}, {cut_after: 5, times: 2}, {hang: true, from: 500ms, to: 1m}]
"""
    assert load_text(text, environ={}).providers[0].simulate.script == (
        {"status": 429, "retry_after": 3.0},
        {"cut_after": 5, "times": 2},
        {"hang": True, "from": 0.5, "to": 60.0},
    )


def test_the_command_line_overrides_the_file_and_is_checked_with_it() -> None:
    text = "providers: [{name: a, type: anthropic, api_key: k}]\n"
    config = load_text(text, environ={}, overrides=Overrides(listen="127.0.0.1:1", log_level="debug"))
    assert (config.listen, config.log.level) == ("127.0.0.1:1", "debug")
    with pytest.raises(ConfigError, match="is not a loopback address"):
        load_text(text, environ={}, overrides=Overrides(listen=":1"))
