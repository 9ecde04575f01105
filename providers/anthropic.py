"""The adapter for Anthropic's Messages API.

The caller's body goes on byte for byte. Spliced in, where they differ: the model and the provider's `extra_body` (what
the caller wrote wins); cut out: the router's own members. The answer comes back as the provider wrote it. Callers of
other dialects reach it by translation: see `translated`.

Shapes: https://platform.claude.com/docs/en/api/messages and `anthropic.types` of the anthropic SDK.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import attrs
import msgspec

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.secret import Secret

from .anthropic_bodies import check_count, malformed, prepare_body, read_message, read_models
from .anthropic_errors import classify_refusal
from .classify import MAX_ERROR_BODY, secrets_of
from .dialects.claude import claude
from .interface import TRACE_HEADERS, Answer, Call, Endpoint, Stream, Usage
from .lent import lent_header, secrets_with
from .messages_stream import MessagesStream
from .ratelimits import listen
from .splice import merge_defaults
from .transport import Headers, RequestTemplate, Response, Transport, choose_transport, read_some, target_of

_OAUTH: Final = "sk-ant-oat"
DEFAULT_BASE_URL: Final = "https://api.anthropic.com"
VERSION: Final = b"2023-06-01"
"""The version of the API that our own requests and translations are written for, and callers who name none.

