"""Which models a key may use: by the name asked for, and its route group."""

from __future__ import annotations

import attrs
import pytest

from infermux.actors.catalogue import Catalogue, Entry
from infermux.actors.key_access import KEPT, ModelRule, check_model, may_use
from infermux.actors.messages import Want
from infermux.config.settings import Config, Group, ProviderSettings, Routing
from infermux.errors import ModelNotAllowed
from infermux.keys import Allowance, new_key
from infermux.providers.interface import Endpoint

CONFIG = Config(
    routing=Routing(
        default_model="small",
        fallbacks={"small": ("large",)},
        groups=(Group(name="cheap", models=("small", "tiny-*")),),
    )
)


def catalogue() -> Catalogue:
    one = ProviderSettings(name="one", type="openai", models=("small", "large"), model_aliases={"smart": "large"})
    return Catalogue.build(CONFIG, [Entry(settings=one, index=0, endpoints=frozenset(Endpoint))])


@pytest.mark.parametrize(
    ("allows", "model", "allowed"),
    [
        (Allowance(), "anything", True),
        (Allowance(models=("small",)), "small", True),
        (Allowance(models=("small",)), "", True),
        (Allowance(models=("small",)), "auto", True),
        (Allowance(models=("large",)), "auto", False),
        (Allowance(models=("small",)), "one/small", False),
        (Allowance(models=("large",)), "smart", False),
        (Allowance(models=("smart",)), "smart", True),
        (Allowance(models=("smart",)), "large", False),
        (Allowance(groups=("cheap",)), "small", True),
        (Allowance(groups=("cheap",)), "tiny-nobody", True),
        (Allowance(groups=("cheap",)), "large", False),
        (Allowance(groups=("cheap",)), "one/small", False),
        (Allowance(groups=("other",)), "small", False),
        (Allowance(models=("large",), groups=("cheap",)), "small", False),
    ],
)
def test_what_is_asked_for_must_be_allowed(allows: Allowance, model: str, allowed: bool) -> None:
    key = new_key(name="team", allows=allows, now=0.0)[1]
    assert may_use(allows, model, Endpoint.CHAT, catalogue()) is allowed
    if allowed:
        check_model(key, Want(model), catalogue())
        return
    with pytest.raises(ModelNotAllowed, match="the key 'team' may not use the model") as refused:
        check_model(key, Want(model), catalogue())
    assert (refused.value.status, refused.value.code) == (403, "model_not_allowed")


def test_what_was_let_pass_is_looked_at_again_once_the_key_or_the_models_are_others() -> None:
    rule, models, want = ModelRule(), catalogue(), Want("gpt-4o")
    key = new_key(name="a", allows=Allowance(models=("gpt-*",)), now=0.0)[1]
    for _ in range(2):
        rule.check(key, want, models)
    bound = attrs.evolve(key, allows=Allowance(models=("claude-*",)))
    for each in (bound, bound):
        with pytest.raises(ModelNotAllowed):
            rule.check(each, want, models)
    grouped = attrs.evolve(key, allows=Allowance(groups=("fast",)))
    with pytest.raises(ModelNotAllowed):
        rule.check(grouped, Want("nobody-has-it"), models)
    rule.check(key, want, catalogue())


def test_names_that_callers_make_up_are_not_remembered_for_ever() -> None:
    rule, models = ModelRule(), catalogue()
    key = new_key(name="a", allows=Allowance(models=("x-*",)), now=0.0)[1]
    for number in range(KEPT + 10):
        rule.check(key, Want(f"x-{number}"), models)
    assert len(rule) <= KEPT
