"""Spans of requests: what they say, whose children they are, and that they arrive at a collector."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock

from infermux.actors.fleet import Fleet
from infermux.actors.identity import Identity
from infermux.actors.record import Ending, Place, Record, Tried
from infermux.config.settings import TelemetrySettings
from infermux.errors import Fault
from infermux.http.traces import Traces, traces_of
from infermux.providers.interface import Usage
from tests.actors._scripted import PRIORITY, SERVER_ERROR, provider, streams, two, world
from tests.http._serving import Served, plain_app, serving
from tests.http.test_recording import ASKED, Memory, door

BEDROCK = ("bedrock-runtime.eu-west-1.amazonaws.com", 443)
PLACE = Place("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7")
USAGE = Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=4, reasoning_tokens=2, cache_write_tokens=1)
FAILED = Tried(provider="a", model="m", started=0.5, ended=1.0, outcome="server_error", status=500)
WELL = Tried(provider="b", model="m-2", started=1.0, ended=3.0, first_token=1.5, status=200, usage=USAGE, cost=0.25)
ANSWERED = Record(
    id="r1",
    at=1000.0,
    who=Identity(caller="team-a", key="k1"),
    endpoint="messages",
    stream=True,
    requested="m",
    strategy="priority",
    provider="b",
    model="m-2",
    attempts=(FAILED, WELL),
    usage=USAGE,
    cost=0.25,
    latency=3.5,
    first_token=1.5,
    overhead=0.001,
    trace=PLACE,
)


def spans_of(fleet: Fleet, *records: Record) -> Sequence[ReadableSpan]:
    """In the order of their beginning."""
    exporter = InMemorySpanExporter()
    traces = Traces.to(fleet, exporter, at_once=True)
    for record in records:
        traces.note(record)
    traces.provider.shutdown()
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


def said(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_a_span_and_each_attempt_one_below_it(autojump_clock: MockClock) -> None:
    async with world(*two()) as w:
        request, failed, well = spans_of(w.fleet, ANSWERED)
    assert (request.name, failed.name, well.name) == ("chat m", "chat m", "chat m-2")
    assert (request.kind, failed.kind, well.kind) == (SpanKind.SERVER, SpanKind.CLIENT, SpanKind.CLIENT)
    assert request.context is not None
    assert request.parent is not None
    assert (f"{request.context.trace_id:032x}", f"{request.context.span_id:016x}") == (PLACE.trace, PLACE.span)
    assert f"{request.parent.span_id:016x}" == PLACE.parent
    assert request.parent.is_remote
    for attempt in (failed, well):
        assert attempt.parent is not None
        assert attempt.parent.span_id == request.context.span_id
    assert (request.start_time, request.end_time) == (1000_000_000_000, 1003_500_000_000)
    assert (failed.start_time, failed.end_time) == (1000_500_000_000, 1001_000_000_000)
    assert (failed.status.status_code, well.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)


async def test_a_span_of_a_request_says_what_the_conventions_name(autojump_clock: MockClock) -> None:
    a = provider("a", "m", base_url="https://api.example.com:8443/v1")
    async with world(a, provider("b", "m", type="bedrock", region="eu-west-1")) as w:
        request, failed, well = map(said, spans_of(w.fleet, ANSWERED))
    assert request == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m-2",
        "gen_ai.response.time_to_first_chunk": 1.5,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "infermux.request.id": "r1",
        "infermux.ending": "ok",
        "infermux.caller": "team-a",
        "infermux.key": "k1",
        "infermux.strategy": "priority",
        "infermux.provider": "b",
        "infermux.attempts": 2,
        "infermux.cost": 0.25,
        "infermux.overhead": 0.001,
    }
    assert failed["error.type"] == "server_error"
    assert failed["http.response.status_code"] == 500
    assert (failed["server.address"], failed["server.port"]) == ("api.example.com", 8443)
    assert "gen_ai.response.model" not in failed
    assert well["gen_ai.response.time_to_first_chunk"] == 0.5
    assert (well["gen_ai.response.model"], well["gen_ai.request.stream"]) == ("m-2", True)
    assert (well["http.request.method"], well["server.address"], well.get("server.port")) == ("POST", *BEDROCK)


async def test_every_attribute_is_one_of_the_conventions_or_says_that_it_is_ours(autojump_clock: MockClock) -> None:
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    known |= {"error.type", "http.request.method", "http.response.status_code", "server.address", "server.port"}
    async with world(*two()) as w:
        for span in spans_of(w.fleet, ANSWERED):
            assert {name for name in said(span) if not name.startswith("infermux.")} <= known


async def test_an_error_is_told_by_its_code(autojump_clock: MockClock) -> None:
    refused = Record(
        id="r1",
        at=0.0,
        endpoint="chat",
        requested="m",
        ending=Ending.REFUSED,
        status=502,
        code="upstream_error",
        fault=Fault.PROVIDER,
        trace=Place(PLACE.trace, PLACE.span),
    )
    async with world(*two()) as w:
        [span] = spans_of(w.fleet, refused)
    assert span.parent is None
    assert (said(span)["error.type"], said(span)["infermux.fault"]) == ("upstream_error", "provider")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "upstream_error")


async def test_what_is_not_to_be_kept_makes_no_span(autojump_clock: MockClock) -> None:
    unsampled = Record(id="r", at=0.0, trace=Place(PLACE.trace, PLACE.span, sampled=False))
    async with world(*two()) as w:
        assert not spans_of(w.fleet, unsampled, Record(id="r", at=0.0))


async def test_the_sampler_is_the_one_of_the_environment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(*two()) as w:
        assert Traces.to(w.fleet, InMemorySpanExporter(), at_once=True).sampler(1)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        assert not Traces.to(w.fleet, InMemorySpanExporter(), at_once=True).sampler(1)


async def test_each_provider_is_told_the_span_of_its_attempt(autojump_clock: MockClock) -> None:
    exporter = InMemorySpanExporter()
    async with door(*two(), routing=PRIORITY, script={"a": [SERVER_ERROR], "b": [streams()]}) as d:
        traces = Traces.to(d.world.fleet, exporter, at_once=True)
        d.inference.sampler, d.world.fleet.spans = traces.sampler, True
        d.world.fleet.journal.listen(traces.note)
        await d.asked(Memory({**ASKED, "stream": True}))
        sent = [
            dict(call.headers)[b"traceparent"].decode().split("-") for name in "ab" for _, call in d.world[name].asked
        ]
    spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
    attempts = [span.context for span in spans if span.kind is SpanKind.CLIENT]
    ours = [[f"{each.trace_id:032x}", f"{each.span_id:016x}"] for each in attempts if each is not None]
    assert [parts[1:3] for parts in sent] == ours
    assert sent[0][2] != sent[1][2]
    assert {(parts[0], parts[3]) for parts in sent} == {("00", "01")}


async def test_the_callers_headers_are_passed_on_without_traces_too(autojump_clock: MockClock) -> None:
    parent = f"00-{PLACE.trace}-{PLACE.span}-01"
    async with door() as d:
        record = await d.asked(Memory(traceparent=parent, tracestate="a=1"))
        [(_, call)] = d.world["a"].asked
    assert dict(call.headers) == {b"traceparent": parent.encode(), b"tracestate": b"a=1"}
    assert record.trace == Place(PLACE.trace, PLACE.span, PLACE.span)


@pytest.mark.slow
async def test_spans_arrive_at_a_collector_and_the_last_ones_at_the_end() -> None:
    got: list[bytes] = []

    async def collect(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await plain_app(scope, receive, send)
        else:
            assert scope["path"] == "/v1/traces"
            message = await receive()
            body = message["body"]
            while message.get("more_body"):
                message = await receive()
                body += message["body"]
            got.append(body)
            headers = [(b"content-type", b"application/x-protobuf"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    async with serving(app=collect) as served:
        await _send_one(served)
    [body] = got
    request = ExportTraceServiceRequest.FromString(body)
    [resource] = request.resource_spans
    names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert names["service.name"] == "infermux"
    assert [span.name for span in resource.scope_spans[0].spans] == ["chat m", "chat m-2", "chat m"]


async def _send_one(served: Served) -> None:
    endpoint = TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{served.port}")
    async with world(*two(), telemetry=endpoint) as w:
        traces = traces_of(w.fleet)
        assert traces is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(traces.run)
            await trio.testing.wait_all_tasks_blocked()
            traces.note(ANSWERED)
            nursery.cancel_scope.cancel()


async def test_without_an_endpoint_there_are_no_traces(autojump_clock: MockClock) -> None:
    async with world(*two()) as w:
        assert traces_of(w.fleet) is None


async def test_a_missing_extra_is_said_and_stops_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    async with world(*two(), telemetry=TelemetrySettings(otlp_endpoint="http://127.0.0.1:1")) as w:
        assert traces_of(w.fleet) is None
    assert "pip install 'infermux[otel]'" in caplog.text


async def test_what_the_sdk_logs_shows_no_header_for_the_collector(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, malformed = "k-canary-1", "canary-2 without a name"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-key={key}%2F, {malformed}")
    async with world(*two(), telemetry=TelemetrySettings(otlp_endpoint="http://127.0.0.1:1")) as w:
        traces = traces_of(w.fleet)
    assert traces is not None
    exporter = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    exporter.error("Failed to export batch code: %s, reason: %s", 401, f"100 % wrong: {key}/ and {key}%2F")
    assert "Header format invalid" in caplog.text
    assert "reason: 100 % wrong: *** and ***" in caplog.text
    assert "canary" not in caplog.text


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    code = "import sys, json, infermux.http.application; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30).stdout
    loaded = json.loads(out)
    assert not [name for name in loaded if name.startswith(("opentelemetry.sdk", "prometheus_client"))]
