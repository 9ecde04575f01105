"""A strict, scriptable upstream on a real socket of the loopback: Amazon Bedrock's runtime and its lists of models.

In a test:

    async with BedrockUpstream() as upstream:
        upstream.script.append(Reply(error=("ThrottlingException", "Too many requests")))
        ...                                    # a provider with upstream.base_url, in os.environ | upstream.environ
        assert upstream.requests[0].json["messages"]

It refuses what the real API refuses (`bedrock_rules`), signatures first, whatever the script says: a step of the script
is used up only by a request for an answer that was acceptable.
"""

from __future__ import annotations

import base64
import datetime
import json
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import attrs
import trio

from infermux.providers.eventstream import Message, encode, event
from tests.mocks.bedrock_rules import Identity, Refusal, check_converse, check_shape, check_signature, invalid
from tests.mocks.inbox import Inbox, close
from tests.mocks.listening import listening
from tests.mocks.memory_net import MemoryStream
from tests.mocks.openai_rules import Json, Recorded, decode

__all__ = ["HAIKU", "IDENTITY", "NOVA", "REGION", "BedrockUpstream", "Recorded", "Reply"]

REGION = "eu-west-1"
IDENTITY = Identity(
    access_key="AKIAMOCKMOCKMOCKMOCK",
    secret_key="mockSecret/0123456789+abcdefghijklmnopqrstu",
    token="mockSessionToken//0123456789abcdefghijklmnopqrstuvwxyz==",
)
BEARER = "bedrock-api-key-mock0123456789"
HAIKU = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
MODELS = (HAIKU, NOVA, "meta.llama3-8b-instruct-v1:0")
USAGE: Json = {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}


@attrs.frozen(kw_only=True)
class Reply:
    """What one request for an answer is answered. `delay` in seconds.

    `error` is an exception's name and message: the status is the exception's own. `body` or `events` (raw, sent one by
    one; `CUT` closes the connection) replace what would be generated of `content`, `stop`, `usage` and `more`, the
    additional response fields. `type_header` False: the exception is named in the body only.
    """

    delay: float = 0.0
    error: tuple[str, str] | None = None
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    type_header: bool = True
    body: bytes | None = None
    events: tuple[bytes, ...] | None = None
    content: tuple[Json, ...] = ({"text": "Hello from Bedrock."},)
    stop: str = "end_turn"
    usage: Json = attrs.field(factory=lambda: dict(USAGE))
    more: Json | None = None
    hang: bool = False


STATUSES = {
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "UnrecognizedClientException": 403,
    "ExpiredTokenException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ThrottlingException": 429,
    "ModelNotReadyException": 429,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}


def whole(reply: Reply) -> bytes:
    """A Converse answer."""
    answer: Json = {
        "output": {"message": {"role": "assistant", "content": list(reply.content)}},
        "stopReason": reply.stop,
        "usage": reply.usage,
        "metrics": {"latencyMs": 12},
    }
    if reply.more is not None:
        answer["additionalModelResponseFields"] = reply.more
    check_shape(answer, "ConverseResponse", "response")
    return json.dumps(answer).encode()


def frame(name: str, padding: str = "abcdefgh", **payload: Any) -> bytes:
    """One event as the service sends it, padded."""
    return event(name, json.dumps({**payload, "p": padding}).encode())


def exception(name: str, message: str) -> bytes:
    return event(name, json.dumps({"message": message}).encode(), kind="exception")


def unmodeled(code: str, message: str) -> bytes:
    headers = {":message-type": "error", ":error-code": code, ":error-message": message}
    return encode(Message(headers=headers))


def frames(reply: Reply) -> Iterator[bytes]:
    """A ConverseStream answer: each text and each tool's input in two pieces."""
    yield frame("messageStart", role="assistant")
    for index, block in enumerate(reply.content):
        for name, fields in _block(block):
            yield frame(name, contentBlockIndex=index, **fields)
        yield frame("contentBlockStop", contentBlockIndex=index)
    stop: Json = {"stopReason": reply.stop}
    if reply.more is not None:
        stop["additionalModelResponseFields"] = reply.more
    yield frame("messageStop", **stop)
    yield frame("metadata", usage=reply.usage, metrics={"latencyMs": 12})


