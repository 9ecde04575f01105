"""What the real Bedrock refuses: signatures, shapes and conversations. Independent of infermux on purpose.

Shapes are checked against botocore's model of the service: members, types, unions, enums, lengths, ranges and patterns,
with blobs as base64. Signatures are verified as the service does, by the rules of
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, without botocore.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import hashlib
import hmac
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, cast

import attrs
from botocore.loaders import Loader

from tests.mocks.openai_rules import Json, Recorded

SERVICE = "bedrock"
SCHEME = "AWS4-HMAC-SHA256"
_MINUTES = datetime.timedelta(minutes=5)


@attrs.frozen
class Refusal(Exception):
    """A refusal, raised by the checks. `name` is the exception's."""

    status: int
    name: str
    message: str

    def body(self) -> bytes:
        return json.dumps({"message": self.message}).encode()


def invalid(message: str) -> Refusal:
    return Refusal(400, "ValidationException", message)


@attrs.frozen(kw_only=True)
class Identity:
    """Credentials the upstream knows."""

    access_key: str
    secret_key: str
    token: str | None = None


# Signatures.
def check_signature(request: Recorded, known: Mapping[str, Identity], region: str, now: datetime.datetime) -> None:
    """Raise `Refusal` unless the request is signed by one of the identities."""
    scheme, _, rest = (request.header("authorization") or "").partition(" ")
    if scheme != SCHEME:
        raise Refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    parts: dict[str, str] = dict(re.findall(r"(\w+)=([^,\s]+)", rest))
    if set(parts) != {"Credential", "SignedHeaders", "Signature"}:
        raise Refusal(403, "IncompleteSignature", "Authorization header is incomplete")
    access_key, date, signed_region, service, end = parts["Credential"].split("/")
    identity = known.get(access_key)
    if identity is None or (identity.token or None) != request.header("x-amz-security-token"):
        raise Refusal(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    if (signed_region, service, end) != (region, SERVICE, "aws4_request"):
        raise Refusal(403, "InvalidSignatureException", f"Credential should be scoped to a valid region: {region}")
    stamp = request.header("x-amz-date") or ""
    at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    if stamp[:8] != date or abs(at - now) > _MINUTES:
        raise Refusal(403, "InvalidSignatureException", f"Signature expired: {stamp}")
    canonical = _canonical(request, parts["SignedHeaders"])
    wanted = _signature(identity.secret_key, stamp, f"{date}/{region}/{SERVICE}/aws4_request", canonical)
    if not hmac.compare_digest(wanted, parts["Signature"]):
        said = "The request signature we calculated does not match the signature you provided."
        raise Refusal(403, "InvalidSignatureException", f"{said} The Canonical String should have been '{canonical}'")


def _canonical(request: Recorded, signed_headers: str) -> str:
    names = signed_headers.split(";")
    needed = {"host", "x-amz-date", *(name.lower() for name, _ in request.headers if name.lower().startswith("x-amz-"))}
    if names != sorted(names) or not needed <= set(names):
        raise Refusal(403, "InvalidSignatureException", f"not all of {sorted(needed)} are signed, in order")
    headers = "".join(f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in names)
    path = urllib.parse.quote(request.path, safe="/-_.~")  # encoded once more: it is encoded on the wire already
    quoted = sorted(
        (urllib.parse.quote(name, safe="-_.~"), urllib.parse.quote(value, safe="-_.~"))
        for name, value in urllib.parse.parse_qsl(request.target.partition("?")[2], keep_blank_values=True)
    )
    query = "&".join(f"{name}={value}" for name, value in quoted)
    digest = hashlib.sha256(request.body).hexdigest()
    return "\n".join((request.method, path, query, headers, signed_headers, digest))


def _signature(secret: str, stamp: str, scope: str, canonical: str) -> str:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.digest(key, "\n".join((SCHEME, stamp, scope, digest)).encode(), "sha256").hex()


# Shapes.
@functools.cache
def service() -> Json:
    """botocore's model of the service."""
    found: Json = Loader().load_service_model("bedrock-runtime", "service-2")  # pyright: ignore[reportUnknownMemberType]
    return found


def check_shape(value: object, name: str, where: str) -> None:
    """Raise `Refusal` for a value that is not of the service's shape `name`. What the path says is left out."""
    shape: Json = service()["shapes"][name]
    match shape["type"]:
        case "structure":
            if not shape.get("document"):
                _check_structure(value, shape, where)
        case "list":
            if not isinstance(value, list):
                raise invalid(f"{where} must be a list")
            items = cast("list[object]", value)
            _check_size(len(items), shape, where)
            for index, item in enumerate(items):
                check_shape(item, shape["member"]["shape"], f"{where}.{index}")
        case "map":
            for key, item in _object(value, where).items():
                check_shape(key, shape["key"]["shape"], f"{where} key")
                check_shape(item, shape["value"]["shape"], f"{where}.{key}")
        case kind:
            _check_scalar(value, kind, shape, where)


def _object(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise invalid(f"{where} must be an object")
    return cast("Json", value)


def _check_structure(value: object, shape: Json, where: str) -> None:
    fields = _object(value, where)
    members = {name: member for name, member in shape["members"].items() if "location" not in member}
    for name in shape.get("required", ()):
        if name in members and name not in fields:
            raise invalid(f"Value at '{where}.{name}' failed to satisfy constraint: Member must not be null")
    for name, item in fields.items():
        if name not in members:
            raise invalid(f"{where}: extraneous key [{name}] is not permitted")
        check_shape(item, members[name]["shape"], f"{where}.{name}")
    if shape.get("union") and len(fields) != 1:
        raise invalid(f"{where}: exactly one member must be set, not {sorted(fields)}")


def _check_scalar(value: object, kind: str, shape: Json, where: str) -> None:
    types: Any = {"string": str, "blob": str, "boolean": bool, "integer": int, "long": int, "float": int | float}[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean"):
        raise invalid(f"{where} must be of type {kind}")
    if kind == "blob":
        try:
            value = base64.b64decode(cast("str", value), validate=True)
        except binascii.Error:
            raise invalid(f"{where} is no base64") from None
    if isinstance(value, str):
        if "enum" in shape and value not in shape["enum"]:
            raise invalid(f"Value at '{where}' failed to satisfy constraint: Member must satisfy enum value set")
        if "pattern" in shape and not re.fullmatch(shape["pattern"], value):
            raise invalid(f"Value at '{where}' failed to satisfy regular expression pattern: {shape['pattern'][:60]}")
    if not isinstance(value, bool):
        _check_size(len(value) if isinstance(value, str | bytes) else cast("float", value), shape, where)


def _check_size(size: float, shape: Json, where: str) -> None:
    if size < shape.get("min", size) or size > shape.get("max", size):
        raise invalid(f"Value at '{where}' failed to satisfy constraint: {shape.get('min')} to {shape.get('max')}")


# Conversations.
def check_converse(request: Json, model: str, *, stream: bool) -> None:
    """Raise `Refusal` for a request that Converse does not take."""
    check_shape(request, "ConverseStreamRequest" if stream else "ConverseRequest", "request")
    messages = cast("list[Json]", request.get("messages") or [])
    if not messages or messages[0]["role"] != "user":
        raise invalid("A conversation must start with a user message.")
    waiting: set[str] = set()
    names: set[str] = set()
    used = False
    for index, message in enumerate(messages):
        if message["role"] not in ("user", "assistant"):
            raise invalid("The model does not support system messages inside of messages.")
        if index and message["role"] == messages[index - 1]["role"]:
            raise invalid("A conversation must alternate between user and assistant roles.")
        blocks = cast("list[Json]", message["content"])
        if not blocks:
            raise invalid(f"The content field in the Message object at messages.{index} is empty.")
        if index:
            waiting = _check_results(blocks, waiting, index)
        for number, block in enumerate(blocks):
            _check_block(block, message["role"], f"messages.{index}.content.{number}", names)
            used = used or "toolUse" in block or "toolResult" in block
        waiting |= {block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block}
    if waiting:
        raise invalid(f"tool_use ids were found without tool_result blocks: {sorted(waiting)}")
    if used and "toolConfig" not in request:
        raise invalid("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
    _check_cache(request, model)


def _check_results(blocks: list[Json], waiting: set[str], index: int) -> set[str]:
    found = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
    if len(found) != len(set(found)) or set(found) != waiting:
        raise invalid(f"Expected toolResult blocks at messages.{index}.content for the Ids: {sorted(waiting)}")
    return set()


def _check_block(block: Json, role: str, where: str, names: set[str]) -> None:
    if "text" in block and not block["text"].strip():
        raise invalid(f"The text field in the ContentBlock object at {where} is blank.")
    if role == "user" and ("toolUse" in block or "reasoningContent" in block):
        raise invalid(f"{where}: user messages cannot contain {next(iter(block))}")
    if role == "assistant" and ("toolResult" in block or "image" in block or "document" in block):
        raise invalid(f"{where}: assistant messages cannot contain {next(iter(block))}")
    reasoning = block.get("reasoningContent", {}).get("reasoningText")
    if reasoning is not None and not reasoning.get("signature"):
        raise invalid(f"{where}: signature: Field required")
    name = block.get("document", {}).get("name")
    if name is not None:
        if name in names or not re.fullmatch(r"[a-zA-Z0-9()\[\]-]+( [a-zA-Z0-9()\[\]-]+)*", name):
            raise invalid(f"{where}: the document name {name!r} is not allowed, or there twice")
        names.add(name)


def _check_cache(request: Json, model: str) -> None:
    points = json.dumps(request).count('"cachePoint"')
    if points > 4:
        raise invalid("A maximum of 4 cache points are allowed.")
    if points and not re.search(r"anthropic|nova|application-inference-profile", model):
        raise invalid("You invoked an unsupported model or your request did not allow prompt caching.")
