"""Which providers a model name resolves to, in which tiers, under which group, and at what price."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.catalogue import KEPT_ROUTES, Catalogue, Entry, Route, spellings
from infermux.config.settings import Config, Group, Price, ProviderSettings, Routing, Timeouts
from infermux.providers.interface import Endpoint
from infermux.providers.prices import FREE
from tests._properties import examples

CHAT = Endpoint.CHAT


def a_provider(name: str, *models: str, **more: Any) -> ProviderSettings:
    more.setdefault("type", "openai")
    return ProviderSettings(name=name, models=models or None, **more)


def build(*providers: ProviderSettings, pricing: Any = None, silent: str = "", **routing: Any) -> Catalogue:
    """`silent` serves no endpoint."""
    config = Config(providers=providers, routing=Routing(**routing), pricing=pricing or {})
    endpoints = {name: frozenset[Endpoint]() for name in [silent]}
    return Catalogue.build(
        config,
        [
            Entry(settings=s, index=i, endpoints=endpoints.get(s.name, frozenset({CHAT})))
            for i, s in enumerate(providers)
        ],
    )


def tiers(route: Route) -> str:
    """As "a:m b:n | c:m": tiers in order, candidates in their order, each with the provider's name for the model."""
    return " | ".join(" ".join(f"{c.entry.name}:{c.model}" for c in tier) for tier in route.tiers)


def resolved(catalogue: Catalogue, name: str) -> str:
    return tiers(catalogue.resolve(name, CHAT))


OPEN = a_provider("open")
A = a_provider("a", "gpt-4o", "gpt-4o-mini")
B = a_provider("b", "gpt-4o", "claude", model_aliases={"smart": "claude"})
C = a_provider("c", "big", model_aliases={"gpt-4o": "big", "smart": "big"})

RESOLUTION = [
    # name, tiers
    ("gpt-4o", "a:gpt-4o b:gpt-4o | c:big | open:gpt-4o"),
    ("gpt-4o-mini", "a:gpt-4o-mini | open:gpt-4o-mini"),
    ("smart", "b:claude c:big | open:smart"),
    ("a/gpt-4o", "a:gpt-4o"),
    ("b/smart", "b:claude"),
    ("c/gpt-4o", "c:big"),
    ("open/anything", "open:anything"),
    ("open/meta-llama/llama-3", "open:meta-llama/llama-3"),
    ("a/unknown", ""),
    ("meta-llama/llama-3", "open:meta-llama/llama-3"),
    ("unknown", "open:unknown"),
    ("a/", "open:a/"),
    ("/gpt-4o", "open:/gpt-4o"),
    ("", "a:gpt-4o b:gpt-4o | c:big | open:gpt-4o"),
    ("auto", "a:gpt-4o b:gpt-4o | c:big | open:gpt-4o"),
]


@pytest.mark.parametrize(("name", "expected"), RESOLUTION)
def test_a_name_resolves_to_tiers_of_providers(name: str, expected: str) -> None:
    assert resolved(build(A, B, C, OPEN), name) == expected


def test_aliases_can_count_as_much_as_listings() -> None:
    catalogue = build(C, A, OPEN, aliases="equal")
    assert resolved(catalogue, "gpt-4o") == "c:big a:gpt-4o | open:gpt-4o"


def test_within_a_provider_an_alias_beats_a_listing() -> None:
    catalogue = build(a_provider("a", "m", "n", model_aliases={"m": "n"}), a_provider("b", "m"))
    assert resolved(catalogue, "m") == "b:m | a:n"
    assert resolved(catalogue, "a/m") == "a:n"


def test_an_alias_of_a_model_to_itself_is_a_listing() -> None:
    catalogue = build(a_provider("a", "n"), a_provider("b", "m", model_aliases={"m": "m"}), a_provider("c", "m"))
    assert resolved(catalogue, "m") == "b:m c:m"


def test_a_name_listed_by_somebody_is_not_taken_for_provider_and_model() -> None:
    catalogue = build(a_provider("meta-llama", "x"), a_provider("b", "meta-llama/llama-3"))
    assert resolved(catalogue, "meta-llama/llama-3") == "b:meta-llama/llama-3"
    assert resolved(catalogue, "meta-llama/x") == "meta-llama:x"


def test_an_open_ended_provider_with_an_alias_is_a_candidate_once() -> None:
    catalogue = build(a_provider("a", model_aliases={"smart": "m"}), a_provider("b"))
    assert resolved(catalogue, "smart") == "a:m | b:smart"
    assert resolved(catalogue, "m") == "a:m b:m"
    assert resolved(catalogue, "a/smart") == "a:m"


def test_a_model_listed_twice_is_one_candidate() -> None:
    assert resolved(build(a_provider("a", "m", "m")), "m") == "a:m"


def test_only_providers_whose_type_serves_the_endpoint_are_candidates() -> None:
    assert resolved(build(a_provider("a", "m"), a_provider("b", "m"), silent="a"), "m") == "b:m"
    assert build(a_provider("a", "m"), silent="a").resolve("m", CHAT).is_empty


