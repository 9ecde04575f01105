"""OpenTelemetry spans of requests, made from their records when they have ended: until then they cost only their ids.

A span for the request (kind SERVER) and one for each attempt (CLIENT), named and attributed by the semantic conventions
for generative AI as of 1.42 (https://github.com/open-telemetry/semantic-conventions-genai, status: development) and
those for HTTP. Prompts and answers are not in them. The SDK is imported only where an endpoint is configured.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import SplitResult, unquote, urlsplit

import attrs
import trio

from infermux import __version__
from infermux.actors.fleet import Fleet
from infermux.actors.record import Ending, Place, Record, Tried
from infermux.config.settings import ProviderSettings
from infermux.providers import anthropic, ollama, openai
from infermux.providers.classify import mask
from infermux.providers.interface import Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanKind, Tracer

log = logging.getLogger("infermux.traces")

PATH: Final = "/v1/traces"  # https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
GRACE: Final = 5.0  # seconds that the last spans have at the end
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_TALKATIVE: Final = (  # of the SDK's loggers: the parser of those variables, and the exporter in 1.30 and in 1.45
    "opentelemetry.util.re",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.common.http",
)
_BILLION: Final = 1_000_000_000
_NO_FAILURE: Final = ("ok", "cancelled")

_OPERATIONS: Final = {"chat": "chat", "responses": "chat", "messages": "chat", "completions": "text_completion"}
"""`gen_ai.operation.name` where there is a well-known one; elsewhere it is the endpoint's name."""
_PROVIDERS: Final = {"azure_openai": "azure.ai.openai", "bedrock": "aws.bedrock"}
"""`gen_ai.provider.name` where it is not the name of the provider's type."""
_ADDRESSES: Final = {
    "openai": openai.DEFAULT_BASE_URL,
    "anthropic": anthropic.DEFAULT_BASE_URL,
    "ollama": ollama.DEFAULT_BASE_URL,
}
"""Where a type is asked whose `base_url` is not set."""


def traces_of(fleet: Fleet) -> Traces | None:
    """None where no endpoint is configured, or where the extra is missing, which is logged."""
    endpoint = fleet.config.telemetry.otlp_endpoint
    if endpoint is None:
        return None
    discreet = Discreet(os.environ)
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(discreet)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return Traces.to(fleet, OTLPSpanExporter(endpoint=endpoint.rstrip("/") + PATH))
    except ImportError as missing:
        log.error("no traces: telemetry.otlp_endpoint needs `pip install 'infermux[otel]'` (%s)", missing)  # noqa: TRY400
        return None


@attrs.frozen(repr=False)
class Discreet(logging.Filter):
    """Masks the headers for the collector in what the SDK logs: malformed ones, and what the collector says."""

    environ: Mapping[str, str]

    def filter(self, record: logging.LogRecord) -> bool:
        said = mask(record.getMessage().encode("utf-8", "replace"), self._credentials())
        record.msg, record.args = said.decode("utf-8", "replace"), ()
        return True

    def _credentials(self) -> Iterator[str]:
        for variable in _HEADERS:
            for part in self.environ.get(variable, "").split(","):
                _, given, value = part.partition("=")
                yield from {value.strip(), unquote(value).strip()} if given else {part.strip()}


