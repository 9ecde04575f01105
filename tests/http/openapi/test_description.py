"""The description of the API is valid, and it is of this router: its routes, its errors, its parameters."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import infermux.http.application as application_module
from infermux import errors
from infermux.config import load_text
from infermux.config.settings import AuthMode
from infermux.http.application import open_application
from infermux.http.management import PREFIX
from infermux.http.openapi.description import description
from infermux.http.queries import TAKES
from infermux.processes import ProcessUnavailable
from tests.e2e.test_http_api_page import every

ROOT = Path(__file__).parents[3]
METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
ONE = {"name": "one", "type": "simulated", "models": ["m"]}


@cache
def described(*, mode: AuthMode = AuthMode.OPEN, token: bool = True, separate: bool = False) -> Any:
    """As a reader of the page has it."""
    return json.loads(json.dumps(description(mode=mode, token=token, prefix=PREFIX, separate=separate)))


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS, f"{path} has a key that is no method: {method}"
            yield path, method, operation


def responses(document: Any, operation: Any) -> dict[str, Any]:
    """By status, with references followed."""
    shared = document["components"]["responses"]
    found = operation["responses"].items()
    return {status: shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for status, each in found}


@pytest.mark.slow
@pytest.mark.long
def test_it_is_valid_openapi() -> None:
    """Once: in the other modes only what is asked of callers differs."""
    OpenAPIV31SpecValidator(described(mode=AuthMode.PASSTHROUGH, separate=True)).validate()


@pytest.mark.parametrize("separate", [False, True])
async def test_every_route_has_a_description_and_every_description_a_route(
    monkeypatch: pytest.MonkeyPatch, separate: bool
) -> None:
    def plain(app: Any, _door_log: Any) -> Any:
        return app

    monkeypatch.setattr(application_module, "let_finish", plain)
    section = {"management_listen": "127.0.0.1:0"} if separate else {}
    text = json.dumps({"providers": [ONE], "ledger": {"url": None}, **section})
    async with open_application(load_text(text, environ={}), environ={}) as application:
        apps = [application.app, *([application.management_app] if application.management_app else [])]
    routes = {
        (re.sub(r"<(?:[a-z]+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for app in apps
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }
    assert routes == {(path, method) for path, method, _ in operations(described(separate=separate))}


def test_every_parameter_of_a_path_is_described() -> None:
    for path, _, operation in operations(described()):
        told = [each["name"] for each in operation["parameters"] if each.get("in") == "path"]
        assert told == re.findall(r"{(\w+)}", path)


def test_the_parameters_of_queries_are_those_that_are_taken() -> None:
    found = {
        path: tuple(each["name"] for each in operation["parameters"] if each.get("in") == "query")
        for path, _, operation in operations(described())
    }
    assert {path: names for path, names in found.items() if names} == dict(TAKES)


def test_every_error_is_told_of_somewhere() -> None:
    document = described()
    words = json.dumps([responses(document, operation) for _, _, operation in operations(document)])
    families = {errors.CallerError, errors.PolicyError, errors.ProviderError, errors.ProviderRefusal}
    # Told by the method that is missing, which has no operation of its own; at the start; by a provider to the router.
    unsaid = {*families, errors.MethodNotAllowed, errors.ProviderNotStarted, ProcessUnavailable}
    for kind in every(errors.InfermuxError):
        assert kind in unsaid or f'"{kind.code}"' in words, kind
    for failure in errors.FailureKind:
        assert not failure.is_timeout or f'"{failure.value}"' in words


def test_every_operation_has_an_id_of_its_own_and_every_link_leads_to_one() -> None:
    document = described(separate=True)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for _, _, operation in operations(document):
        for response in responses(document, operation).values():
            for link in response.get("links", {}).values():
                assert link["operationId"] in ids


def test_it_asks_for_what_the_router_asks_for() -> None:
    def asked(mode: AuthMode, *, token: bool) -> dict[str, Any]:
        return {path: each["security"] for path, _, each in operations(described(mode=mode, token=token))}

    token: Any = [{"managementToken": []}, {"managementKey": []}]
    key: Any = [{"callerKey": []}, {"callerApiKey": []}]
    assert asked(AuthMode.OPEN, token=False)["/_infermux/status"] == []
    assert asked(AuthMode.OPEN, token=True)["/_infermux/status"] == token
    assert asked(AuthMode.OPEN, token=True)["/_infermux/health"] == []
    assert asked(AuthMode.OPEN, token=True)["/_infermux/"] == [*token, {"pageCookie": []}]
    assert asked(AuthMode.OPEN, token=True)["/v1/chat/completions"] == []
    assert asked(AuthMode.KEYS, token=False)["/v1/chat/completions"] == key
    assert asked(AuthMode.STATIC_KEY, token=False)["/v1/models"] == key
    assert asked(AuthMode.PASSTHROUGH, token=False)["/v1/models"] == [{}, *key]


def test_it_is_not_imported_before_somebody_asks() -> None:
    for path in ROOT.joinpath("http").glob("*.py"):
        at_the_top = ast.parse(path.read_text()).body
        for statement in at_the_top:
            if isinstance(statement, ast.ImportFrom):
                assert (statement.module or "").partition(".")[0] != "openapi", path