A caller's own version goes on with its body, which is written for that: what a later one refuses (sampling parameters
since 2026-10-21) an earlier one takes. The answers are the same. https://platform.claude.com/docs/en/api/versioning
"""

_ABOUT_MAX_TOKENS: Final = re.compile(rb"max_tokens")
_BETA: Final = b"anthropic-beta"
_VERSION: Final = b"anthropic-version"
_OURS: Final = ((_VERSION, VERSION),)
_PAGE: Final = 1000
_MOST_PAGES: Final = 20


def make(settings: ProviderSettings, *, environ: Mapping[str, str]) -> Anthropic:
    """The factory of the type `anthropic`; its base URL may end in `/v1` or not. Raises ValueError for one that cannot
    be used, and for such a proxy."""
    base_url = (settings.base_url or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1")
    return Anthropic(settings, base_url, choose_transport(settings, base_url, environ))


class Anthropic:
    """The adapter; see `interface.Adapter`. Owns its transport."""

    endpoints = frozenset({Endpoint.MESSAGES, Endpoint.COUNT_TOKENS})

    def __init__(self, settings: ProviderSettings, base_url: str, transport: Transport) -> None:
        """`base_url` without `/v1`."""
        self._settings = settings
        self._base_url = base_url
        self._transport = transport
        self._secrets = secrets_of(settings.keys, settings.headers)
        self._version: Headers = () if any(name.lower() == _VERSION.decode() for name in settings.headers) else _OURS
        self._requests = self._prepare(next(iter(settings.keys), None))
        self._requests_by_key: dict[Secret, _Requests] = {}
        self._extra = {name: msgspec.json.encode(value) for name, value in settings.extra_body.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.name!r}, {self._base_url!r}, {self.transport})"

    @property
    def transport(self) -> str:
        return self._transport.name

    async def send(self, call: Call) -> Answer | Stream:
        """See `Adapter.send`. `extra_body` is for messages: counting their tokens takes few other fields."""
        counting = call.endpoint is Endpoint.COUNT_TOKENS
        body = prepare_body(call, {} if counting else self._extra)
        requests = self._requests_of(call.key)
        template = requests.count if counting else requests.messages
        headers = self._of_caller(call)
        if call.lent is not None:
            headers = (*headers, *lent_header(call, self._settings, _credential))
        response = await self._transport.send(template, body, headers)
        listen(call.heard, response.headers)
        if call.stream and 200 <= response.status < 300 and not _is_json(response):
            return MessagesStream(response, secrets=secrets_with(call, self._secrets))
        try:
            if not 200 <= response.status < 300:
                raise await self._failure(response, call)
            return await self._whole(response, call)
        finally:
            response.close()

    def _of_caller(self, call: Call) -> Headers:
        """The version and the betas; a version that the settings name stays the only one."""
        if not call.headers:
            return self._version
        betas = [header for header in call.headers if header[0].lower() == _BETA]
        given = [header for header in call.headers if header[0].lower() == _VERSION]
        traced = [header for header in call.headers if header[0] in TRACE_HEADERS]
        return [*(given[:1] if given and self._version else self._version), *betas, *traced]

    async def _whole(self, response: Response, call: Call) -> Answer:
        body = await response.read()
        status = response.status
        if call.endpoint is Endpoint.COUNT_TOKENS:
            check_count(body, status=status, secrets=secrets_with(call, self._secrets))
            return Answer(status, response.content_type, body, Usage())  # counting costs no tokens
        usage = read_message(body, status=status, secrets=secrets_with(call, self._secrets))
        if call.stream:  # callers that asked for events find none in a JSON body, and would see an empty answer
            raise malformed("answered a streaming request with a whole message", status)
        return Answer(status, response.content_type, body, usage)

    async def _failure(self, response: Response, call: Call | None = None) -> UpstreamFailure:
        body = await read_some(response, MAX_ERROR_BODY)
        secrets = self._secrets if call is None else secrets_with(call, self._secrets)
        return classify_refusal(response.status, response.get, body, now=time.time(), secrets=secrets)

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        if method is not ProbeMethod.GENERATE or model is None:
            await self._fetch(self._requests_of(key).models)
            return None
        body = msgspec.json.encode({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "ping"}]})
        try:
            answer = await self._fetch(self._requests_of(key).messages, merge_defaults(body, self._extra))
        except UpstreamFailure as failure:
            if failure.status == 400 and _ABOUT_MAX_TOKENS.search(failure.body or b""):
                return None  # it read the request and knows the model: it is alive
            raise
        return read_message(answer, status=200, secrets=self._secrets)

    def takes_prefill(self, model: str) -> bool:
        """Whether `model` goes on with the beginning of an answer. One whose name says nothing is asked."""
        known = claude(model)
        return known is None or known.prefill

    async def list_models(self) -> Sequence[str]:
        """All pages of `/v1/models`, the first twenty at most."""
        names: list[str] = []
        after: str | None = None
        for _ in range(_MOST_PAGES):
            query = f"?limit={_PAGE}" + (f"&after_id={quote(after, safe='')}" if after else "")
            found, after = read_models(
                await self._fetch(self._template(b"GET", f"/v1/models{query}", self._requests.headers))
            )
            names += found
            if after is None:
                break
        return names

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _fetch(self, template: RequestTemplate, body: bytes = b"") -> bytes:
        """The body of a 2xx answer. Raises `UpstreamFailure` for any other."""
        response = await self._transport.send(template, body, self._version)
        try:
            if not 200 <= response.status < 300:
                raise await self._failure(response)
            return await response.read()
        finally:
            response.close()

    def _template(self, method: bytes, path: str, headers: Headers) -> RequestTemplate:
        return self._transport.template(method, target_of(self._base_url, path), headers)

    def _requests_of(self, key: Secret | None) -> _Requests:
        if key is None:
            return self._requests
        requests = self._requests_by_key.get(key)
        if requests is None:
            requests = self._requests_by_key[key] = self._prepare(key)
        return requests

    def _prepare(self, key: Secret | None) -> _Requests:
        headers = _headers(self._settings, key)
        return _Requests(
            headers,
            self._template(b"POST", "/v1/messages", headers),
            self._template(b"POST", "/v1/messages/count_tokens", headers),
            self._template(b"GET", "/v1/models", headers),
        )


@attrs.frozen(eq=False)
class _Requests:
    """What is asked with one credential, as it was prepared; the fixed headers are in each."""

    headers: Headers = attrs.field(repr=False)
    messages: RequestTemplate
    count: RequestTemplate
    models: RequestTemplate


def _credential(lent: str) -> tuple[bytes, bytes]:
    """The caller's own as Anthropic takes it: what its OAuth hands out is a bearer, and refused as a key.

    By its beginning, as everybody tells them apart (https://github.com/BerriAI/litellm/pull/21039). The beta that goes
    with it is the caller's to name.
    """
    return (b"Authorization", b"Bearer " + lent.encode()) if lent.startswith(_OAUTH) else api_key(lent)


def api_key(key: str) -> tuple[bytes, bytes]:
    """The credential as Anthropic takes it."""
    return b"x-api-key", key.encode()


def _headers(settings: ProviderSettings, key: Secret | None) -> Headers:
    """The fixed headers; those of the settings take the place of ours with the same name."""
    ours = [
        (b"Content-Type", b"application/json"),
        (b"Accept", b"application/json, text/event-stream"),
    ]
    if key:
        ours.append(api_key(key.reveal()))
    theirs = [(name.encode(), value.encode()) for name, value in settings.headers.items()]
    names = {name.lower() for name, _ in theirs}
    return [header for header in ours if header[0].lower() not in names] + theirs


def _is_json(response: Response) -> bool:
    return response.content_type.lstrip()[:16].lower() == b"application/json"