@attrs.define(eq=False)
class Traces:
    """A listener of the journal. `sampler` decides about traces that begin here, as OTEL_TRACES_SAMPLER says."""

    fleet: Fleet
    provider: TracerProvider
    tracer: Tracer
    ids: Ids

    @classmethod
    def to(cls, fleet: Fleet, exporter: SpanExporter, *, at_once: bool = False) -> Traces:
        """Give spans to `exporter`, in batches from a thread of the SDK's own unless `at_once`."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        ids = Ids()
        resource = Resource.create({"service.name": "infermux", "service.version": __version__})
        provider = TracerProvider(resource=resource, id_generator=cast(Any, ids), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        return cls(fleet, provider, provider.get_tracer("infermux", __version__), ids)

    def sampler(self, trace: int) -> bool:
        from opentelemetry.sdk.trace.sampling import Decision

        return self.provider.sampler.should_sample(None, trace, "").decision is Decision.RECORD_AND_SAMPLE

    async def run(self) -> None:
        """Until cancelled; then what was not sent yet has `GRACE` seconds."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + GRACE, shield=True):
                await trio.to_thread.run_sync(self.provider.shutdown, abandon_on_cancel=True)

    def note(self, record: Record) -> None:
        place = record.trace
        if place is None or not place.sampled:
            return
        from opentelemetry import trace

        server, client = trace.SpanKind.SERVER, trace.SpanKind.CLIENT
        self.ids.next_trace, self.ids.next_span = int(place.trace, 16), int(place.span, 16)
        span = self._start(record, server, _caller_of(place))
        inside = trace.set_span_in_context(span)
        for tried in record.attempts:
            self.ids.next_span = int(tried.span, 16) if tried.span else None
            attempt = self._start(record, client, inside, tried)
            if tried.outcome not in _NO_FAILURE:
                attempt.set_status(trace.StatusCode.ERROR)
            attempt.end(_at(record, tried.ended))
        if record.ending is Ending.BROKEN or record.status >= 500:
            span.set_status(trace.StatusCode.ERROR, record.code)
        span.end(_at(record, record.latency))

    def _start(self, record: Record, kind: SpanKind, inside: Context, tried: Tried | None = None) -> Span:
        if tried is None:
            model, began, found = record.requested, 0.0, self._of_request(record)
        else:
            model, began, found = tried.model, tried.started, self._of_attempt(record, tried)
        said = {name: value for name, value in found.items() if value not in (None, "")}
        name = f"{_operation(record)} {model}".rstrip()
        return self.tracer.start_span(name, inside, kind, said, start_time=_at(record, began))

    def _of_request(self, record: Record) -> dict[str, Any]:
        who = record.who
        return {
            "gen_ai.operation.name": _operation(record),
            "gen_ai.provider.name": self._type_of(record.provider),
            "gen_ai.request.model": record.requested,
            "gen_ai.request.stream": record.stream or None,
            "gen_ai.response.model": record.model,
            "gen_ai.response.time_to_first_chunk": record.first_token,
            **_of_usage(record.usage),
            "error.type": record.code,
            "http.request.method": "POST",
            "http.response.status_code": record.status,
            "infermux.request.id": record.id,
            "infermux.ending": record.ending.value,
            "infermux.fault": None if record.fault is None else record.fault.value,
            "infermux.caller": who.caller,
            "infermux.key": who.key,
            "infermux.group": record.group,
            "infermux.strategy": record.strategy,
            "infermux.provider": record.provider,
            "infermux.attempts": len(record.attempts),
            "infermux.rescues": record.rescues or None,
            "infermux.cache": record.cache,
            "infermux.cost": record.cost,
            "infermux.waited": record.waited or None,
            "infermux.overhead": record.overhead,
        }

    def _of_attempt(self, record: Record, tried: Tried) -> dict[str, Any]:
        first = tried.first_token
        return {
            "gen_ai.operation.name": _operation(record),
            "gen_ai.provider.name": self._type_of(tried.provider),
            "gen_ai.request.model": tried.model,
            "gen_ai.request.stream": record.stream or None,
            "gen_ai.response.model": tried.model if tried.outcome == "ok" else None,
            "gen_ai.response.time_to_first_chunk": None if first is None else first - tried.started,
            **_of_usage(tried.usage),
            "error.type": None if tried.outcome in _NO_FAILURE else tried.outcome,
            "http.request.method": "POST",
            "http.response.status_code": tried.status,
            **self._address_of(tried.provider),
            "infermux.provider": tried.provider,
            "infermux.outcome": tried.outcome,
            "infermux.cost": tried.cost,
            "infermux.probe": tried.probe or None,
        }

    def _type_of(self, provider: str) -> str | None:
        member = self.fleet.members.get(provider)
        return None if member is None else _PROVIDERS.get(member.settings.type, member.settings.type)

    def _address_of(self, provider: str) -> dict[str, Any]:
        """Where it is asked: by https://opentelemetry.io/docs/specs/semconv/registry/attributes/server/."""
        member = self.fleet.members.get(provider)
        url = None if member is None else _url_of(member.settings)
        if url is None:
            return {}
        return {"server.address": url.hostname, "server.port": url.port or (443 if url.scheme == "https" else 80)}


def _url_of(settings: ProviderSettings) -> SplitResult | None:
    base = settings.base_url or _ADDRESSES.get(settings.type)
    if base is None and settings.type == "bedrock" and settings.region is not None:
        base = f"https://bedrock-runtime.{settings.region}.amazonaws.com"
    return None if base is None else urlsplit(base)


class Ids:
    """The SDK's source of ids: the next span has those that were passed on to the provider, later ones are random."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        self._random = RandomIdGenerator()
        self.next_trace: int | None = None
        self.next_span: int | None = None

    def generate_span_id(self) -> int:
        span, self.next_span = self.next_span, None
        return span or self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        trace, self.next_trace = self.next_trace, None
        return trace or self._random.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        return True


def _caller_of(place: Place) -> Context:
    """The context that the caller's span makes; an empty one where the trace begins here."""
    from opentelemetry import trace
    from opentelemetry.context import Context

    if not place.parent:
        return Context()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    parent = trace.SpanContext(int(place.trace, 16), int(place.parent, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


def _of_usage(usage: Usage | None) -> dict[str, int | None]:
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
    }


def _operation(record: Record) -> str:
    return _OPERATIONS.get(record.endpoint, record.endpoint)


def _at(record: Record, seconds: float) -> int:
    return int((record.at + seconds) * _BILLION)
