"""What must hold of the ledger, the keys that are kept in it, prices and traces, beyond the kinds of their values."""

from __future__ import annotations

from importlib.util import find_spec

from infermux.database.place import POSTGRESQL, Place

from .reading import Path, Reading
from .settings import Config, Price, ProviderSettings
from .values import address

MANAGEMENT_TOKEN = "INFERMUX_MANAGEMENT_TOKEN"
_TRACES = "/v1/traces"


def check_ledger(config: Config, reading: Reading) -> None:
    """It has its driver, and is there where keys are to be kept."""
    url, path = config.ledger.url, ("ledger", "url")
    if not reading.fine(path):
        return
    if url is not None and url.reveal().partition("://")[0] in POSTGRESQL and find_spec("psycopg") is None:
        reading.warn(path, "needs a driver, or nothing is written: pip install 'infermux[postgres]'")
    if not config.auth.is_keyed or not reading.fine(("auth", "mode")):
        return
    if url is None:
        reading.problem(path, "is null, but with auth.mode: keys the keys are kept there: name a database")
    elif Place.of(url.reveal()).in_memory:
        reading.warn(path, "is in memory: with auth.mode: keys all keys end with the process")
    _who_hands_out(config, reading)


def _who_hands_out(config: Config, reading: Reading) -> None:
    if not reading.fine(("listen",)) or not reading.fine(("management_listen",)):
        return
    if address(config.management_listen or config.listen).is_loopback and not reading.environ.get(MANAGEMENT_TOKEN):
        reading.warn(
            ("auth", "mode"),
            f"every process of this machine can hand itself a key: management asks for no token; set "
            f"${MANAGEMENT_TOKEN}",
        )


def check_state(config: Config, reading: Reading) -> None:
    """What speaks to Redis is there: limits that are meant to be shared must not be each router's own, not even when
    a router starts without it.
    """
    path = ("state", "url")
    if config.state.url is None or not reading.fine(path):
        return
    if find_spec("coredis") is None:
        reading.problem(path, "needs a package: pip install 'infermux[redis]'")
    if not reading.says(("state", "nodes")):
        reading.warn(
            path,
            "is shared, but state.nodes does not say by how many routers: one that starts while it is away takes "
            "itself for the only one, and uses the whole of every limit. Say how many there are at most, be it 1",
        )


def check_telemetry(config: Config, reading: Reading) -> None:
    """Traces can be made, and go where they are expected."""
    endpoint, path = config.telemetry.otlp_endpoint, ("telemetry", "otlp_endpoint")
    if endpoint is None or not reading.fine(path):
        return
    if endpoint.rstrip("/").endswith(_TRACES):
        reading.problem(path, f"must be the collector's base URL, without {_TRACES}, which is added to it")
    if not _can_be_imported("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        reading.warn(path, "needs packages, or there are no traces: pip install 'infermux[otel]'")


def _can_be_imported(*names: str) -> bool:
    try:
        return all(find_spec(name) is not None for name in names)
    except ModuleNotFoundError:  # of the package it is in
        return False


def check_pricing(config: Config, reading: Reading) -> None:
    """Prices are of providers and models there are; each length of prompt has one."""
    providers = {provider.name: provider for provider in config.providers}
    for name, prices in config.pricing.items():
        spot = reading.place(("pricing",), name)
        if not reading.fine(spot):
            continue
        provider = providers.get(name)
        if provider is None:
            reading.warn(spot, f"no provider has that name{reading.meant(name, providers)}")
        for model, price in prices.items():
            place = reading.place(spot, model)
            if reading.fine(place):
                _steps(price, place, reading)
            if provider is not None and _known(provider, config, reading):
                _model(provider, model, place, reading)


def _known(provider: ProviderSettings, config: Config, reading: Reading) -> bool:
    """Whether its models could be read; open-ended ones may have any."""
    path: Path = ("providers", config.providers.index(provider))
    return provider.models is not None and all(reading.fine((*path, key)) for key in ("models", "model_aliases"))


def _model(provider: ProviderSettings, model: str, place: Path, reading: Reading) -> None:
    own = dict.fromkeys((*(provider.models or ()), *provider.model_aliases.values()))
    if model in own or (provider.type == "ollama" and f"{model}:latest" in own):
        return
    means = provider.model_aliases.get(model)
    hint = reading.meant(model, own) if means is None else f": it is an alias of {reading.shown(means)}"
    reading.warn(place, f"has no effect: provider {reading.shown(provider.name)} has no such model{hint}")


def _steps(price: Price, place: Path, reading: Reading) -> None:
    lengths = [step.prompt_tokens for step in price.above]
    twice = next((length for length in lengths if lengths.count(length) > 1), None)
    if twice is not None:
        reading.problem((*place, "above"), f"has two prices for prompts of more than {twice} tokens: leave one out")
