"""The HTTP server of the API: bounds, errors, and an end that lets requests finish.

Owns: what holds for every request (key, size, number, time, id, the form of errors). Must not know: which paths there
are (routes.py), what a request means, how it is answered.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler
from aiohttp.typedefs import Middleware

from ndn_infer import clock
from ndn_infer.addresses import split_host_port
from ndn_infer.config import GatewayConfig
from ndn_infer.errors import AddressTaken, ConfigError, NdnInferError
from ndn_infer.gateway.cors import allow_page, is_preflight, preflight
from ndn_infer.gateway.exchange import TENANT, Exchange, HttpRoute, ServerState
from ndn_infer.gateway.fields import read_json
from ndn_infer.gateway.interruption import INTERRUPTION, Interruption
from ndn_infer.gateway.page.origin import own_page
from ndn_infer.gateway.refusal import RETRY_S, Refusal, refusal_of
from ndn_infer.gateway.resume import StreamIds
from ndn_infer.gateway.routes import ROUTES
from ndn_infer.gateway.served import Served
from ndn_infer.gateway.service import Service
from ndn_infer.gateway.streaming import STREAM_IDS
from ndn_infer.gateway.tenants import Tenant, Tenants
from ndn_infer.gateway.tls import TlsFiles

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")
http_log.setLevel(logging.CRITICAL)  # that bytes of strangers are no HTTP is no news, and would fill disks

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ID: Final = web.RequestKey("request-id", str)
_ROUTE: Final = web.RequestKey("route", HttpRoute)
ERRORS_S: Final = 6.0
"""For telling those who are ended why."""


class GatewayServer:
    """Listens between `open` and `close`."""

    def __init__(
        self,
        served: Served,
        config: GatewayConfig,
        tenants: Tenants,
        routes: Sequence[HttpRoute] = ROUTES,
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        """`middlewares` see every request and its final answer, the first one outermost; they must let errors through.
        Raises ConfigError for certificates that cannot be used."""
        self._served = served
        self._config = config
        self._tenants = tenants
        self._routes = routes
        self._middlewares = middlewares
        self._tls = TlsFiles.of(config)
        self._state = ServerState(uplink=served.uplink)
        self._idle = asyncio.Event()
        self._idle.set()
        self._interruptions: set[Interruption] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""
        if served.uplink is not None:
            served.uplink.on_gone = lambda: self._end_all(_gone())

    async def open(self) -> None:
        """Raises AddressTaken, ConfigError."""
        application = web.Application(
            middlewares=[*self._middlewares, self._frame], client_max_size=self._config.body_kib << 10
        )
        application.on_response_prepare.extend((_tell_id, self._allow_page))
        for route in self._routes:
            for method in (route.method, "HEAD") if route.method == "GET" else (route.method,):
                application.router.add_route(method, route.path, self._handler(route))
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, handler_cancellation=True,
            keepalive_timeout=self._config.header_s, shutdown_timeout=1.0, lingering_time=1.0, logger=http_log,
        )  # fmt: skip
        await self._runner.setup()
        host, port = split_host_port(self._config.listen)
        context = None if self._tls is None else self._tls.context
        try:
            await web.TCPSite(self._runner, host or None, port, ssl_context=context).start()
        except (OSError, UnicodeError) as error:
            await self._runner.cleanup()
            raise _cannot_listen(self._config.listen, error) from error
        address = self._runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.url = f"{'http' if context is None else 'https'}://{shown}:{address[1]}/v1"

    async def close(self) -> None:
        """Readiness goes first, and for `ready_s` requests are still taken; then nobody listens, those in work have
        `drain_s`, and are ended with an error."""
        self._state.draining = True
        if self._runner is None:
            return
        await asyncio.sleep(self._config.ready_s)
        for site in list(self._runner.sites):
            await site.stop()
        self._state.closing = True
        try:
            async with asyncio.timeout(self._config.drain_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d requests are still in work, and are ended", self._state.working)
            self._end_all(_stopping())
            with suppress(TimeoutError):
                async with asyncio.timeout(ERRORS_S):
                    await self._idle.wait()
        await self._runner.cleanup()

    # ------------------------------------------------------------ every request

    @web.middleware
    async def _frame(self, request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        given = request.headers.get("X-Request-Id", "")
        request[_ID] = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        if self._tenants and is_preflight(request):
            return preflight(request)
        try:
            if request.match_info.http_exception is not None:  # no such path
                self._admit(request)
            return await handler(request)
        except Refusal as refusal:
            return _refused(request, refusal)
        except NdnInferError as error:
            log.info("%s %s: %s: %s", request[_ID], request.path, error.kind, error)
            return _refused(request, refusal_of(error))
        except web.HTTPException as error:
            return _refused(request, _of_http(error), error.headers.get("Allow", ""))
        except TimeoutError:
            return _refused(request, _too_long())
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s failed", request[_ID], request.path)
            return _refused(request, Refusal(500, "internal error", code="internal"))

    async def _allow_page(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._tenants:
            allow_page(request, response)

    def _admit(self, request: web.Request) -> Tenant:
        """Who asks. Raises Refusal. A page in a browser tells where it is from; without keys none may ask, as any page
        that the user visits could."""
        tenant = self._tenants.find(request.headers)
        if tenant is None:
            raise Refusal(401, "this gateway wants an API key, and this is none of its keys", code="invalid_api_key")
        if not self._tenants and "Origin" in request.headers and not own_page(request.headers, request.scheme):
            raise Refusal(403, "web pages may ask with an API key only: see --api-key-file", code="origin")
        request[TENANT] = tenant
        return tenant

    def _handler(self, route: HttpRoute) -> HttpHandler:
        async def handle(request: web.Request) -> web.StreamResponse:
            request[_ROUTE] = route
            if route.open:
                return await route.handler(self._exchange(request, self._served.service))
            tenant = self._admit(request)
            exchange = self._exchange(request, self._served.service_of(tenant, tenant.key.domain))
            return await (self._work(route, exchange, tenant) if route.body else route.handler(exchange))

        return handle

    def _exchange(self, request: web.Request, service: Service) -> Exchange:
        return Exchange(request, service, self._config, self._state)

    async def _work(self, route: HttpRoute, exchange: Exchange, tenant: Tenant) -> web.StreamResponse:
        """A request with a body: one of so many at a time, read and answered in so much time."""
        self._let_in(tenant)
        self._state.working += 1
        self._idle.clear()
        interruption = exchange.request[INTERRUPTION] = Interruption()
        self._interruptions.add(interruption)
        timer = asyncio.get_running_loop().call_later(self._config.request_s, interruption.end, _too_long())
        try:
            document = read_json(await self._body(exchange.request))
            asked = self._asked(replace(exchange, document=document), tenant)
            ruled = await self._served.ruled(asked.service, tenant)
            return await route.handler(replace(asked, service=ruled))
        except asyncio.CancelledError:
            if (reason := interruption.taken()) is None:
                raise  # the client left
            raise reason from None
        finally:
            timer.cancel()
            self._interruptions.discard(interruption)
            tenant.quota.end()
            self._state.working -= 1
            if not self._state.working:
                self._idle.set()

    def _asked(self, exchange: Exchange, tenant: Tenant) -> Exchange:
        """In the domain of the request's cache_salt, and with ids for its stream where the client takes server-sent
        events by name or comes back to a stream: clients that only look for `data:` are told no more. Raises Refusal.
        """
        request, document = exchange.request, dict(exchange.document)
        domain = self._served.domain_of(tenant, document.pop("cache_salt", None))
        service = self._served.service_of(tenant, domain)
        last = request.headers.get("Last-Event-ID", "")
        if last or "text/event-stream" in request.headers.get("Accept", ""):
            ids = request[STREAM_IDS] = StreamIds.of(request.path, document, domain, last)
            service = service.named(ids.key, ids.created)
        return replace(exchange, service=service, document=document)

    def _let_in(self, tenant: Tenant) -> None:
        """Raises Refusal; otherwise the tenant's quota has begun a request."""
        if self._state.closing:
            raise _stopping()
        if self._served.uplink is not None and not self._served.uplink.connected:
            raise _gone()
        if self._state.working >= self._config.requests:
            raise Refusal(429, "this gateway is at its limit of requests", code="busy", retry_after_s=RETRY_S)
        if wait_s := tenant.quota.begin(clock.monotonic()):
            raise Refusal(429, "this key is at its limit", code="rate_limit_exceeded", retry_after_s=wait_s)

    def _end_all(self, reason: Refusal) -> None:
        for interruption in self._interruptions:
            interruption.end(reason)

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise Refusal(415, "the body must be JSON: Content-Type: application/json", code="content_type")
        if request.content_length is not None and request.content_length > self._config.body_kib << 10:
            raise Refusal(413, f"the body has more than {self._config.body_kib} KiB", code="too_large")
        try:
            async with asyncio.timeout(self._config.header_s):
                return await request.read()
        except TimeoutError:
            raise Refusal(408, "the body did not come in time", code="timeout") from None


