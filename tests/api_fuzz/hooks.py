"""What schemathesis cannot know: what a schema cannot say, what must be put back, and whose words an error is in.

Loaded by schemathesis, by name, in its own process.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, GenerationMode, HookContext, Response

hook: Callable[[Callable[..., Any]], Any] = schemathesis.hook  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
OUT = ("disable", "drain")
PAGE = ("/_infermux", "/_infermux/")
COMMAND = "/_infermux/providers/{name}/{verb}"


@hook
def filter_query(context: HookContext, query: Any) -> bool:
    """That `since` is before `until` is between the two."""
    operation: Any = context.operation  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if operation is None or operation.path != "/_infermux/costs" or not query:
        return True
    return not (query.get("since") and query.get("until"))


@hook
def filter_headers(_context: HookContext, headers: Any) -> bool:
    """That the names of tags differ, and that all of them have at most 1024 bytes, is between the tags."""
    given: dict[str, Any] = headers or {}
    tags = given.get("X-Infermux-Tags")
    if not isinstance(tags, str):
        return True
    names = [tag.partition("=")[0] for tag in tags.split(",")]
    return len(tags) <= 1024 and len(set(names)) == len(names)


@hook
def map_case(_context: HookContext, case: Case[Any]) -> Case[Any]:
    """Half of the bodies that fit get words in their messages, and wish for providers that are there."""
    meta, body = case.meta, case.body
    if meta is None or meta.generation.mode is not GenerationMode.POSITIVE or not isinstance(body, dict):
        return case
    fields: dict[str, Any] = body
    if fields.get("provider"):
        fields["provider"] = {"ignore": ["quicker"]}
    if fields.get("messages") and len(fields["messages"]) % 2:
        fields["messages"] = [{"role": "user", "content": "Hello"}, *({"role": "user", "content": "?"},) * 2]
    if "input" in fields and not fields["input"]:
        fields["input"] = "Hello"
    return case


@hook
def after_call(_context: HookContext, case: Case[Any], _response: Response) -> None:
    """Who was taken out of service goes back, or soon nothing would be routable."""
    if case.operation.path != COMMAND or case.path_parameters.get("verb") not in OUT:
        return
    base = str(case.operation.base_url).rstrip("/")
    for name in ("quick", "quicker", "flaky", "slow"):
        request = urllib.request.Request(
            f"{base}/_infermux/providers/{name}/enable",
            method="POST",
            headers={"Authorization": f"Bearer {os.environ['FUZZ_TOKEN']}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200, f"{name} could not be enabled"


@schemathesis.check
def error_in_the_words_of_the_api(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Where a status may also be a provider's, the schema takes any body: ours is in our shape all the same."""
    if response.status_code < 400 or case.method == "HEAD" or "x-infermux-provider" in response.headers:
        return
    if response.status_code == 401 and case.operation.path in PAGE:
        return  # a browser gets the page to sign in
    said = response.headers.get("x-infermux-error", [""])[0]
    assert said, "an error without X-Infermux-Error"
    body = response.json()
    if case.operation.path.startswith("/v1/messages"):
        assert body["type"] == "error", body
        assert set(body["error"]) <= {"type", "message", "details"}, body
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}, body
        assert body["error"]["code"] == said, (body, said)
    message = body["error"]["message"]
    assert message, "an error that says nothing"
    assert os.environ["FUZZ_TOKEN"] not in message, "the token is in a message"
