"""Spans, their ids and their form on the wire; that nothing of it is there where nobody asks for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord
from ndn_infer.functions.call_spans import CallSpans
from ndn_infer.functions.work import ReceivedCall, WorkKey
from ndn_infer.namespace import Call
from ndn_infer.records import CallTrace, Envelope, TokenizeRequest
from ndn_infer.telemetry import spans as telemetry
from ndn_infer.telemetry.otlp import document
from ndn_infer.telemetry.sender import sending
from ndn_infer.telemetry.spans import (
    MAX_WAITING,
    SpanContext,
    SpanKind,
    Tracer,
    add_up,
    annotate,
    current,
    ending,
    parse_traceparent,
    within,
)
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.call_span import client_span

NET = ndn.from_uri("/n")
CALL = Call("model", "m", "tokenize", "shared", "0" * 64)
KEY = WorkKey(CALL)


def asked(trace: CallTrace | None) -> ReceivedCall:
    return ReceivedCall(None, CALL, Envelope(b"x", trace=trace), "somebody")  # type: ignore[arg-type]


def trace(number: int) -> CallTrace:
    return CallTrace(bytes([number]) * 16, bytes([number]) * 8)


def test_a_traceparent_is_read_strictly() -> None:
    known = parse_traceparent("00-" + "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert known is not None and known[1] and known[0].span_id.hex() == "b7ad6b7169203331"
    unkept = parse_traceparent("00-" + "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    assert unkept is not None and not unkept[1]
    newer = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"
    assert parse_traceparent(newer) is not None
    for text in ("", "00", newer.replace("01-", "00-", 1), f"ff{newer[2:55]}", newer.upper()[:55],
                 f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{'1' * 32}-{'0' * 16}-01"):  # fmt: skip
        assert parse_traceparent(text) is None, text


@given(st.text(max_size=80))
def test_whatever_a_client_sends_is_read_or_not(text: str) -> None:
    known = parse_traceparent(text)
    assert known is None or len(known[0].trace_id) == 16


def test_the_ids_in_an_envelope_have_their_length_and_change_no_name() -> None:
    for bad in (CallTrace(bytes(15), bytes(8)), CallTrace(bytes(16), bytes(9))):
        with pytest.raises(BadRecord):
            records.encode(Envelope(b"x", trace=bad))
    wire = records.encode(Envelope(b"x", trace=trace(1)))
    assert records.decode(Envelope, wire).trace == trace(1)
    with pytest.raises(BadRecord):
        records.decode(Envelope, wire.replace(b"\xc4\x10" + b"\x01" * 16, b"\xc4\x11" + b"\x01" * 17))
    assert records.encode(Envelope(b"x")) == records.encode(Envelope(b"x", trace=None))


async def test_tasks_belong_to_the_span_of_whoever_made_them() -> None:
    tracer = Tracer("test")

    async def work() -> SpanContext | None:
        annotate("worked", True)
        add_up("count", 2)
        here = current()
        return here.context if here is not None else None

    assert current() is None and await work() is None
    span = tracer.start("request", SpanKind.SERVER)
    with within(span):
        both = await asyncio.gather(asyncio.create_task(work()), asyncio.create_task(work()))
    assert both == [span.context, span.context] and current() is None
    assert span.attributes == {"worked": True, "count": 4} and list(tracer.waiting) == [span]


async def test_a_span_ends_with_a_generator_that_is_left() -> None:
    tracer = Tracer("test")

    async def numbers(fails: bool) -> AsyncIterator[int]:
        with ending(tracer.start("numbers", SpanKind.CLIENT)):
            yield 1
            if fails:
                raise ValueError
            yield 2

    async with aclosing(numbers(False)) as left:  # type: ignore[type-var]
        async for _ in left:
            break
    with pytest.raises(ValueError):
        async for _ in numbers(True):
            pass
    assert [span.error for span in tracer.waiting] == ["", "ValueError"]


def test_calls_are_children_of_the_current_span_and_of_nothing_else() -> None:
    ask = Ask(("model", "f" * 64), "generate", TokenizeRequest(text="x"))
    assert client_span(ask) is None
    tracer = Tracer("test")
    with within(tracer.start("request", SpanKind.SERVER)) as _:
        above, span = current(), client_span(ask)
    assert above is not None and span is not None and span.parent == above.context
    assert span.context.trace_id == above.context.trace_id
    assert span.attributes["gen_ai.operation.name"] == "text_completion"


def test_the_first_caller_has_the_work_and_others_are_linked_to_it() -> None:
    tracer = Tracer("test")
    calls = CallSpans(tracer, NET)
    span = calls.begun(asked(trace(1)), KEY)
    assert span is not None and span.parent == SpanContext(b"\x01" * 16, b"\x01" * 8)
    calls.shared(asked(trace(1)), KEY)  # the same caller asks again
    assert not tracer.waiting
    calls.shared(asked(trace(2)), KEY)
    calls.shared(asked(None), KEY)
    (other,) = tracer.waiting
    assert other.context.trace_id == b"\x02" * 16 and other.links == [span.context]
    assert other.attributes["ndn.name"] == "/n/model/m/tokenize/shared/" + "0" * 64
    calls.shared(asked(trace(3)), WorkKey(CALL, "other domain"))
    assert tracer.waiting[-1].links == [], "what another tenant asked is no link"
    assert calls.begun(asked(None), KEY) is None and calls.begun(asked(CallTrace(bytes(16), bytes(8))), KEY) is None
    assert CallSpans(None, NET).begun(asked(trace(1)), KEY) is None
    private = calls.begun(asked(trace(4)), WorkKey(CALL, "acme", b"somebody"))
    assert private is not None and "ndn.name" not in private.attributes


def test_what_waits_is_bounded_and_traces_are_a_share() -> None:
    tracer = Tracer("test")
    for _ in range(MAX_WAITING + 5):
        tracer.start("x", SpanKind.INTERNAL).end()
    assert len(tracer.waiting) == MAX_WAITING and tracer.dropped == 5
    assert not any(Tracer("test", 0.0).begins() for _ in range(100)) and Tracer("test").begins()


def test_the_form_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry.clock, "wall_us", lambda: 1_700_000_000_000_000)
    monkeypatch.setattr(telemetry.os, "urandom", lambda size: b"\xab" * size)
    tracer = Tracer("ndn-infer test")
    span = tracer.start("generate", SpanKind.SERVER, SpanContext(b"\x01" * 16, b"\x02" * 8))
    span.attributes |= {"text": "a", "whole": 3, "part": 0.5, "yes": True, "list": ("stop",)}
    span.event("first token")
    span.link(SpanContext(b"\x03" * 16, b"\x04" * 8))
    span.end("Timeout")
    span.end()  # once
    (sent,) = document("ndn-infer test", tracer.waiting)["resourceSpans"]
    assert sent["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "ndn-infer test"}}]
    assert sent["scopeSpans"][0]["spans"] == [{
        "traceId": "01" * 16, "spanId": "ab" * 8, "parentSpanId": "02" * 8, "name": "generate", "kind": 2,
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000000",
        "attributes": [
            {"key": "text", "value": {"stringValue": "a"}}, {"key": "whole", "value": {"intValue": "3"}},
            {"key": "part", "value": {"doubleValue": 0.5}}, {"key": "yes", "value": {"boolValue": True}},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}},
        ],
        "events": [{"timeUnixNano": "1700000000000000000", "name": "first token"}],
        "links": [{"traceId": "03" * 16, "spanId": "04" * 8}], "status": {"code": 2, "message": "Timeout"},
    }]  # fmt: skip


async def test_what_is_left_at_the_end_is_sent_and_a_collector_that_is_gone_stops_nobody() -> None:
    got: list[dict[str, object]] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.json_response({})

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    tracer = Tracer("test")
    async with sending(tracer, endpoint):
        tracer.start("x", SpanKind.INTERNAL).end()
    assert len(got) == 1 and not tracer.waiting
    await runner.cleanup()
    async with sending(tracer, endpoint):
        tracer.start("y", SpanKind.INTERNAL).end()
    assert tracer.dropped == 1 and not tracer.waiting


def test_nothing_is_imported_where_nobody_asks_for_it() -> None:
    modules = "ndn_infer.apps.gateway, ndn_infer.apps.produce, ndn_infer.apps.forwarder, ndn_infer.apps.repo"
    unwanted = ("ndn_infer.telemetry.sender", "ndn_infer.metrics.exposition", "prometheus_client", "opentelemetry")
    program = f"import sys, {modules}; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
