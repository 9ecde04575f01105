"""One operation of the API as it is described, and how that becomes OpenAPI's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from ..errors import Shape
from .errors import FRONT_DOOR, GUARDED, ErrorKind, error_responses
from .parts import ANTHROPIC_ID, REFUSAL_HEADERS
from .shapes import ANY, Schema

Response = Mapping[str, Any]

JSON: Final = "application/json"
_MAY_BE_THEIRS: Final = frozenset({"400", "404", "411", "413", "415", "417", "431"})
"""Statuses of ours with which a provider may refuse a request too: then its body comes back as it was."""
_THEIRS: Final[Schema] = {"description": "A provider's own words, where the answer has X-Infermux-Provider"}


@attrs.frozen(kw_only=True)
class Operation:
    """What one method of one path takes and answers.

    `answers` are those that are no errors of the router's, by status; `errors` what it can come to beside what every
    request can. `guard` is the name of a group of security schemes, "" where nothing is asked for. `inference`: its
    errors have the headers of answers.
    """

    id: str
    tag: str
    summary: str
    answers: Mapping[str, Response]
    parameters: tuple[dict[str, Any], ...] = ()
    body: Mapping[str, Any] | None = None
    errors: tuple[ErrorKind, ...] = ()
    shapes: tuple[Shape, ...] = (Shape.OPENAI,)
    guard: str = ""
    inference: bool = False

    def described(self, security: Mapping[str, list[dict[str, list[str]]]]) -> dict[str, Any]:
        """In OpenAPI's words. `security` has what each guard asks for, nothing for one that asks nothing."""
        guarded = GUARDED if self.guard else ()
        errors = error_responses((*FRONT_DOOR, *guarded, *self.errors), self.shapes)
        responses = {**errors, **self.answers}
        if self.inference:
            responses = {status: self._of_inference(status, response) for status, response in responses.items()}
        return {
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "parameters": list(self.parameters),
            **({} if self.body is None else {"requestBody": self.body}),
            "responses": dict(sorted(responses.items())),
            "security": security.get(self.guard, []),
        }

    def _of_inference(self, status: str, response: Response) -> Response:
        """What is refused before a handler has the request has no id: so no header of these is required."""
        headers = dict(response.get("headers", {}))
        if status not in self.answers:
            headers.update({name: _perhaps(header) for name, header in REFUSAL_HEADERS.items()})
        if Shape.ANTHROPIC in self.shapes:
            headers.update(ANTHROPIC_ID)
        told = {**response, "headers": headers}
        return {**told, "content": _or_the_provider_s(response["content"])} if status in _MAY_BE_THEIRS else told


def _perhaps(header: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header.items() if name != "required"}


def _or_the_provider_s(content: Mapping[str, Any]) -> dict[str, Any]:
    ours = content[JSON]["schema"]
    return {JSON: {"schema": {"anyOf": [ours, _THEIRS]}}, "*/*": {"schema": ANY}}


def json_answer(what: str, schema: Schema, **more: Any) -> Response:
    return {"description": what, "content": {JSON: {"schema": schema}}, **more}


def json_body(schema: Schema, *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {JSON: {"schema": schema}}}