async def _tell_id(request: web.Request, response: web.StreamResponse) -> None:
    if _ID in request:
        response.headers["X-Request-Id"] = request[_ID]


def _refused(request: web.Request, refusal: Refusal, allowed: str = "") -> web.Response:
    """`allowed`: the methods that the path takes, where the request's is none of them."""
    route = request.get(_ROUTE)
    document = refusal.document if route is None else route.error(refusal)
    headers = {**refusal.headers, "Allow": allowed} if allowed else refusal.headers
    return web.json_response(document, status=refusal.status, headers=headers)


def _stopping() -> Refusal:
    return Refusal(503, "this gateway is stopping", code="stopping", retry_after_s=RETRY_S)


def _gone() -> Refusal:
    return Refusal(503, "the forwarder of this gateway is gone", code="network", retry_after_s=RETRY_S)


def _too_long() -> Refusal:
    return Refusal(504, "the request took longer than this gateway lets it", code="timeout")


def _of_http(error: web.HTTPException) -> Refusal:
    """What aiohttp itself refuses."""
    words = {
        404: "there is no such path: docs/gateway.md lists what is spoken",
        405: "this path does not take this method",
        413: "the body is too large",
    }.get(error.status, error.reason)
    return Refusal(error.status, words, code="not_found" if error.status == 404 else None)


def _cannot_listen(where: str, error: OSError | UnicodeError) -> AddressTaken | ConfigError:
    if isinstance(error, UnicodeError):
        return ConfigError(f"cannot listen on {where}: no host has such a name")
    if error.errno == errno.EADDRINUSE:
        return AddressTaken(f"{where} is taken by another process")
    return ConfigError(f"cannot listen on {where}: {error.strerror or error}")
