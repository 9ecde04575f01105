"""What no key can tell alone: names that must fit together, credentials, and what may be open to whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from .bookkeeping import MANAGEMENT_TOKEN, check_ledger, check_pricing, check_state, check_telemetry
from .budgets import check_budgets
from .caching import check_cache
from .certificates import authorities_problem, chain_problem
from .credentials import carries_credentials
from .reading import Path, Reading, quoted
from .script import clashes, never_reached
from .settings import AuthMode, Config, Group, ProviderSettings
from .types import BUILT_IN_TYPES, HOSTED_TYPES
from .values import Address, address
from .workers import check_workers

# Further checks, run after the built-in ones: whoever embeds infermux or adds a provider type may append its own.
EXTRA_CHECKS: list[Callable[[Config, Reading], None]] = []

_HOSTED_OPENAI = "api.openai.com"
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z0-9]+)+")  # us-east-1, us-gov-west-1, eusc-de-east-1, fips-us-east-1
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_AUTO = "auto"
_OWNERS = {
    "azure_deployment": "azure_openai",
    "azure_api_version": "azure_openai",
    "command": "process",
    "env": "process",
    "cwd": "process",
    "strict": "process",
}
_RESERVED = "infermux."  # names of actors that are no providers


def check(config: Config, reading: Reading) -> None:
    """Add every problem and warning to `reading`. What depends on a key that is already refused is not judged."""
    _some_provider(config, reading)
    for index, provider in enumerate(config.providers):
        _provider(provider, ("providers", index), reading)
    _unique(((provider.name, ("providers", i)) for i, provider in enumerate(config.providers)), reading)
    _unique(((group.name, ("routing", "groups", i)) for i, group in enumerate(config.routing.groups)), reading)
    _server(config, reading)
    check_budgets(config, reading)
    check_cache(config, reading)
    check_ledger(config, reading)
    check_state(config, reading)
    check_telemetry(config, reading)
    check_workers(config, reading)
    _open_to_strangers(config, reading)
    if _known(config, reading, "name"):
        _groups(config, reading)
        check_pricing(config, reading)
    if _known(config, reading, "name", "models", "model_aliases"):
        served = Served(config.providers)
        _default_model(config, served, reading)
        _fallbacks(config, served, reading)
    if not reading.problems:
        for extra in EXTRA_CHECKS:
            extra(config, reading)


def _known(config: Config, reading: Reading, *keys: str) -> bool:
    """Whether these keys of every provider could be read."""
    places = (("providers", index, key) for index in range(len(config.providers)) for key in keys)
    return reading.readable(("providers",)) and bool(config.providers) and all(map(reading.fine, places))


class Served:
    """Which model names have a provider."""

    def __init__(self, providers: Iterable[ProviderSettings]) -> None:
        self.names: dict[str, None] = {}
        self.open_ended = False
        self._untagged: set[str] = set()  # ollama's, which match with and without `:latest`
        self._providers = {provider.name: provider for provider in providers}
        for provider in self._providers.values():
            self.open_ended |= is_open_ended(provider)
            for model in (*provider.model_aliases, *(provider.models or ())):
                self.names[model] = None
                if provider.type == "ollama":
                    self._untagged.add(_without_latest(model))

    def __contains__(self, model: str) -> bool:
        if self.open_ended or model in self.names or _without_latest(model) in self._untagged:
            return True
        owner, slash, rest = model.partition("/")
        provider = self._providers.get(owner) if slash else None
        return provider is not None and rest in Served([provider])


def is_open_ended(provider: ProviderSettings) -> bool:
    """Whether it is considered for any model name."""
    return provider.models is None


def _without_latest(model: str) -> str:
    return model.removesuffix(":latest")


def _some_provider(config: Config, reading: Reading) -> None:
    if config.providers or not reading.fine(("providers",)):
        return
    reading.problem(
        ("providers",),
        f"no model providers configured in {reading.source}; add at least one: "
        'providers: [{name: openai, type: openai, api_key: "${OPENAI_API_KEY}"}], '
        "or install one: infermux provider install ID --package NAME",
    )


def _provider(provider: ProviderSettings, path: Path, reading: Reading) -> None:
    if provider.name.startswith(_RESERVED):
        reading.problem((*path, "name"), f"must not begin with {quoted(_RESERVED)}: such names are the router's own")
    ca_file, place = provider.tls.ca_file, (*path, "tls", "ca_file")
    if ca_file is not None and reading.fine(place) and (why := authorities_problem(ca_file)) is not None:
        reading.problem(place, why)
    if not reading.fine((*path, "type")):
        return
    if provider.api_key is not None and provider.api_keys:
        reading.problem((*path, "api_keys"), "goes in place of `api_key`: give one of the two")
    if provider.api_keys and provider.type == "bedrock":
        reading.problem((*path, "api_keys"), "bedrock takes one `api_key`")
    known = reading.fine((*path, "api_key")) and reading.fine((*path, "api_keys"))
    if needs_key(provider) and not provider.keys and not provider.borrows and known:
        reading.problem(
            (*path, "api_key"),
            f'is required for type {provider.type}{_hosted_by(provider)}: "${{NAME}}" takes it from the environment',
        )
    if provider.borrows and provider.type not in HOSTED_TYPES:
        reading.warn(
            (*path, "type"),
            f"{provider.type} cannot be called with a caller's credential, which auth.mode: passthrough passes on: "
            "requests for it are refused; give it an `api_key` of its own",
        )
    if provider.type == "azure_openai":
        _azure(provider, path, reading)
    if provider.type == "process" and not provider.command and reading.fine((*path, "command")):
        reading.problem((*path, "command"), 'is required for type process, such as ["my-provider", "--some-flag"]')
    if provider.type == "bedrock":
        _bedrock(provider, (*path, "region"), reading)
    _without_effect(provider, path, reading)
    _script(provider, (*path, "simulate", "script"), reading)


def _script(provider: ProviderSettings, path: Path, reading: Reading) -> None:
    if not reading.fine(path):
        return
    for index, step in enumerate(provider.simulate.script):
        for clash in clashes(step):
            reading.problem((*path, index), clash)
    early = never_reached(provider.simulate.script)
    if early is not None:
        reading.problem((*path, early, "repeat"), "the steps after one that repeats for ever are never reached")


def needs_key(provider: ProviderSettings) -> bool:
    """Whether its endpoint answers nobody without a credential."""
    if provider.type not in HOSTED_TYPES:
        return False
    if provider.type != "openai" or provider.base_url is None:
        return True
    return urlsplit(provider.base_url).hostname == _HOSTED_OPENAI


def goes_without(provider: ProviderSettings) -> bool:
    """Whether nothing is sent to it by which it could know us. Of types that have credentials of their own, unknown."""
    return provider.type in ("openai", "ollama") and not (provider.keys or provider.headers)


def _hosted_by(provider: ProviderSettings) -> str:
    return " at its hosted address" if provider.type == "openai" else ""


def _azure(provider: ProviderSettings, path: Path, reading: Reading) -> None:
    for key, example in (("base_url", "https://RESOURCE.openai.azure.com"), ("azure_api_version", "2024-10-21")):
        if getattr(provider, key) is None and reading.fine((*path, key)):
            reading.problem((*path, key), f'is required for type azure_openai, such as "{example}"')


def _bedrock(provider: ProviderSettings, path: Path, reading: Reading) -> None:
    """Only whoever signs a request finds out whether an AWS profile has a region, so that is no more than a warning."""
    if not reading.fine(path):
        return
    region = provider.region
    if region is not None and not _REGION.fullmatch(region):
        reading.problem(path, f"must be an AWS region such as us-east-1, not {reading.shown(region)}")
    elif region is None and provider.base_url is None and not any(map(reading.environ.get, _REGION_VARIABLES)):
        reading.warn(
            path, f"is not set, nor is ${' or $'.join(_REGION_VARIABLES)}: only the AWS profile can have the region"
        )


def _without_effect(provider: ProviderSettings, path: Path, reading: Reading) -> None:
    if provider.type not in BUILT_IN_TYPES:
        return  # a plugin's type may use what it likes
    for key, owner in _OWNERS.items():
        if getattr(provider, key) and provider.type != owner:
            reading.warn((*path, key), f"has no effect: it is for type {owner}, this is {provider.type}")


def _unique(named: Iterable[tuple[str, Path]], reading: Reading) -> None:
    first: dict[str, Path] = {}
    for name, path in named:
        place = (*path, "name")
        if not reading.fine(place):
            continue
        if name in first:
            where = reading.where((*first[name], "name"))
            reading.problem(place, f"the name {reading.shown(name)} is taken, first on {where}", spoils=False)
        else:
            first[name] = path


def _server(config: Config, reading: Reading) -> None:
    tls = config.tls
    if (tls.cert_file is None) != (tls.key_file is None) and reading.fine(("tls",)):
        missing = "key_file" if tls.key_file is None else "cert_file"
        reading.problem(("tls", missing), "is missing: cert_file and key_file go together, or leave both out")
    elif tls.cert_file is not None and tls.key_file is not None and reading.fine(("tls",)):
        unusable = chain_problem(tls.cert_file, tls.key_file)
        if unusable is not None:
            reading.problem(("tls", unusable[0]), unusable[1])
    if config.auth.mode is AuthMode.STATIC_KEY and config.auth.key is None and reading.fine(("auth",)):
        reading.problem(("auth", "key"), 'is required with mode static_key, such as "${INFERMUX_API_KEY}"')
    mode = config.auth.mode
    if mode is not AuthMode.STATIC_KEY and config.auth.key is not None and reading.fine(("auth",)):
        reading.warn(
            ("auth", "key"), f"has no effect with mode {mode.value}; set auth.mode: static_key to ask callers for it"
        )
    management = config.management_listen
    if management is not None and not address(management).is_loopback and not reading.environ.get(MANAGEMENT_TOKEN):
        reading.warn(("management_listen",), f"is not loopback: management needs ${MANAGEMENT_TOKEN}, which is not set")
    known = reading.fine(("management_listen",)) and reading.fine(("listen",))
    if management is not None and known and _clash(address(management), address(config.listen)):
        reading.problem(
            ("management_listen",), "is the address of `listen`: give it a port of its own, or leave it out"
        )


def _clash(one: Address, other: Address) -> bool:
    """Whether only one of the two can be listened on."""
    everywhere = {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    return one.port == other.port != 0 and (one.host == other.host or bool({one.host, other.host} & everywhere))


def _open_to_strangers(config: Config, reading: Reading) -> None:
    if not config.auth.mode.lets_anybody_in or not reading.fine(("auth",)) or not reading.fine(("listen",)):
        return
    why = open_to_strangers(config)
    if why is not None:
        reading.problem(("listen",), why)


def open_to_strangers(config: Config) -> str | None:
    """Why `listen` must not be what it is, None when it may."""
    owners = [provider.name for provider in config.providers if carries_credentials(provider)]
    mode = config.auth.mode
    if not mode.lets_anybody_in or not owners or address(config.listen).is_loopback:
        return None
    return (
        f"is not a loopback address, while auth.mode is {mode.value} and "
        f"{'a provider carries' if len(owners) == 1 else f'{len(owners)} providers carry'} credentials: anybody who "
        "reaches it could spend them. Listen on loopback (127.0.0.1:8080), or set auth.mode: static_key or keys, or "
        "take the credentials out of the providers"
    )


def _groups(config: Config, reading: Reading) -> None:
    known = [provider.name for provider in config.providers]
    for index, group in enumerate(config.routing.groups):
        path: Path = ("routing", "groups", index)
        for place, name in enumerate(group.providers or ()):
            spot = (*path, "providers", place)
            if name not in known and reading.fine(spot):
                reading.problem(spot, f"no provider has the name {reading.shown(name)}{reading.meant(name, known)}")
        shadow = _shadow(config.routing.groups[:index], group)
        if shadow is not None and reading.fine(("routing", "groups")):
            reading.warn(
                (*path, "models"), f"is never reached: group {reading.shown(shadow.name)} before it matches all of them"
            )


def _shadow(earlier: Iterable[Group], group: Group) -> Group | None:
    """The one group before it that takes every model of it."""
    for other in earlier:
        if all(any(fnmatchcase(model, glob) for glob in other.models) for model in group.models):
            return other
    return None


def _default_model(config: Config, served: Served, reading: Reading) -> None:
    model, path = config.routing.default_model, ("routing", "default_model")
    if model is None or not reading.fine(path):
        return
    if model == _AUTO:
        reading.problem(path, f"must be a model, not {quoted(_AUTO)}, which means this default")
    elif model not in served:
        reading.problem(path, f"no provider serves {reading.shown(model)}{reading.meant(model, served.names)}")


def _fallbacks(config: Config, served: Served, reading: Reading) -> None:
    routing = config.routing
    for key, fallbacks in (("fallbacks", routing.fallbacks), ("context_fallbacks", routing.context_fallbacks)):
        if reading.fine(("routing", key)):
            _fallbacks_of(fallbacks, ("routing", key), served, reading)


def _fallbacks_of(fallbacks: Mapping[str, tuple[str, ...]], path: Path, served: Served, reading: Reading) -> None:
    for model, others in fallbacks.items():
        for index, other in enumerate(others):
            spot = (*reading.place(path, model), index)
            if other not in served:
                reading.warn(spot, f"no provider serves {reading.shown(other)}")
            if other == model:
                reading.warn(spot, "is the model itself: it is not tried twice")
            elif _reaches(other, model, fallbacks):
                reading.warn(spot, f"the fallbacks of {reading.shown(other)} lead back here")


def _reaches(start: str, goal: str, fallbacks: Mapping[str, tuple[str, ...]]) -> bool:
    seen, rest = {start}, [start]
    while rest:
        for other in fallbacks.get(rest.pop(), ()):
            if other == goal:
                return True
            if other not in seen:
                seen.add(other)
                rest.append(other)
    return False