def _block(block: Json) -> Iterator[tuple[str, Json]]:
    deltas: list[Json] = []
    match block:
        case {"toolUse": call}:
            start = {"toolUseId": call["toolUseId"], "name": call["name"]}
            yield "contentBlockStart", {"start": {"toolUse": start}}
            written = json.dumps(call["input"]) if call["input"] else ""
            deltas = [{"toolUse": {"input": piece}} for piece in _halves(written)]
        case {"reasoningContent": {"reasoningText": thought}}:
            deltas = [{"reasoningContent": {"text": piece}} for piece in _halves(thought["text"])]
            if "signature" in thought:
                deltas.append({"reasoningContent": {"signature": thought["signature"]}})
        case {"reasoningContent": {"redactedContent": data}}:
            deltas = [{"reasoningContent": {"redactedContent": data}}]
        case {"citationsContent": cited}:
            text = "".join(piece["text"] for piece in cited["content"])
            deltas = [{"text": piece} for piece in _halves(text)]
            deltas += [{"citation": citation} for citation in cited["citations"]]
        case _:
            deltas = [{"text": piece} for piece in _halves(block["text"])]
    for delta in deltas:
        yield "contentBlockDelta", {"delta": delta}


def _halves(text: str) -> Iterable[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class BedrockUpstream:
    """The mock; an async context manager. `default` answers when `script` is empty. `bearer` is an API key it takes."""

    def __init__(
        self,
        *,
        region: str = REGION,
        identities: Iterable[Identity] = (IDENTITY,),
        bearer: str = BEARER,
        models: Iterable[str] = MODELS,
        any_model: bool = False,
        default: Reply | None = None,
        prefix: str = "",
    ) -> None:
        self.region = region
        self.identities = {identity.access_key: identity for identity in identities}
        self.bearer = bearer
        self.models = tuple(models)
        self.any_model = any_model
        self.default = default or Reply()
        self.prefix = prefix
        self.script: deque[Reply] = deque()
        self.requests: list[Recorded] = []
        self.connections = 0
        self.port = 0
        self.left = trio.Event()
        self._clients: list[_Closable] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to be let in, and to look nowhere else for credentials."""
        identity = next(iter(self.identities.values()))
        return {
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            "AWS_SESSION_TOKEN": identity.token or "",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    async def __aenter__(self) -> BedrockUpstream:
        self._server = listening(self._accept, net=None, port=0)
        self.port = await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()
        await self._server.__aexit__(None, None, None)

    def serves(self, client: _Closable) -> None:
        """Close `client` before the server ends."""
        self._clients.append(client)

    async def _accept(self, stream: trio.SocketStream | MemoryStream) -> None:
        self.connections += 1
        try:
            await _Connection(self, stream, self.connections).serve()
        finally:
            self.left.set()

    def next_reply(self) -> Reply:
        return self.script.popleft() if self.script else self.default

    def check(self, request: Recorded) -> Json | None:
        """What is to be answered at once, or None for an acceptable request for an answer. Raises `Refusal`."""
        self._check_credentials(request)
        path = request.path.removeprefix(self.prefix)
        if request.method == "GET":
            return self._listing(path, request.query)
        if request.header("content-type") != "application/json":
            raise invalid("the Content-Type is not application/json")
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "model" or parts[3] not in ("converse", "converse-stream", "count-tokens"):
            raise Refusal(404, "UnknownOperationException", "")
        model = urllib.parse.unquote(parts[2])
        if ":" in parts[2] or not parts[2]:
            raise invalid("the model id is not encoded as the service's model has it")
        body = decode(request.body)
        if parts[3] == "count-tokens":
            return self._count(body, model)
        check_converse(body, model, stream=parts[3] == "converse-stream")
        if not self.any_model and model not in self.models:
            raise invalid("The provided model identifier is invalid.")
        return None

    def _count(self, body: Json, model: str) -> Json:
        check_shape(body, "CountTokensRequest", "request")
        check_shape(model, "FoundationModelVersionIdentifier", "modelId")
        if "anthropic" not in model or model.startswith(("us.", "eu.", "global.")):
            raise invalid("The provided model doesn't support counting tokens.")
        return {"inputTokens": 42}

    def _check_credentials(self, request: Recorded) -> None:
        scheme, _, key = (request.header("authorization") or "").partition(" ")
        if scheme != "Bearer":
            check_signature(request, self.identities, self.region, datetime.datetime.now(datetime.UTC))
        elif key != self.bearer:
            raise Refusal(403, "AccessDeniedException", f"Authentication failed for {key}")

    def _listing(self, path: str, query: dict[str, str]) -> Json:
        if path == "/foundation-models":
            plain = [name for name in self.models if not name.startswith("eu.")]
            return {"modelSummaries": [{"modelArn": f"arn:aws:bedrock:::{name}", "modelId": name} for name in plain]}
        if path == "/inference-profiles":
            profiles = [name for name in self.models if name.startswith("eu.")]
            if "nextToken" not in query:
                return {"inferenceProfileSummaries": [], "nextToken": "page/2=="}
            if query["nextToken"] != "page/2==":
                raise invalid("nextToken")
            return {"inferenceProfileSummaries": [{"inferenceProfileId": name} for name in profiles]}
        raise Refusal(404, "UnknownOperationException", "")


class _Connection:
    """One connection: how its requests are answered."""

    def __init__(self, upstream: BedrockUpstream, stream: trio.SocketStream | MemoryStream, number: int) -> None:
        self._upstream = upstream
        self._stream = stream
        self._number = number

    async def serve(self) -> None:
        await Inbox(self._stream, self._number).serve(self._handle)

    async def _handle(self, request: Recorded) -> None:
        self._upstream.requests.append(request)
        await self._respond(request)

    async def _respond(self, request: Recorded) -> None:
        try:
            answer = self._upstream.check(request)
        except Refusal as refusal:
            await self._refuse(refusal)
            return
        if answer is not None:
            await self._whole(200, json.dumps(answer).encode())
            return
        await self._play(self._upstream.next_reply(), request)

    async def _play(self, reply: Reply, request: Recorded) -> None:
        await trio.sleep(reply.delay)
        if reply.hang:
            await trio.sleep_forever()
        if reply.error is not None:
            name, message = reply.error
            refusal = Refusal(reply.status or STATUSES.get(name, 400), name, message)
            await self._refuse(refusal, reply)
        elif reply.body is not None:
            await self._whole(reply.status or 200, reply.body, *reply.headers)
        elif request.path.endswith("converse-stream"):
            await self._events(frames(reply) if reply.events is None else reply.events)
        else:
            await self._whole(200, whole(reply))

    async def _refuse(self, refusal: Refusal, reply: Reply | None = None) -> None:
        headers = reply.headers if reply else ()
        if reply is None or reply.type_header:
            kind = ("x-amzn-ErrorType", f"{refusal.name}:http://internal.amazon.com/coral/com.amazon.bedrock/")
            await self._whole(refusal.status, refusal.body(), kind, *headers)
        else:
            said = {"__type": f"com.amazon.bedrock#{refusal.name}", "Message": refusal.message}
            await self._whole(refusal.status, json.dumps(said).encode(), *headers)

    async def _whole(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        await self._stream.send_all(_head(status, "application/json", f"Content-Length: {len(body)}", *headers) + body)

    async def _events(self, events: Iterable[bytes]) -> None:
        kind = "application/vnd.amazon.eventstream"
        await self._stream.send_all(_head(200, kind, "Transfer-Encoding: chunked"))
        for item in events:
            if item == b"CUT":
                await close(self._stream)
            await self._stream.send_all(b"%x\r\n%b\r\n" % (len(item), item))
        await self._stream.send_all(b"0\r\n\r\n")


def _head(status: int, kind: str, framing: str, *headers: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {kind}", "x-amzn-RequestId: mock", framing]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def blob(data: bytes) -> str:
    """Bytes as the API has them in JSON."""
    return base64.b64encode(data).decode()
