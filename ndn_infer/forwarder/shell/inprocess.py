"""A network inside one process: the real forwarder core, links without sockets.

Owns: one forwarder without sockets, its applications' links with seeded delay and loss, hooks to tamper with packets.
For tests and for applications that want producer and consumer in one process. Wires between forwarders are in wire.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Sequence

from ndn_infer import clock
from ndn_infer.config import ForwarderConfig
from ndn_infer.config.values import name
from ndn_infer.errors import NoForwarder
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.faces import ON_DEMAND, Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.management.manager import Management
from ndn_infer.forwarder.shell.core_timer import CoreTimer
from ndn_infer.forwarder.shell.door import CommandDoor
from ndn_infer.ndn.tlv import Framer

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
        self._owner = contextvars.copy_context()
        """In which the application's side is called: that of whoever attached."""
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
        self._deliver(wire, self.tamper_up, self._up, self._network.owner)

    def send_packed(self, wires: bytes, count: int) -> None:
        for wire in Framer().feed(wires) if count > 1 else (wires,):
            self.send(wire)

    def _up(self, packet: bytes) -> None:
        self._network.receive(self.face, packet)

    def _down(self, wire: bytes) -> None:
        self._deliver(wire, self.tamper_down, self._to_application, self._owner)

    def _to_application(self, packet: bytes) -> None:
        self.receiver((packet,))

    def flush(self) -> None:
        return  # nothing waits here

    def _deliver(
        self, wire: bytes, tamper: Tamper | None, to: Callable[[bytes], None], owner: contextvars.Context
    ) -> None:  # fmt: skip
        packet = tamper(wire) if tamper is not None else wire
        if packet is None or self.closed or self._network.random.random() < self._loss:
            return
        loop = asyncio.get_running_loop()
        if self._delay_s:
            loop.call_later(self._delay_s, self._unless_closed, to, packet, context=owner)
        else:
            loop.call_soon(self._unless_closed, to, packet, context=owner)

    def _unless_closed(self, to: Callable[[bytes], None], packet: bytes) -> None:
        if not self.closed:
            to(packet)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._network.detach(self)
            asyncio.get_running_loop().call_soon(self.lost, context=self._owner)


class MemoryNetwork:
    """One forwarder and its applications. Delay (one way, seconds) and loss (0 to 1) are per link, drawn from `seed`.

    Closed it is as dead as a forwarder that was killed: its applications lose their links, and `dial` finds nobody.
    """

    def __init__(self, options: ForwarderConfig | None = None, *, seed: int = 0) -> None:
        """With `options` that want proof for commands, `door.check` is the authority that is asked."""
        options = options or ForwarderConfig()
        self.door = CommandDoor(lambda: options, self._settle)
        cs = ContentStore(options.cs_capacity_packets, options.cs_capacity_mib << 20)
        self.core = Forwarder(
            cs, producer_regions=map(name, options.producer_regions), pit_capacity=options.pit_capacity,
            lost_refuse=options.lost_faces == "nack", one_copy=options.similar == "wait", seed=seed,
        )  # fmt: skip
        self.management = Management(
            self.core, wall_us=clock.wall_us, authority=self.door.authorise,
            neighbours=options.remote_commands == "signed",
        )  # fmt: skip
        self.random = random.Random(seed)
        self.mtu_bytes = options.udp_mtu_bytes
        self.owner = contextvars.copy_context()
        """In which the forwarder runs: that of whoever made it."""
        self.closed = False
        self._links: list[MemoryLink] = []
        self._timer = CoreTimer(self.core)

    def attach(self, *, delay_s: float = 0.0, loss: float = 0.0) -> MemoryLink:
        link = MemoryLink(self, delay_s, loss)
        self._links.append(link)
        return link

    async def dial(self) -> MemoryLink:
        """For Endpoint(dial). Raises NoForwarder."""
        if self.closed:
            raise NoForwarder("the forwarder in this process is closed")
        return self.attach()

    def detach(self, link: MemoryLink) -> None:
        if link in self._links:
            self._links.remove(link)
        self.core.remove_face(link.face.id, asyncio.get_running_loop().time())
        self.settle_soon()

    def receive(self, face: Face, wire: bytes) -> None:
        if self.closed:
            return
        now = asyncio.get_running_loop().time()
        self.core.receive(face, wire, now)
        self.management.run(now)
        self._timer.arm()

    def settle_soon(self) -> None:
        """What a face's coming or going means for management, not in the middle of something else."""
        if not self.closed:
            asyncio.get_running_loop().call_soon(self._settle, context=self.owner)

    def _settle(self) -> None:
        if not self.closed:
            self.management.run(asyncio.get_running_loop().time())
            self._timer.arm()

    def close(self) -> None:
        self.closed, self.core.lost_refuse = True, False
        self._timer.cancel()
        for link in list(self._links):
            link.close()
