"""What the gateway counts of HTTP, and GET /metrics.

Owns: requests by route and status, their time. Must not know: what a request means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ndn_infer import clock
from ndn_infer.gateway.exchange import Exchange, HttpRoute
from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Meters, Sample

if TYPE_CHECKING:
    from ndn_infer.metrics.exposition import Exposition

UNKNOWN: Final = "unknown"
LEFT: Final = "499"
"""As status: the client left before there was one."""


class Metering:
    """`middleware` goes before all others, `route` beside the others. `alias` as in Exposition."""

    def __init__(self, meters: Meters, alias: Callable[[str], str]) -> None:
        self._meters = meters
        self._alias = alias
        self._exposition: Exposition | None = None
        self._active = 0
        meters.read_from("gateway", self._samples)

    @property
    def route(self) -> HttpRoute:
        return HttpRoute("GET", "/metrics", self._metrics)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began, status, self._active = clock.monotonic(), LEFT, self._active + 1
        try:
            response = await handler(request)
            status = str(response.status)
            return response
        finally:
            self._active -= 1
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else UNKNOWN
            self._meters.add(m.G_REQUESTS, route, status)
            self._meters.observe(m.G_SECONDS, clock.monotonic() - began, route)

    def _samples(self) -> Iterator[Sample]:
        yield Sample(m.G_ACTIVE, (), self._active)

    async def _metrics(self, exchange: Exchange) -> web.Response:
        if self._exposition is None:  # what nobody asks for is not even imported
            from ndn_infer.metrics.exposition import Exposition

            self._exposition = Exposition([self._meters], self._alias)
        text, media_type = self._exposition.text(exchange.request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": media_type})
