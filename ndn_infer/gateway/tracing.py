"""The span of an HTTP request, the beginning of a trace or part of the client's.

Owns: the `traceparent` header, which requests are traced. Must not know: what a request means, how spans are sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from ndn_infer.telemetry.spans import SpanKind, Tracer, parse_traceparent, within

TRACED: Final = "/v1/"
"""Paths below are traced: what asks the network."""
ERROR: Final = 500


class Tracing:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """A client says whether its trace is kept; of others the tracer keeps a share."""
        known = parse_traceparent(request.headers.get("traceparent", ""))
        if not request.path.startswith(TRACED) or not (self._tracer.begins() if known is None else known[1]):
            return await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        span = self._tracer.start(f"{request.method} {route}", SpanKind.SERVER, known[0] if known is not None else None)
        span.attributes |= {
            "http.request.method": request.method, "http.route": route, "gen_ai.provider.name": "ndn-infer",
        }  # fmt: skip
        if route.endswith("/chat/completions"):
            span.attributes["gen_ai.operation.name"] = "chat"
        with within(span):
            response = await handler(request)
            span.attributes["http.response.status_code"] = response.status
            if response.status >= ERROR:
                span.end(f"status {response.status}")
        return response
