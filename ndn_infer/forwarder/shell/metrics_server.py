"""The Prometheus endpoint: GET /metrics.

Owns: the HTTP side. Must not know: what is counted (metrics.py).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.shell.cs_disk import DiskTier
from ndn_infer.forwarder.shell.listeners import Address, address_error, addresses_of
from ndn_infer.forwarder.shell.metrics import ForwarderCollector
from ndn_infer.forwarder.shell.web_pages import asked_for


class MetricsServer:
    """`address` tells the port while it listens. Who asks must name it by an address, as localhost, by the host in its
    bind or by the name of this machine: a web page that lets a name of its own resolve here reads nothing."""

    def __init__(self, core: Forwarder, disk: Callable[[], DiskTier | None]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ForwarderCollector(core, disk))
        ProcessCollector(registry=self._registry)
        self._runner: web.AppRunner | None = None
        self._bind: Sequence[str] = ()
        self._names: set[str] = set()
        self.address: Address | None = None

    async def change(self, bind: Sequence[str]) -> None:
        """Listen at these "host:port", or without any not at all. Raises AddressTaken, ConfigError."""
        if bind == self._bind:
            return
        await self.close()
        if not bind:
            return
        addresses = addresses_of(bind)
        self._names = {socket.gethostname().lower(), *(host.lower() for host, _ in addresses)}
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            for host, port in addresses:
                await web.TCPSite(self._runner, host or None, port).start()
        except (OSError, UnicodeError) as error:
            await self.close()
            raise address_error(f"metrics port {', '.join(bind)}", error) from error
        self._bind = bind
        self.address = self._runner.addresses[0][:2]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = self.address = None
        self._bind = ()

    async def _metrics(self, request: web.Request) -> web.Response:
        if not asked_for(request.headers.getall("Host", []), self._names):
            return web.Response(status=421, text="ask by address, as localhost, or by this machine's name\n")
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
