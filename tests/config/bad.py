"""Bad configurations with every problem they have: `LINE: path: message`, in the order they are reported."""

from __future__ import annotations

import attrs

GOOD = """\
providers:
  - name: local
    type: ollama
    models: [llama3.2]
"""

DURATION = "a duration above zero such as 250ms, 30s, 1m30s, 2h (a plain number is seconds)"
SIZE = "a size above zero such as 64KB, 32MiB, 1GiB (a plain number is bytes)"
URL = "an http:// or https:// URL with a host, without user information, query or fragment, or null"
ADDRESS = 'an address to listen on such as "127.0.0.1:8080", "[::1]:8080" or ":8080"'
NAME = "a name of the characters a-z A-Z 0-9 . _ -"
TYPES = (
    "one of openai, anthropic, ollama, azure_openai, bedrock, process, simulated, "
    "or a type an installed plugin registers"
)
STRATEGIES = (
    "one of round_robin, least_latency, cost_weighted, random, priority, least_busy, peak_ewma, sticky, "
    "or a strategy an installed plugin registers"
)
LIMIT = "a whole number above zero, or null for no limit"
STATE = (
    "must be a Redis or Valkey: redis://USER:PASSWORD@HOST:PORT/DB, rediss:// (TLS), valkey://, valkeys:// or "
    "unix:///PATH"
)


@attrs.frozen
class Bad:
    name: str
    text: str
    problems: tuple[str, ...]


def _bad(name: str, text: str, *problems: str) -> Bad:
    return Bad(name, text, problems)


def _added(name: str, text: str, *problems: str) -> Bad:
    """`text` after a good provider: it begins on line 5."""
    return Bad(name, GOOD + text, problems)


def _provider(name: str, text: str, *problems: str) -> Bad:
    """`text`, one key, on line 4 of an otherwise good provider."""
    return Bad(name, f"providers:\n  - name: a\n    type: ollama\n    {text}\n", problems)


FILES = [
    _bad(
        "empty",
        "",
        "1: providers: no model providers configured in infermux.yml; add at least one: "
        'providers: [{name: openai, type: openai, api_key: "${OPENAI_API_KEY}"}], '
        "or install one: infermux provider install ID --package NAME",
    ),
    _bad(
        "providers-null",
        "listen: ':8080'\nproviders:\n",
        "2: providers: no model providers configured in infermux.yml; add at least one: "
        'providers: [{name: openai, type: openai, api_key: "${OPENAI_API_KEY}"}], '
        "or install one: infermux provider install ID --package NAME",
    ),
    _bad("list", "- a\n- b\n", "1: (file): must be a mapping of sections such as `providers:`, not a list"),
    _bad("text", "hello\n", "1: (file): must be a mapping of sections such as `providers:`, not text"),
    _bad("open-bracket", "providers: [\n", "2: (file): is not valid YAML: did not find expected node content"),
    _bad(
        "tab",
        "providers:\n\t- name: a\n",
        "2: (file): is not valid YAML: found character that cannot start any token "
        "(tabs do not indent, and text that begins with @, ` or % needs quotes)",
    ),
    _bad("alias-of-nothing", "a: 1\nb: *nothing\n", "2: (file): is not valid YAML: found undefined alias"),
    _bad("two-documents", "a: 1\n---\nb: 1\n", "2: (file): is not valid YAML: holds more than one document"),
    _bad("self", "a: &a [*a]\n", "1: (file): an anchor contains itself"),
    _added("tag", "log: !!python/none\n", "5: log: must be a mapping of keys, not text"),
    _added("tag-on-text", "listen: !where ':80'\n", "5: listen: YAML tags are not allowed here"),
    _added("merge-of-text", "log: {<<: debug}\n", "5: log: `<<` takes a mapping or a list of mappings"),
    _added("key-of-list", "log: {[a]: debug}\n", "5: log: a key must be text"),
]

