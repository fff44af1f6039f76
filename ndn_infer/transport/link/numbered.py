"""Who waits for segments by their numbers, and giving them what comes, many at a time where packets are alike.

Owns: the table of prefixes, and the shapes of packets that came of late. Must not know: links, what else an endpoint
waits for, objects. Packets that are alike are taken together as far as their receiver takes them; it takes exactly what
it would take of each alone, and whatever it leaves is read in full and handed over alone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ndn_infer.ndn.name import Name
from ndn_infer.ndn.tlv import Frames
from ndn_infer.transport.link.exchange import Arrival, Numbered
from ndn_infer.wire.peek import segment_splits
from ndn_infer.wire.segment_runs import LEAST_BYTES, Shapes, run_at


class NumberedTable:
    """Receivers by prefix; several may wait for one."""

    def __init__(self) -> None:
        self._receivers: dict[Name, list[Numbered]] = {}
        self._shapes = Shapes()

    def __bool__(self) -> bool:
        return bool(self._receivers)

    def attach(self, prefix: Name, receiver: Numbered) -> None:
        self._receivers.setdefault(prefix, []).append(receiver)

    def detach(self, prefix: Name, receiver: Numbered) -> None:
        waiting = self._receivers.get(prefix, [])
        if receiver in waiting:
            waiting.remove(receiver)
            if not waiting:
                del self._receivers[prefix]

    def split(self, name: Name) -> tuple[list[Numbered], int] | None:
        """(receivers, number) for a name that ends in a segment component below one of their prefixes."""
        for prefix, number in segment_splits(name):
            receivers = self._receivers.get(prefix)
            if receivers is not None:
                return receivers, number
        return None

    def give(self, waiting: tuple[list[Numbered], int], wire: bytes, arrival: Arrival) -> None:
        """Hand over the Data that came for what `split` told."""
        receivers, number = waiting
        for receiver in tuple(receivers):
            receiver.on_segment(number, wire, arrival)

    def refuse(self, name: Name, reason: int) -> None:
        """Tell whoever waits for this name of a Nack."""
        receivers, number = self.split(name) or ((), 0)
        for receiver in tuple(receivers):
            receiver.on_refusal(number, reason)

    # ------------------------------------------------------------ many at a time

    def take_run(self, frames: Frames, at: int, exact: AbstractSet[Name]) -> int:
        """Hand over packet `at` and those after it that are alike, as far as the one who waits takes them; how many.
        None when one of them is among `exact`: such names have other receivers too."""
        found = self._shapes.find(frames, at)
        if found is None:
            return 0
        shape, prefix = found
        receivers = self._receivers.get(prefix)
        if receivers is None or len(receivers) != 1:
            return 0
        run = run_at(frames, at, shape)
        if exact and not exact.isdisjoint(run.names()):
            return 0
        return receivers[0].on_run(run, Arrival(False, shape.face_id))

    def ordinary(self, frames: Frames, at: int) -> list[bytes]:
        """Packet `at`, which no run begins with, and those up to the next that is worth a look."""
        bounds, count, upto = frames.bounds, len(frames), at + 1
        while upto < count and bounds[upto + 1] - bounds[upto] < LEAST_BYTES:
            upto += 1
        packets = frames[at:upto]
        self._learn(packets[0])
        return packets

    def _learn(self, packet: bytes) -> None:
        """A packet is read in full: those that follow may be like it."""
        if self._receivers and len(packet) >= LEAST_BYTES:
            self._shapes.learn(packet)
