"""Spans of calls on the side that answers: whoever computes is a child of the first caller, others are linked to it.

Owns: which span a call has. Must not know: how a call is answered, how spans are sent. Without a Tracer there is none.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ndn_infer import ndn
from ndn_infer.functions.work import ReceivedCall, WorkKey
from ndn_infer.ndn.name import Name
from ndn_infer.records import CallTrace
from ndn_infer.telemetry.spans import Span, SpanContext, SpanKind, Tracer

REMEMBERED: Final = 4096
"""Calls whose span is known to those who ask the same later."""


class CallSpans:
    """Of the calls of one function. An Interest that is sent again is the same caller: its context is the same."""

    def __init__(self, tracer: Tracer | None, net: Name) -> None:
        self._tracer = tracer
        self._net = net
        self._computed: OrderedDict[WorkKey, tuple[SpanContext, SpanContext]] = OrderedDict()
        """Whose child, and which span."""

    def begun(self, asked: ReceivedCall, key: WorkKey) -> Span | None:
        """Work that begins, where its caller traces it."""
        parent = _context(asked.envelope.trace)
        if self._tracer is None or parent is None:
            return None
        span = self._start(self._tracer, asked, key, parent)
        self._computed[key] = parent, span.context
        self._computed.move_to_end(key)
        while len(self._computed) > REMEMBERED:
            self._computed.popitem(last=False)
        return span

    def shared(self, asked: ReceivedCall, key: WorkKey) -> None:
        """A call that is answered by the work of another: no time of its own, and a link to what was computed."""
        parent = _context(asked.envelope.trace)
        first, computed = self._computed.get(key, (None, None))
        if self._tracer is None or parent is None or parent == first:
            return
        span = self._start(self._tracer, asked, key, parent)
        span.attributes["ndn.call.shared"] = True
        if computed is not None:
            span.link(computed)
        span.end()

    def _start(self, tracer: Tracer, asked: ReceivedCall, key: WorkKey, parent: SpanContext) -> Span:
        span = tracer.start(asked.call.function, SpanKind.SERVER, parent)
        if not key.caller:  # which private call was made is its caller's affair
            span.attributes["ndn.name"] = ndn.to_uri(asked.call.to_name(self._net))
        return span


def _context(trace: CallTrace | None) -> SpanContext | None:
    try:
        return SpanContext(trace.trace_id, trace.span_id) if trace is not None else None
    except ValueError:
        return None