KEYS = [
    _added("unknown-near", "limts: {}\n", '5: limts: unknown key; did you mean "limits"?'),
    _added(
        "unknown-far",
        "tls: {zzz: 1}\n",
        "5: tls.zzz: unknown key; known here: cert_file, key_file",
    ),
    _added("twice", "listen: ':1'\nlog: {}\nlisten: ':2'\n", "7: listen: is there twice, first on line 5"),
    _provider("twice-in-provider", "name: b", "4: providers[0].name: is there twice, first on line 2"),
    _added(
        "twice-in-a-mapping-of-ones-own",
        "routing:\n  fallbacks:\n    gpt-3.5: [llama3.2]\n    gpt-3.5: []\n",
        '8: routing.fallbacks["gpt-3.5"]: is there twice, first on line 7',
    ),
    _bad(
        "required",
        "providers:\n  - models: [a]\n",
        f"2: providers[0].name: is required: {NAME}",
        f"2: providers[0].type: is required: {TYPES}",
    ),
    _bad(
        "meant-key-is-not-missing-too",
        "providers:\n  - name: a\n    type: anthropic\n    api_kye: x\n",
        '4: providers[0].api_kye: unknown key; did you mean "api_key"?',
    ),
    _added("section-is-list", "routing: [a]\n", "5: routing: must be a mapping of keys, not a list"),
    _bad("providers-mapping", "providers:\n  a: {}\n", "2: providers: must be a list of providers, not a mapping"),
    _bad("provider-text", "providers:\n  - ollama\n", "2: providers[0]: must be a mapping of keys, not text"),
]