# The default model.


@pytest.mark.parametrize(
    ("providers", "default", "expected"),
    [
        ((OPEN, A, B), None, "gpt-4o"),
        ((a_provider("x", model_aliases={"smart": "m"}), A), None, "smart"),
        ((A,), "gpt-4o-mini", "gpt-4o-mini"),
        ((OPEN,), None, None),
    ],
)
def test_the_default_is_the_one_set_or_the_first_declared(
    providers: tuple[ProviderSettings, ...], default: str | None, expected: str | None
) -> None:
    assert build(*providers, default_model=default).default_model == expected


def test_without_any_declared_model_a_request_must_name_one() -> None:
    assert build(OPEN).resolve("auto", CHAT).is_empty
    assert resolved(build(OPEN), "m") == "open:m"


# Ollama.


def ollama(*models: str, **more: Any) -> ProviderSettings:
    return a_provider("o", *models, type="ollama", **more)


@pytest.mark.parametrize(
    ("models", "name", "expected"),
    [
        (("llama3",), "llama3:latest", "o:llama3"),
        (("llama3:latest",), "llama3", "o:llama3:latest"),
        (("llama3:latest",), "llama3:latest", "o:llama3:latest"),
        (("llama3:8b",), "llama3:8b", "o:llama3:8b"),
        (("llama3:8b",), "llama3", ""),
        (("llama3", "llama3:latest"), "llama3", "o:llama3"),
        (("llama3", "llama3:latest"), "llama3:latest", "o:llama3:latest"),
        (("llama3",), "o/llama3:latest", "o:llama3"),
    ],
)
def test_ollama_names_match_with_and_without_latest(models: tuple[str, ...], name: str, expected: str) -> None:
    assert resolved(build(ollama(*models)), name) == expected


def test_another_spelling_of_a_listing_is_a_listing() -> None:
    catalogue = build(a_provider("a", "x", model_aliases={"llama3:latest": "x"}), ollama("llama3"))
    assert resolved(catalogue, "llama3:latest") == "o:llama3 | a:x"


def test_a_written_name_beats_another_spelling() -> None:
    catalogue = build(ollama("smart:latest", "big", model_aliases={"smart": "big"}))
    assert resolved(catalogue, "smart") == "o:big"
    assert resolved(catalogue, "smart:latest") == "o:smart:latest"


def test_an_ollama_without_a_list_stays_open_ended() -> None:
    assert resolved(build(ollama()), "anything:7b") == "o:anything:7b"


@given(st.text(min_size=1))
def test_spellings_begin_with_what_was_written_and_only_ollama_has_two(model: str) -> None:
    assert spellings(a_provider("a"), model) == (model,)
    names = spellings(ollama(), model)
    assert names[0] == model
    assert len(names) <= 2
    assert all(model in spellings(ollama(), name) for name in names if name)


# Groups.


def test_the_first_group_whose_globs_match_sets_strategy_and_candidates() -> None:
    groups = (
        Group(name="minis", models=("*-mini",), strategy="random"),
        Group(name="gpts", models=("claude", "gpt-*"), providers=("b", "c")),
        Group(name="all", models=("*",)),
    )
    catalogue = build(A, B, C, OPEN, groups=groups)
    found = {name: catalogue.resolve(name, CHAT) for name in ("gpt-4o-mini", "gpt-4o", "smart")}
    assert {name: route.group.name if route.group else None for name, route in found.items()} == {
        "gpt-4o-mini": "minis",
        "gpt-4o": "gpts",
        "smart": "all",
    }
    assert tiers(found["gpt-4o-mini"]) == "a:gpt-4o-mini | open:gpt-4o-mini"
    assert tiers(found["gpt-4o"]) == "b:gpt-4o | c:big"


def test_a_group_that_leaves_no_provider_leaves_nobody() -> None:
    catalogue = build(A, B, groups=(Group(name="g", models=("gpt-4o-mini",), providers=("b",)),))
    assert catalogue.resolve("gpt-4o-mini", CHAT).is_empty


def test_a_name_outside_all_groups_has_none() -> None:
    route = build(A, groups=(Group(name="g", models=()),)).resolve("gpt-4o", CHAT)
    assert route.group is None


# Fallbacks.


def test_fallback_models_come_with_their_own_tiers_and_groups() -> None:
    groups = (Group(name="g", models=("claude",)),)
    catalogue = build(A, B, groups=groups, fallbacks={"gpt-4o-mini": ("claude", "gpt-4o-mini", "none")})
    route = catalogue.resolve("gpt-4o-mini", CHAT)
    assert [(f.model, tiers(f), f.group is not None) for f in route.fallbacks] == [
        ("claude", "b:claude", True),
        ("none", "", False),
    ]
    assert route.fallbacks[0].fallbacks == ()


def test_a_model_nobody_serves_but_with_a_fallback_is_not_empty() -> None:
    route = build(A, fallbacks={"gone": ("gpt-4o",)}).resolve("gone", CHAT)
    assert route.tiers == ()
    assert not route.is_empty


