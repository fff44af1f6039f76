"""The Prometheus endpoint of a daemon: GET /metrics.

Owns: the HTTP side. Must not know: what is counted. Nothing is made before it listens.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from ndn_infer.addresses import address_error, split_host_port
from ndn_infer.metrics.exposition import Exposition
from ndn_infer.web_pages import asked_for


class MetricsListener:
    """`address` tells the port while it listens. Who asks must name it by an address, as localhost, by the host in its
    bind or by the name of this machine: a web page that lets a name of its own resolve here reads nothing."""

    def __init__(self, make: Callable[[], Exposition]) -> None:
        self._make = make
        self._exposition: Exposition | None = None
        self._runner: web.AppRunner | None = None
        self._bind: Sequence[str] = ()
        self._names: set[str] = set()
        self.address: tuple[str, int] | None = None

    async def change(self, bind: Sequence[str]) -> None:
        """Listen at these "host:port", or without any not at all. Raises AddressTaken, ConfigError."""
        if bind == self._bind:
            return
        await self.close()
        if not bind:
            return
        addresses = list(dict.fromkeys(map(split_host_port, bind)))
        self._exposition = self._exposition or self._make()
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
        assert self._exposition is not None
        text, media_type = self._exposition.text(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": media_type})
