"""The HTTP server of the API: routes, bounds, errors, and an end that lets requests finish.

Owns: what holds for every request (key, size, number, time, id, the form of errors). Must not know: what a request
means (requests.py, vectors.py), how it is answered (service.py).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from ndn_infer.addresses import split_host_port
from ndn_infer.config import GatewayConfig
from ndn_infer.errors import AddressTaken, ConfigError, NdnInferError
from ndn_infer.gateway.fields import read_json
from ndn_infer.gateway.keys import ApiKeys
from ndn_infer.gateway.refusal import RETRY_S, Refusal, bad, refusal_of
from ndn_infer.gateway.requests import read_chat, read_completion
from ndn_infer.gateway.service import Prepared, Service
from ndn_infer.gateway.streaming import answer_stream, answer_whole
from ndn_infer.gateway.vectors import read_embedding

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")
http_log.setLevel(logging.CRITICAL)  # that bytes of strangers are no HTTP is no news, and would fill disks

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS: Final = frozenset({"/health"})
"""Without a key."""
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ID: Final = web.RequestKey("request-id", str)


class GatewayServer:
    """Listens between `open` and `close`."""

    def __init__(self, service: Service, config: GatewayConfig, keys: ApiKeys) -> None:
        self._service = service
        self._config = config
        self._keys = keys
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def open(self) -> None:
        """Raises AddressTaken, ConfigError."""
        application = web.Application(middlewares=[self._frame], client_max_size=self._config.body_kib << 10)
        application.on_response_prepare.append(_tell_id)
        application.router.add_get("/health", self._health)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/v1/models/{model:.+}", self._model)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/completions", self._completion)
        application.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, handler_cancellation=True,
            keepalive_timeout=self._config.header_s, shutdown_timeout=1.0, lingering_time=1.0, logger=http_log,
        )  # fmt: skip
        await self._runner.setup()
        host, port = split_host_port(self._config.listen)
        try:
            await web.TCPSite(self._runner, host or None, port).start()
        except (OSError, UnicodeError) as error:
            await self._runner.cleanup()
            raise _cannot_listen(self._config.listen, error) from error
        address = self._runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.url = f"http://{shown}:{address[1]}/v1"

    async def close(self) -> None:
        """No new requests; those in work have `drain_s`, then they are cancelled."""
        self._draining = True
        if self._runner is None:
            return
        for site in list(self._runner.sites):
            await site.stop()
        try:
            async with asyncio.timeout(self._config.drain_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d requests are still in work, and are ended", self._working)
        await self._runner.cleanup()

    # ------------------------------------------------------------ every request

    @web.middleware
    async def _frame(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("X-Request-Id", "")
        request[_ID] = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        try:
            self._admit(request)
            return await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        except NdnInferError as error:
            log.info("%s %s: %s: %s", request[_ID], request.path, error.kind, error)
            return _refused(refusal_of(error))
        except web.HTTPException as error:
            return _refused(_of_http(error))
        except TimeoutError:
            return _refused(Refusal(504, "the request took longer than this gateway lets it", code="timeout"))
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s failed", request[_ID], request.path)
            return _refused(Refusal(500, "internal error", code="internal"))

    def _admit(self, request: web.Request) -> None:
        """Raises Refusal. A page in a browser tells where it is from; without keys none may ask, as any page that the
        user visits could."""
        if request.path in OPEN_PATHS:
            return
        if not self._keys.admit(request.headers):
            raise Refusal(401, "this gateway wants an API key, and this is none of its keys", code="invalid_api_key")
        if not self._keys and "Origin" in request.headers:
            raise Refusal(403, "web pages may ask with an API key only: see --api-key-file", code="origin")

    async def _work(
        self, request: web.Request, work: Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """A request with a body: one of so many at a time, read and answered in so much time."""
        if self._draining:
            raise Refusal(503, "this gateway is stopping", code="stopping", retry_after_s=RETRY_S)
        if self._working >= self._config.requests:
            raise Refusal(429, "this gateway is at its limit of requests", code="busy", retry_after_s=RETRY_S)
        self._working += 1
        self._idle.clear()
        try:
            document = read_json(await self._body(request))
            async with asyncio.timeout(self._config.request_s):
                return await work(document)
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

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

    # ------------------------------------------------------------ routes

    async def _health(self, request: web.Request) -> web.Response:
        status = "stopping" if self._draining else "ok"
        return web.json_response({"status": status}, status=503 if self._draining else 200)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(await self._service.models())

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if len(name) > 128:
            raise bad("a model's name is shorter", "model")
        return web.json_response(await self._service.model(name))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        async def work(document: dict[str, Any]) -> web.StreamResponse:
            return await self._answer(request, await self._service.chat(read_chat(document, self._service.defaults)))

        return await self._work(request, work)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        async def work(document: dict[str, Any]) -> web.StreamResponse:
            asked = read_completion(document, self._service.defaults)
            return await self._answer(request, await self._service.completion(asked))

        return await self._work(request, work)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        async def work(document: dict[str, Any]) -> web.StreamResponse:
            return web.json_response(await self._service.embed(read_embedding(document)))

        return await self._work(request, work)

    async def _answer(self, request: web.Request, prepared: Prepared) -> web.StreamResponse:
        if prepared.asked.stream:
            return await answer_stream(request, prepared, self._config.keep_alive_s)
        return web.json_response(await answer_whole(prepared))


async def _tell_id(request: web.Request, response: web.StreamResponse) -> None:
    if _ID in request:
        response.headers["X-Request-Id"] = request[_ID]


def _refused(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.document, status=refusal.status, headers=refusal.headers)


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
