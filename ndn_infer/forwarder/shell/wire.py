"""A wire between two in-process forwarders: delay, jitter, bandwidth, a queue and loss, as UDP over a real link.

Owns: when a datagram arrives, and whether. Must not know: forwarding, what runs at its ends.

Each direction is a queue of its own in front of a bandwidth: a datagram leaves when those before it have left, travels
for the delay plus or minus the jitter, and is lost with the probability of the wire, drawn from a seed. Ends are faces
with an MTU, as those of UDP sockets: larger packets are fragmented, NDNLPv2 reliability repairs losses where it is on,
and a neighbour that is gone is silent.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.forwarder.core.faces import PERSISTENT, Face
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork

DEFAULT_QUEUE: Final = 10_000


@dataclass(frozen=True, slots=True)
class WireShape:
    """One way: `delay_s` plus or minus up to `jitter_s`, `loss` 0 to 1, `bytes_per_s` 0 for no limit, at most `queue`
    datagrams waiting."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = 0.0
    queue: int = DEFAULT_QUEUE


@dataclass(slots=True)
class WireCounters:
    """Datagrams and their bytes that were given to one direction, and those that it lost or had no room for."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    overflowed: int = 0


@dataclass(slots=True, eq=False)
class _Direction:
    """From one end to the other, `to`, which is None while nobody is there."""

    shape: WireShape
    random: random.Random
    counters: WireCounters = field(default_factory=WireCounters)
    to: tuple[MemoryNetwork, Face] | None = None
    cut: bool = False
    _free_at: float = 0.0
    _leaving: deque[float] = field(default_factory=deque)

    def send(self, datagram: bytes) -> None:
        loop, shape = asyncio.get_running_loop(), self.shape
        now = loop.time()
        self.counters.packets += 1
        self.counters.bytes += len(datagram)
        if self.cut or (shape.loss and self.random.random() < shape.loss):
            self.counters.lost += 1
            return
        leaves = now
        if shape.bytes_per_s:
            while self._leaving and self._leaving[0] <= now:
                self._leaving.popleft()
            if len(self._leaving) >= shape.queue:
                self.counters.overflowed += 1
                return
            leaves = self._free_at = max(now, self._free_at) + len(datagram) / shape.bytes_per_s
            self._leaving.append(leaves)
        if shape.jitter_s:
            leaves += self.random.uniform(-shape.jitter_s, shape.jitter_s)
        at = max(now, leaves + shape.delay_s)
        if self.to is not None:
            loop.call_at(at, self._arrive, datagram, self.to, context=self.to[0].owner)

    def _arrive(self, datagram: bytes, to: tuple[MemoryNetwork, Face]) -> None:
        """At the end that it was sent to; one that was made anew is somebody else."""
        if not self.cut and self.to is to:
            to[0].receive(to[1], datagram)


class Wire:
    """Joins the forwarders `first` and `second`. `cut` and `heal` it, `leave` it at an end, `join` it again there."""

    def __init__(self, shape: WireShape, names: tuple[str, str], *, seed: str) -> None:
        """`names` of both ends, for face URIs; what is drawn depends on them and on `seed`."""
        self.names = names
        self._ways = [_Direction(shape, random.Random(f"{seed} {names} {way}")) for way in range(2)]
        self.faces: list[Face | None] = [None, None]

    @property
    def counters(self) -> tuple[WireCounters, WireCounters]:
        """From first to second, and back."""
        return self._ways[0].counters, self._ways[1].counters

    def join(self, end: int, network: MemoryNetwork, *, reliable: bool = False) -> Face:
        """A face of `network` at end 0 or 1."""
        core = network.core
        here, there = self.names[end], self.names[1 - end]
        link = LinkService(self._ways[end].send, mtu_bytes=network.mtu_bytes)
        face = Face(core.new_face_id(), f"wire://{there}", f"wire://{here}", link, persistency=PERSISTENT)
        core.add_face(face)
        if reliable:
            core.set_reliability(face, True)
        self._ways[1 - end].to = (network, face)
        self.faces[end] = face
        return face

    def leave(self, end: int) -> None:
        """The end is gone, and the other one hears nothing of it."""
        self._ways[1 - end].to = self.faces[end] = None

    def cut(self) -> None:
        """What is on its way is lost too."""
        for way in self._ways:
            way.cut = True

    def heal(self) -> None:
        for way in self._ways:
            way.cut = False
