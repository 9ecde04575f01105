"""What many operations say in the same words is said once, under `components`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import attrs


@attrs.define(eq=False)
class Shared:
    """Errors and header parameters by name, and by what they say."""

    responses: dict[str, Any] = attrs.field(factory=dict[str, Any])
    parameters: dict[str, Any] = attrs.field(factory=dict[str, Any])
    _names: dict[tuple[str, str], str] = attrs.field(factory=dict[tuple[str, str], str])

    def told(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        """`operation` with references to what it shares with others."""
        parameters = [self._parameter(each) for each in operation["parameters"]]
        responses = {status: self._response(status, each) for status, each in operation["responses"].items()}
        return {**operation, "parameters": parameters, "responses": responses}

    def _parameter(self, parameter: Mapping[str, Any]) -> Mapping[str, Any]:
        if parameter["in"] != "header":
            return parameter
        return self._reference("parameters", self.parameters, parameter["name"], parameter)

    def _response(self, status: str, response: Mapping[str, Any]) -> Mapping[str, Any]:
        if "links" in response or status < "4":
            return response
        name = HTTPStatus(int(status)).name.title().replace("_", "") if status.isdigit() else "Refusal"
        return self._reference("responses", self.responses, name, response)

    def _reference(self, kind: str, kept: dict[str, Any], name: str, value: Mapping[str, Any]) -> dict[str, str]:
        said = (kind, json.dumps(value))
        found = self._names.get(said)
        if found is None:
            taken = sum(each == name or each.startswith(f"{name}-") for each in kept)
            found = self._names[said] = f"{name}-{taken + 1}" if taken else name
            kept[found] = value
        return {"$ref": f"#/components/{kind}/{found}"}
