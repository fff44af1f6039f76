"""A network inside one process: the real forwarder core, links without sockets.

Owns: in-process links with seeded delay and loss, and hooks to tamper with packets. For tests and for applications that
want producer and consumer in one process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from ndn_infer import clock
from ndn_infer.config import ForwarderConfig
from ndn_infer.config.values import name
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.faces import ON_DEMAND, Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.management.manager import Management

Tamper = Callable[[bytes], bytes | None]
"""Sees every packet in one direction; returns what goes on instead, None to drop it."""


class MemoryLink:
    """An application's end. Has the shape of transport.links.Link."""

    def __init__(self, network: MemoryNetwork, delay_s: float, loss: float) -> None:
        self._network = network
        self._delay_s = delay_s
        self._loss = loss
        self.receiver: Callable[[Sequence[bytes]], None] = lambda packets: None
        self.lost: Callable[[], None] = lambda: None
        self.local = True
        self.tamper_up: Tamper | None = None
        self.tamper_down: Tamper | None = None
        self.closed = False
        core = network.core
        face_id = core.new_face_id()
        self.face = Face(
            face_id,
            f"memory://{face_id}",
            "memory://",
            LinkService(self._down),
            local=True,
            persistency=ON_DEMAND,
            close=self.close,
            private=True,
        )
        core.add_face(self.face)

    def send(self, wire: bytes) -> None:
        self._deliver(wire, self.tamper_up, lambda packet: self._network.receive(self.face, packet))

    def _down(self, wire: bytes) -> None:
        self._deliver(wire, self.tamper_down, lambda packet: self.receiver((packet,)))

    def flush(self) -> None:
        return  # nothing waits here

    def _deliver(self, wire: bytes, tamper: Tamper | None, to: Callable[[bytes], None]) -> None:
        packet = tamper(wire) if tamper is not None else wire
        if packet is None or self.closed or self._network.random.random() < self._loss:
            return
        loop = asyncio.get_running_loop()
        if self._delay_s:
            loop.call_later(self._delay_s, self._unless_closed, to, packet)
        else:
            loop.call_soon(self._unless_closed, to, packet)

    def _unless_closed(self, to: Callable[[bytes], None], packet: bytes) -> None:
        if not self.closed:
            to(packet)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._network.core.remove_face(self.face.id)
            asyncio.get_running_loop().call_soon(self.lost)


class MemoryNetwork:
    """One forwarder and its links. Delay (one way, seconds) and loss (0 to 1) are per link, drawn from `seed`."""

    def __init__(self, options: ForwarderConfig | None = None, *, seed: int = 0) -> None:
        options = options or ForwarderConfig()
        cs = ContentStore(options.cs_capacity_packets, options.cs_capacity_mib << 20)
        self.core = Forwarder(
            cs, producer_regions=map(name, options.producer_regions), pit_capacity=options.pit_capacity, seed=seed
        )
        self.management = Management(self.core, wall_us=clock.wall_us)
        self.random = random.Random(seed)
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, *, delay_s: float = 0.0, loss: float = 0.0) -> MemoryLink:
        return MemoryLink(self, delay_s, loss)

    async def dial(self) -> MemoryLink:
        """For Endpoint(dial)."""
        return self.attach()

    def receive(self, face: Face, wire: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.core.receive(face, wire, loop.time())
        self.management.run(loop.time())
        if self._timer is None and self.core.next_wake() is not None:
            self._timer = loop.call_later(0.05, self._tick)

    def _tick(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        self.core.tick(loop.time())
        if self.core.next_wake() is not None:
            self._timer = loop.call_later(0.05, self._tick)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
