"""Whether the network can be asked: the link to the forwarder, and producers that generate.

Owns: what /ready says of the network, and when requests that wait for a forwarder that is gone are given up. Must not
know: requests, HTTP. Nothing runs while nothing is asked and nothing was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ndn_infer.client import Client
from ndn_infer.transport.link.endpoint import Endpoint

GONE_S: Final = 3.0
"""A forwarder that restarts is back by then, and readers find it again; later nobody need wait."""


class Uplink:
    """Of one client; `on_gone` is called when its forwarder has been gone for GONE_S."""

    def __init__(self, endpoint: Endpoint, client: Client) -> None:
        self._endpoint = endpoint
        self._offers = client.offers
        self._timer: asyncio.TimerHandle | None = None
        self.on_gone: Callable[[], None] = lambda: None
        endpoint.on_lost(self._lost)

    @property
    def connected(self) -> bool:
        return self._endpoint.connected

    async def generates(self) -> bool:
        """Whether a producer offers to generate, as far as was heard."""
        await self._offers.ready()
        return any(one.function == "generate" for entry in self._offers.entries() for one in entry.offer.functions)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _lost(self) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(GONE_S, self._look)

    def _look(self) -> None:
        if not self._endpoint.connected:
            self.on_gone()
