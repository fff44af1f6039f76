"""The span of a call on the side that asks.

Owns: what is said of a call in a trace. Must not know: how it is asked.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.telemetry.spans import Span, SpanKind, current
from ndn_infer.transport.calls.ask import Ask

OPERATIONS: Final = {"generate": "text_completion", "embed": "embeddings", "lookup": "retrieval"}
"""gen_ai.operation.name of functions that have one."""
PROVIDER: Final = "ndn-infer"
_DIGITS: Final = 12


def client_span(ask: Ask) -> Span | None:
    """A child of the current span; None where nothing is traced."""
    parent = current()
    if parent is None:
        return None
    span = parent.child(ask.function, SpanKind.CLIENT)
    span.attributes["ndn.subject"] = ask.subject[1][:_DIGITS]
    if ask.function in OPERATIONS:
        span.attributes["gen_ai.operation.name"] = OPERATIONS[ask.function]
        span.attributes["gen_ai.provider.name"] = PROVIDER
    return span