VALUES = [
    _added("log-level", "log: {level: loud}\n", '5: log.level: must be debug, info, warn or error, not "loud"'),
    _added(
        "log-format",
        "log: {format: jsn}\n",
        '5: log.format: must be text or json, not "jsn"; did you mean "json"?',
    ),
    _added("bool-text", 'log: {timestamps: "yes"}\n', '5: log.timestamps: must be true or false, not "yes"'),
    _added("bool-number", "log: {timestamps: 1}\n", "5: log.timestamps: must be true or false, not 1"),
    _added("listen-no-port", "listen: localhost\n", f'5: listen: must be {ADDRESS}, not "localhost"'),
    _added("listen-number", "listen: 8080\n", f"5: listen: must be {ADDRESS}, not 8080; put it in quotes"),
    _added("listen-port", "listen: '[::1]:65536'\n", f'5: listen: must be {ADDRESS}, not "[::1]:65536"'),
    _added("listen-v6", "listen: '[::g]:80'\n", f'5: listen: must be {ADDRESS}, not "[::g]:80"'),
    _added("listen-null", "listen:\n", f"5: listen: must be {ADDRESS}, not empty"),
    _added("size", "limits: {max_body_bytes: 32 MiB}\n", f'5: limits.max_body_bytes: must be {SIZE}, not "32 MiB"'),
    _added("size-zero", "limits: {max_body_bytes: 0}\n", f"5: limits.max_body_bytes: must be {SIZE}, not 0"),
    _added(
        "limit-fraction",
        "limits: {max_concurrent_requests: 1.5}\n",
        "5: limits.max_concurrent_requests: must be a whole number above zero, not 1.5",
    ),
    _provider("duration", "timeout: soon", f'4: providers[0].timeout: must be {DURATION}, not "soon"'),
    _provider("duration-zero", "timeout: 0s", f'4: providers[0].timeout: must be {DURATION}, not "0s"'),
    _provider("duration-negative", "timeout: -3", f"4: providers[0].timeout: must be {DURATION}, not -3"),
    _provider("duration-base-60", "timeout: 1:30", f"4: providers[0].timeout: must be {DURATION}, not 1:30"),
    _provider("duration-order", "timeout: 30s1m", f'4: providers[0].timeout: must be {DURATION}, not "30s1m"'),
    _provider("duration-bool", "timeout: true", f"4: providers[0].timeout: must be {DURATION}, not true"),
    _provider(
        "rate-limits",
        "rate_limits: {requests_per_minute: 0, tokens_per_minute: -5, max_concurrent: many}",
        f"4: providers[0].rate_limits.requests_per_minute: must be {LIMIT}, not 0",
        f"4: providers[0].rate_limits.tokens_per_minute: must be {LIMIT}, not -5",
        "4: providers[0].rate_limits.max_concurrent: must be a whole number above zero, auto, or null for no limit, "
        'not "many"',
    ),
    _provider(
        "number-in-quotes",
        'rate_limits: {requests_per_minute: "0x10"}',
        "4: providers[0].rate_limits.requests_per_minute: must be a whole number above zero, or null for no limit, "
        'not "0x10"',
    ),
    _provider(
        "both-keys",
        "api_key: a\n    api_keys: [b]",
        "5: providers[0].api_keys: goes in place of `api_key`: give one of the two",
    ),
    _bad(
        "keys-of-bedrock",
        "providers:\n  - name: a\n    type: bedrock\n    region: eu-west-1\n    api_keys: [b]\n",
        "5: providers[0].api_keys: bedrock takes one `api_key`",
    ),
    _bad(
        "region-of-bedrock",
        "providers:\n  - name: a\n    type: bedrock\n    region: EU West\n",
        '4: providers[0].region: must be an AWS region such as us-east-1, not "EU West"',
    ),
    _added("rescue", "rescue: maybe\n", '5: rescue: must be none or continue, not "maybe"'),
    _added(
        "hedge",
        "hedge: {after: p0, max_extra_ratio: 2}\n",
        "5: hedge.after: must be a percentile of the provider's own times such as p95, or a duration such as 2s, "
        'not "p0"',
        "5: hedge.max_extra_ratio: must be a number from 0 to 1, not 2",
    ),
    _added(
        "queue",
        "queue: {max_wait: soon, max_size: 0}\n",
        "5: queue.max_wait: must be a duration such as 0s, 250ms, 30s, 1m30s, 2h (a plain number is seconds), "
        'not "soon"',
        "5: queue.max_size: must be a whole number above zero, not 0",
    ),
    _added("backoff", "retry: {backoff: {base: 0s}}\n", f'5: retry.backoff.base: must be {DURATION}, not "0s"'),
    _provider("weight", "weight: 0", "4: providers[0].weight: must be a number above zero, not 0"),
    _provider("url-scheme", "base_url: ftp://h/", f'4: providers[0].base_url: must be {URL}, not "ftp://h/"'),
    _provider("url-host", "base_url: 'http://'", f'4: providers[0].base_url: must be {URL}, not "http://"'),
    _provider("url-query", "base_url: http://h/?a=b", f"4: providers[0].base_url: must be {URL}"),
    _provider("url-port", "base_url: http://h:99999", f'4: providers[0].base_url: must be {URL}, not "http://h:99999"'),
    _provider(
        "no-models",
        "models: []",
        "4: providers[0].models: must not be an empty list; leave the key out to serve any model",
    ),
    _provider("models-text", "models: a", "4: providers[0].models: must be a list of model names, not text"),
    _provider(
        "model-number",
        "models: [a, 4.1, on]",
        "4: providers[0].models[1]: must be text that is not empty, not 4.1; put it in quotes",
        "4: providers[0].models[2]: must be text that is not empty, not on; put it in quotes",
    ),
    _provider(
        "aliases-list",
        "model_aliases: [a]",
        "4: providers[0].model_aliases: must be a mapping of caller's model names to the provider's, not a list",
    ),
    _provider(
        "header-name",
        'headers: {"a b": c}',
        '4: providers[0].headers["a b"]: the key must be a header name',
    ),
    _provider(
        "method",
        "health_check: {method: ping, interval: 0}",
        '4: providers[0].health_check.method: must be auto, generate, models or none, not "ping"',
        f"4: providers[0].health_check.interval: must be {DURATION}, not 0",
    ),
    _provider(
        "breaker",
        "circuit_breaker: {error_rate_threshold: 1.5}",
        "4: providers[0].circuit_breaker.error_rate_threshold: must be a number above 0, at most 1, not 1.5",
    ),
    _provider(
        "failure-rate",
        "simulate: {failure_rate: 40}",
        "4: providers[0].simulate.failure_rate: must be a number from 0 to 1, not 40",
    ),
    _provider(
        "script",
        "simulate: {script: [{status: 200}, {hang: true, refuse: true}, {repeat: true, ok: true}, {ok: true}]}",
        "4: providers[0].simulate.script[0].status: must be a status from 400 to 599, not 200",
    ),
    _provider(
        "script-clash",
        "simulate: {script: [{hang: true, refuse: true}, {repeat: true, ok: true}, {for: 3s, ok: true}]}",
        "4: providers[0].simulate.script[0]: takes one of ok, status, hang, refuse, malformed, cut_after, stall_after, "
        "not hang and refuse together",
        "4: providers[0].simulate.script[2]: `for` needs `stall_after` beside it",
        "4: providers[0].simulate.script[1].repeat: the steps after one that repeats for ever are never reached",
    ),
    _bad(
        "process",
        "providers:\n  - {name: a, type: process, cwd: /}\n  - {name: b, type: process, command: [], env: {1A: x}}\n",
        '2: providers[0].command: is required for type process, such as ["my-provider", "--some-flag"]',
        "3: providers[1].command: must not be an empty list",
        "3: providers[1].env.1A: the key must be a variable's name",
    ),
    _bad(
        "names",
        "providers:\n  - {name: a b, type: olama}\n",
        f'2: providers[0].name: must be {NAME}, not "a b"',
        f'2: providers[0].type: must be {TYPES}, not "olama"; did you mean "ollama"?',
    ),
    _added(
        "strategy",
        "routing: {strategy: fastest}\n",
        f'5: routing.strategy: must be {STRATEGIES}, not "fastest"',
    ),
    _added(
        "sticky",
        "routing: {sticky: {key: 'header:a b'}}\n",
        '5: routing.sticky.key: must be prefix, caller or header:NAME, not "header:a b"',
    ),
    _added(
        "pricing",
        "pricing: {local: {llama3.2: {input_per_million: -1}}}\n",
        '5: pricing.local["llama3.2"].input_per_million: must be US dollars: a number from 0 to 1000000000, not -1',
    ),
    _added("attempts", "retry: {max_attempts: 0}\n", "5: retry.max_attempts: must be a whole number above zero, not 0"),
]

