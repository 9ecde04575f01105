"""The adapter for Amazon Bedrock: Converse and ConverseStream over our own transport, signed by botocore.

Nobody but Bedrock speaks its dialect, so every request is translated. Model ids, inference profiles and ARNs are the
model; the region is the settings', the environment's or the AWS profile's. A Bedrock API key (`api_key`, or
AWS_BEARER_TOKEN_BEDROCK) takes the place of signatures.

Reference: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, and for the addresses
https://docs.aws.amazon.com/general/latest/gr/bedrock.html.
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import attrs
import msgspec

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, InvalidRequest, UpstreamFailure
from infermux.secret import Secret

from .bedrock_errors import STALE, classify, no_model_access
from .bedrock_signing import Bearer, Signer
from .bedrock_stream import CONTENT_TYPE, ConverseStream
from .classify import MAX_ERROR_BODY, secrets_of
from .dialects.bedrock_converse import BedrockConverse
from .dialects.bedrock_converse_answers import read_answer
from .dialects.bedrock_converse_models import traits
from .dialects.dialect import Target
from .dialects.kept_thinking import ThinkingStore
from .interface import Answer, Call, Endpoint, Stream, Usage
from .registry import TypeNotAvailable
from .splice import merge_defaults
from .translate import DIALECTS, Fetched, send_translated
from .transport import Headers, Origin, RequestTemplate, Response, Transport, choose_transport, read_some, target_of

_MAX_TEMPLATES: Final = 256
_MAX_PAGES: Final = 20
_REGION_IN_HOST: Final = re.compile(
    r"^bedrock(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.amazonaws|\.bedrock-runtime\.([a-z0-9-]+)\.vpce\."
)
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_ABOUT_MAX_TOKENS: Final = re.compile(rb"max.?tokens", re.IGNORECASE)
_NO_BOTOCORE: Final = (
    "bedrock needs botocore for AWS credentials and signatures: install it with `pip install 'infermux[bedrock]'`, or "
    "set api_key to a Bedrock API key"
)
_NO_REGION: Final = (
    "bedrock needs an AWS region: set `region` for this provider, AWS_REGION, or the region of the AWS profile"
)


@attrs.frozen(kw_only=True)
class Place:
    """Where Bedrock is: the base URLs of its runtime and of its control plane, which lists models."""

    region: str | None
    runtime: str
    control: str


def make(settings: ProviderSettings, *, environ: Mapping[str, str], kept: ThinkingStore | None = None) -> Bedrock:
    """The factory of the type `bedrock`. `kept` is the store of what Claudes think, for callers that cannot carry it.

    Raises TypeNotAvailable without botocore or a region, ValueError for a base URL or a proxy that cannot be used.
    """
    key = settings.api_key.reveal() if settings.api_key else environ.get("AWS_BEARER_TOKEN_BEDROCK")
    if not key and importlib.util.find_spec("botocore") is None:
        raise TypeNotAvailable("bedrock", _NO_BOTOCORE)
    region = _region(settings, environ)
    if region is None and not (key and settings.base_url):
        raise TypeNotAvailable("bedrock", _NO_REGION)
    place = _place(settings, region)
    signer = Bearer(key) if key else _sigv4(settings, region or "")
    runtime = choose_transport(settings, place.runtime, environ)
    control = runtime if place.control == place.runtime else choose_transport(settings, place.control, environ)
    return Bedrock(settings, place, signer=signer, runtime=runtime, control=control, kept=kept)


def _region(settings: ProviderSettings, environ: Mapping[str, str]) -> str | None:
    region = settings.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region and settings.base_url:
        found = _REGION_IN_HOST.search(urlsplit(settings.base_url).hostname or "")
        region = (found[1] or found[2]) if found else None
    if not region and importlib.util.find_spec("botocore") is not None:
        region = _profile_region()
    if region and not _REGION.fullmatch(region):
        raise ValueError(f"{region[:64]!r} is no AWS region")
    return region or None


def _profile_region() -> str | None:
    from botocore.exceptions import BotoCoreError  # imported where it is needed: it costs a quarter of a second

    from .bedrock_credentials import profile_region

    try:
        return profile_region()
    except BotoCoreError as error:
        raise TypeNotAvailable("bedrock", f"the AWS profile cannot be used: {error}") from None


def _place(settings: ProviderSettings, region: str | None) -> Place:
    if settings.base_url:
        return Place(region=region, runtime=settings.base_url, control=settings.base_url)
    suffix = "amazonaws.com.cn" if (region or "").startswith("cn-") else "amazonaws.com"
    runtime, control = f"https://bedrock-runtime.{region}.{suffix}", f"https://bedrock.{region}.{suffix}"
    return Place(region=region, runtime=runtime, control=control)


def _sigv4(settings: ProviderSettings, region: str) -> Signer:
    from .bedrock_credentials import Chain, SigV4

    host = next((value for name, value in settings.headers.items() if name.lower() == "host"), None)
    return SigV4(Chain(), region, host)


class Bedrock:
    """The adapter; see `interface.Adapter`. Owns its transports."""

    endpoints: frozenset[Endpoint] = frozenset(DIALECTS)

    def __init__(
        self,
        settings: ProviderSettings,
        place: Place,
        *,
        signer: Signer,
        runtime: Transport,
        control: Transport,
        kept: ThinkingStore | None = None,
    ) -> None:
        """`control` may be `runtime`; `kept` is as for `make`."""
        self._settings = settings
        self._place = place
        self._signer = signer
        self._runtime = runtime
        self._control = control
        self._of_claudes = ThinkingStore() if kept is None else kept
        self._of_others = ThinkingStore()  # no Claude takes what these have signed
        self._images = _images(settings)
        self._fixed = _headers(settings)
        self._templates: dict[tuple[bytes, bytes], RequestTemplate] = {}
        self._extra = {name: msgspec.json.encode(value) for name, value in settings.extra_body.items()}

    def __repr__(self) -> str:
        return f"Bedrock({self._settings.name!r}, {self._place.runtime!r}, {self.transport})"

    @property
    def transport(self) -> str:
        return self._runtime.name

    async def send(self, call: Call) -> Answer | Stream:
        if self._settings.borrows:
            raise InvalidRequest(
                f"provider {self._settings.name} is of type bedrock, whose requests are signed: a caller's credential "
                "cannot be passed on to it, and it has none of its own"
            )
        target = Target(model=call.model, default_max_tokens=self._settings.default_max_tokens)
        dialect = BedrockConverse(call.model)
        return await send_translated(
            self.converse,
            call,
            endpoint=call.endpoint,
            provider=dialect,
            target=target,
            kept=self._of_claudes if traits(call.model).is_claude else self._of_others,
            images=self._images,
        )

    async def converse(self, call: Call) -> Answer | Stream:
        """Send `call`, whose body is a Converse request already; see `Adapter.send`."""
        body = merge_defaults(call.body, self._extra) if self._extra else call.body
        operation = "converse-stream" if call.stream else "converse"
        response = await self._post(call.model, operation, body)
        if call.stream and 200 <= response.status < 300 and _is_event_stream(response):
            return ConverseStream(response, secrets=lambda: self._secrets)
        try:
            answer = await self._read(response)
        finally:
            response.close()
        if call.stream:
            message = "answered a streaming request with something that is no event stream"
            raise UpstreamFailure(FailureKind.MALFORMED, message, status=response.status)
        usage = read_answer(answer).usage
        return Answer(response.status, response.content_type, answer, usage)

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        """See `Adapter.probe`. What is missing is said: credentials, or access to the model."""
        if method is not ProbeMethod.GENERATE or model is None:
            await self._probe_models()
            return None
        ping = {"messages": [{"role": "user", "content": [{"text": "ping"}]}], "inferenceConfig": {"maxTokens": 1}}
        body = merge_defaults(msgspec.json.encode(ping), self._extra)
        response = await self._post(model, "converse", body)
        try:
            return read_answer(await self._read(response)).usage
        except UpstreamFailure as failure:
            if failure.kind is FailureKind.CALLER and _ABOUT_MAX_TOKENS.search(failure.body or b""):
                return None  # it read the request and knows the model: it is alive
            if failure.kind is FailureKind.MODEL_NOT_FOUND:
                raise no_model_access(model, self._place.region, failure) from None
            raise
        finally:
            response.close()

    async def _probe_models(self) -> None:
        """Whether the control plane answers. An identity that may call models need not be allowed to list them."""
        try:
            await self._list("/foundation-models?byOutputModality=TEXT")
        except UpstreamFailure as failure:
            if failure.code == "AccessDeniedException" and b"bedrock:List" in (failure.body or b""):
                return
            raise

    def takes_prefill(self, model: str) -> bool:
        """Whether `model` goes on with the beginning of an answer: of the many, the Claude models that still do."""
        known = traits(model).claude
        return known is not None and known.prefill

    async def list_models(self) -> Sequence[str]:
        """The ids that can be called as they are: models on demand, and the account's inference profiles."""
        models = await self._list("/foundation-models?byOutputModality=TEXT&byInferenceType=ON_DEMAND")
        names = _names(models, "modelSummaries", "modelId")
        token = ""
        for _ in range(_MAX_PAGES):
            more = f"&nextToken={quote(token, safe='')}" if token else ""
            page = await self._list(f"/inference-profiles?maxResults=1000{more}")
            names += _names(page, "inferenceProfileSummaries", "inferenceProfileId")
            following = page.get("nextToken")
            if not isinstance(following, str) or not following:
                break
            token = following
        return names

    async def aclose(self) -> None:
        await self._runtime.aclose()
        if self._control is not self._runtime:
            await self._control.aclose()

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (*self._signer.secrets, *secrets_of((), self._settings.headers))

    async def _list(self, path: str) -> dict[str, object]:
        target = target_of(self._place.control, path)
        signed = await self._signer.sign("GET", self._url(self._place.control, target), b"")
        template = self._control.template(b"GET", target, self._fixed)
        response = await self._control.send(template, b"", signed)
        try:
            return msgspec.json.decode(await self._read(response), type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise UpstreamFailure(FailureKind.MALFORMED, f"listed its models with no JSON object: {error}") from None
        finally:
            response.close()

    async def _post(self, model: str, operation: str, body: bytes) -> Response:
        """The path has the model percent-encoded, the slashes and colons of an ARN too."""
        target = target_of(self._place.runtime, f"/model/{quote(model, safe='')}/{operation}")
        signed = await self._signer.sign("POST", self._url(self._place.runtime, target), body)
        return await self._runtime.send(self._template(b"POST", target), body, signed)

    async def _read(self, response: Response) -> bytes:
        """The body of a 2xx answer. Raises `UpstreamFailure` for any other."""
        if 200 <= response.status < 300:
            return await response.read()
        body = await read_some(response, MAX_ERROR_BODY)
        failure = classify(response.status, response.get, body, now=time.time(), secrets=self._secrets)
        if failure.code in STALE:
            self._signer.forget()
        raise failure

    def _url(self, base_url: str, target: bytes) -> str:
        return f"{Origin.of(base_url)}{target.decode('ascii')}"

    def _template(self, method: bytes, target: bytes) -> RequestTemplate:
        template = self._templates.get((method, target))
        if template is None:
            if len(self._templates) >= _MAX_TEMPLATES:  # the targets have the model in them, and callers name that
                self._templates.clear()
            template = self._runtime.template(method, target, self._fixed)
            self._templates[method, target] = template
        return template


def _images(settings: ProviderSettings) -> Fetched | None:
    """What fetches images by address. It has half the time of an attempt: a slow image is not the provider's fault."""
    if not settings.fetch_images:
        return None
    from .fetch import ImageFetcher  # httpx costs tens of milliseconds to import

    return ImageFetcher(seconds=settings.first_token_timeout / 2).fetched


def _headers(settings: ProviderSettings) -> Headers:
    """The fixed headers. Content-Type is signed, so the settings cannot change it."""
    theirs = [(name.encode(), value.encode()) for name, value in settings.headers.items()]
    ours = [(b"Content-Type", b"application/json")]
    names = {b"content-type", b"authorization"}
    return [*ours, *(header for header in theirs if header[0].lower() not in names)]


def _names(page: Mapping[str, object], members: str, name: str) -> list[str]:
    found: list[str] = []
    items = page.get(members)
    for item in cast("list[object]", items) if isinstance(items, list) else ():
        value = cast("dict[str, Any]", item).get(name) if isinstance(item, dict) else None
        if isinstance(value, str):
            found.append(value)
    return found


def _is_event_stream(response: Response) -> bool:
    return response.content_type.partition(b";")[0].strip().lower() == CONTENT_TYPE