def test_the_longest_timeout_is_that_of_all_candidates_and_fallbacks() -> None:
    catalogue = build(
        a_provider("a", "m", timeout=10.0),
        a_provider("b", "m", timeout=20.0, timeouts=Timeouts(first_token=40.0)),
        a_provider("c", "n", timeout=70.0),
        a_provider("d", "other", timeout=900.0),
        fallbacks={"m": ("n",)},
    )
    assert catalogue.resolve("m", CHAT).longest_timeout == 70.0
    assert catalogue.resolve("n", CHAT).longest_timeout == 70.0
    assert catalogue.resolve("nobody", CHAT).longest_timeout == 0.0


# Prices.


def test_a_price_is_the_declared_one_nothing_for_ones_own_machines_or_unknown() -> None:
    price = Price(input_per_million=1.0, output_per_million=2.0)
    pricing = {"a": {"gpt-4o": price}, "sim": {"dear": price}}
    catalogue = build(A, a_provider("sim", "cheap", "dear", type="simulated"), pricing=pricing)
    prices = {
        name: catalogue.resolve(name, CHAT).tiers[0][0].price for name in ("gpt-4o", "gpt-4o-mini", "cheap", "dear")
    }
    assert prices == {"gpt-4o": price, "gpt-4o-mini": None, "cheap": FREE, "dear": price}


# What it costs, and what it keeps.


def test_names_are_all_declared_models_and_aliases_with_their_providers() -> None:
    names = {name: [e.name for e in entries] for name, entries in build(A, B, OPEN).names().items()}
    assert names == {"gpt-4o": ["a", "b"], "gpt-4o-mini": ["a"], "claude": ["b"], "smart": ["b"]}


def test_a_look_up_touches_nobody_who_does_not_serve_the_model() -> None:
    class Watched(dict[str, Any]):
        touched = 0

        def __iter__(self) -> Any:
            Watched.touched += 1
            return super().__iter__()

        def values(self) -> Any:
            Watched.touched += 1
            return super().values()

        def items(self) -> Any:
            Watched.touched += 1
            return super().items()

    catalogue = build(A, *(a_provider(f"other{i}", f"model{i}") for i in range(1000)))
    catalogue.entries = Watched(catalogue.entries)
    assert resolved(catalogue, "gpt-4o") == "a:gpt-4o"
    assert resolved(catalogue, "a/gpt-4o") == "a:gpt-4o"
    assert catalogue.resolve("nobody", CHAT).is_empty
    assert Watched.touched == 0


def test_a_route_is_worked_out_once() -> None:
    catalogue = build(A)
    assert catalogue.resolve("gpt-4o", CHAT) is catalogue.resolve("gpt-4o", CHAT)
    assert catalogue.resolve("auto", CHAT) is catalogue.resolve("gpt-4o", CHAT)


def test_what_is_kept_of_invented_names_is_bounded() -> None:
    catalogue = build(OPEN)
    first = catalogue.resolve("x0", CHAT)
    for i in range(KEPT_ROUTES + 10):
        catalogue.resolve(f"x{i}", CHAT)
    assert catalogue.resolve("x0", CHAT) is not first
    assert tiers(catalogue.resolve("x0", CHAT)) == tiers(first)


NAMES = st.sampled_from(["m", "n", "o", "p/m", "q/n", "p", ""])


@st.composite
def worlds(draw: st.DrawFn) -> list[ProviderSettings]:
    made: list[ProviderSettings] = []
    for name in draw(st.lists(st.sampled_from("pqrs"), unique=True, min_size=1)):
        models = draw(st.none() | st.lists(NAMES.filter(bool), max_size=3))
        aliases = draw(st.dictionaries(NAMES.filter(bool), NAMES.filter(bool), max_size=2))
        made.append(
            ProviderSettings(
                name=name,
                type=draw(st.sampled_from(["openai", "ollama"])),
                models=None if models is None else tuple(models),
                model_aliases=aliases,
            )
        )
    return made


@settings(max_examples=examples(40), deadline=None)
@given(worlds(), NAMES, st.sampled_from(["after", "equal"]))
def test_a_provider_is_a_candidate_at_most_once_per_name(
    providers: list[ProviderSettings], name: str, aliases: str
) -> None:
    route = build(*providers, aliases=aliases).resolve(name, CHAT)
    names = [c.entry.name for tier in route.tiers for c in tier]
    assert len(names) == len(set(names))
    for tier in route.tiers:
        indexes = [c.entry.index for c in tier]
        assert tier
        assert indexes == sorted(indexes)


def test_what_is_declared_is_put_together_once_however_many_ask_for_what_nobody_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, looks = build(a_provider("one", "a", "b")), list[Catalogue]()
    names = Catalogue.names

    def counted(self: Catalogue) -> dict[str, list[Entry]]:
        looks.append(self)
        return names(self)

    monkeypatch.setattr(Catalogue, "names", counted)
    said = [made.nobody(f"made-up-{number}", CHAT) for number in range(3)]
    assert all(each.endswith("declared here: a, b") for each in said)
    assert len(looks) == 1
