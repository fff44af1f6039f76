"""Spans as OTLP's JSON, one document for one request.

Owns: that form (opentelemetry-proto 1.x, JSON mapping: ids in hexadecimal, times as decimal strings). Pure. Must not
know: how it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ndn_infer.telemetry.spans import Span, SpanContext, Value

STATUS_ERROR: Final = 2
SCOPE: Final = "ndn_infer"


def document(service: str, spans: Iterable[Span]) -> dict[str, Any]:
    """An ExportTraceServiceRequest."""
    resource = {"attributes": _attributes({"service.name": service})}
    scope = {"scope": {"name": SCOPE}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, Any]:
    made: dict[str, Any] = {
        **_ids(span.context), "name": span.name, "kind": int(span.kind), "startTimeUnixNano": _nanos(span.began_us),
        "endTimeUnixNano": _nanos(span.ended_us), "attributes": _attributes(span.attributes),
        "events": [{"timeUnixNano": _nanos(at), "name": name} for at, name in span.events],
        "links": [_ids(link) for link in span.links],
        "status": {"code": STATUS_ERROR, "message": span.error} if span.error else {},
    }  # fmt: skip
    if span.parent is not None:
        made["parentSpanId"] = span.parent.span_id.hex()
    return made


def _ids(context: SpanContext) -> dict[str, str]:
    return {"traceId": context.trace_id.hex(), "spanId": context.span_id.hex()}


def _nanos(microseconds: int) -> str:
    return f"{microseconds}000"


def _attributes(attributes: Mapping[str, Value | tuple[str, ...]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Value | tuple[str, ...]) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
    return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