INTERPOLATION = [
    _provider(
        "unset",
        'api_key: "${NOT_SET_HERE}"',
        "4: providers[0].api_key: the environment variable NOT_SET_HERE is not set; "
        "set it, or give a default: ${NOT_SET_HERE:-...}",
    ),
    _provider(
        "unclosed",
        'base_url: "http://${HOST"',
        "4: providers[0].base_url: has a `${` without its `}`; write `$${` for the characters themselves",
    ),
    _provider(
        "no-name",
        'base_url: "http://${a b}"',
        "4: providers[0].base_url: has a `${...}` that is neither ${VAR}, ${VAR:-default} nor ${file:/path}; "
        "write `$${` for the characters themselves",
    ),
    _provider(
        "nested",
        'base_url: "http://${A:-${B}}"',
        "4: providers[0].base_url: has a `${...}` inside the default of ${A}; they do not nest",
    ),
    _provider(
        "no-file",
        'api_key: "${file:/nowhere/key}"',
        "4: providers[0].api_key: the file /nowhere/key cannot be read: No such file or directory",
    ),
    _provider(
        "relative-file",
        'api_key: "${file:key}"',
        "4: providers[0].api_key: `${file:...}` takes an absolute path: ${file:/run/secrets/key}",
    ),
]

TOGETHER = [
    _bad(
        "same-name",
        "providers:\n  - {name: a, type: ollama}\n  - {name: b, type: ollama}\n  - {name: a, type: ollama}\n",
        '4: providers[2].name: the name "a" is taken, first on line 2',
    ),
    _bad(
        "azure",
        "providers:\n  - name: a\n    type: azure_openai\n    api_key: k\n",
        '2: providers[0].base_url: is required for type azure_openai, such as "https://RESOURCE.openai.azure.com"',
        '2: providers[0].azure_api_version: is required for type azure_openai, such as "2024-10-21"',
    ),
    _bad(
        "hosted-key",
        "providers:\n  - {name: a, type: openai}\n  - {name: b, type: anthropic}\n"
        "  - {name: c, type: openai, base_url: http://127.0.0.1:8000/v1}\n",
        '2: providers[0].api_key: is required for type openai at its hosted address: "${NAME}" takes it from the '
        "environment",
        '3: providers[1].api_key: is required for type anthropic: "${NAME}" takes it from the environment',
    ),
    _added(
        "static-key",
        "auth:\n  mode: static_key\n",
        '5: auth.key: is required with mode static_key, such as "${INFERMUX_API_KEY}"',
    ),
    _added(
        "tls",
        "tls:\n  cert_file: /etc/cert.pem\n",
        "5: tls.key_file: is missing: cert_file and key_file go together, or leave both out",
    ),
    _added(
        "ledger",
        "ledger: {url: 'mysql://somebody:hidden@host/ledger'}\n",
        "5: ledger.url: must be a database: sqlite:///PATH, sqlite:// (in memory) or "
        "postgresql://USER:PASSWORD@HOST/NAME, or null",
    ),
    _added(
        "group-of-nobody",
        "routing:\n  groups:\n    - name: fast\n      models: ['*']\n      providers: [local, loca]\n",
        '9: routing.groups[0].providers[1]: no provider has the name "loca"; did you mean "local"?',
    ),
    _added(
        "group-twice",
        "routing:\n  groups:\n    - {name: g, models: [a]}\n    - {name: g, models: [b]}\n",
        '8: routing.groups[1].name: the name "g" is taken, first on line 7',
    ),
    _added(
        "group-without-models",
        "routing:\n  groups:\n    - {name: g}\n    - {name: h, models: []}\n",
        "7: routing.groups[0].models: is required: a list of model names or globs",
        "8: routing.groups[1].models: must not be an empty list",
    ),
    _added(
        "default-model",
        "routing: {default_model: lama3.2}\n",
        '5: routing.default_model: no provider serves "lama3.2"; did you mean "llama3.2"?',
    ),
    _added(
        "default-auto",
        "routing: {default_model: auto}\n",
        '5: routing.default_model: must be a model, not "auto", which means this default',
    ),
    _added(
        "a-budget-without-a-period",
        "budgets: [{caller: a, limit_usd: 50}]\n",
        "5: budgets[0].period: is required: day, week or month",
    ),
    _added(
        "a-mode-that-is-none",
        "auth: {mode: key}\n",
        '5: auth.mode: must be open, static_key, keys or passthrough, not "key"; did you mean "keys"?',
    ),
    _bad(
        "open-to-strangers",
        "listen: ':8080'\nproviders:\n  - {name: a, type: anthropic, api_key: k}\n",
        "1: listen: is not a loopback address, while auth.mode is open and a provider carries credentials: anybody who "
        "reaches it could spend them. Listen on loopback (127.0.0.1:8080), or set auth.mode: static_key or keys, or "
        "take the credentials out of the providers",
    ),
    _bad(
        "many",
        "providers:\n  - name: a\n    type: ollama\n    timeout: x\n    weight: -1\nlog: {level: x}\nbogus: 1\n"
        "routing: {groups: [{name: g, models: [a], providers: [b]}]}\n",
        f'4: providers[0].timeout: must be {DURATION}, not "x"',
        "5: providers[0].weight: must be a number above zero, not -1",
        '6: log.level: must be debug, info, warn or error, not "x"',
        "7: bogus: unknown key; known here: listen, management_listen, management_hosts, workers, log, tls, auth, "
        "limits, shutdown_delay, shutdown_grace, providers, providers_file, circuit_breaker, routing, retry, rescue, "
        "hedge, queue, pricing, budgets, ledger, state, cache, telemetry",
        '8: routing.groups[0].providers[0]: no provider has the name "b"; there are: a',
    ),
]

WORKERS = [_added("workers", "workers: few\n", '5: workers: must be a whole number above zero, or auto, not "few"')]

STATES = [
    _added("state of another kind", "state: {url: 'http://h'}\n", f"5: state.url: {STATE}"),
    _added("state nowhere", "state: {url: 'redis://:secret@'}\n", f"5: state.url: {STATE}"),
    _added("state with an option nobody knows", "state: {url: 'redis://h?timeout=1'}\n", f"5: state.url: {STATE}"),
]

ALL = FILES + KEYS + VALUES + WORKERS + INTERPOLATION + TOGETHER + STATES
