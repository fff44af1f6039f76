"""What a member published, as packets that others may ask for: its own, and the newest of each other one.

Owns: bounds in number and bytes, answers to names below a member's own. Must not know: sockets, keys, timers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from ndn_infer.ndn.name import Name
from ndn_infer.sync.core.packets import SyncQuery


class Publications:
    """The newest `kept` publications of one member; older ones are forgotten."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._packets: OrderedDict[tuple[int, int], Sequence[bytes]] = OrderedDict()
        self._names: dict[tuple[int, int], Name] = {}

    def add(self, boot: int, sequence: int, name: Name, packets: Sequence[bytes]) -> None:
        self._packets[boot, sequence] = packets
        self._names[boot, sequence] = name
        while len(self._packets) > self._kept:
            key, _ = self._packets.popitem(last=False)
            del self._names[key]

    def find(self, asked: SyncQuery) -> bytes | None:
        """The packet of a publication or of its segment."""
        packets = self._packets.get((asked.boot, asked.sequence), ())
        if asked.segment is not None and len(packets) == 1:
            return None  # it has no segments
        number = asked.segment or 0
        return packets[number] if number < len(packets) else None

    def names(self, asked: SyncQuery, most: int) -> list[tuple[int, Name]]:
        """(number, application name) of those asked for, the first `most` that are here."""
        found = [
            (sequence, name)
            for (boot, sequence), name in self._names.items()
            if boot == asked.boot and asked.sequence <= sequence <= (asked.high or 0)
        ]
        return sorted(found)[:most]


class Relayed:
    """The newest packet of each other member, as it was verified: for those who can reach us and not its publisher.
    Publications of several segments are not kept. `bytes` bounds all of them."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._packets: OrderedDict[Name, tuple[int, int, bytes]] = OrderedDict()
        self._bytes = 0

    def keep(self, member: Name, boot: int, sequence: int, wire: bytes) -> None:
        self.drop(member)
        self._packets[member] = (boot, sequence, wire)
        self._bytes += len(wire)
        while self._bytes > self._limit:
            self.drop(next(iter(self._packets)))

    def drop(self, member: Name) -> None:
        found = self._packets.pop(member, None)
        if found is not None:
            self._bytes -= len(found[2])

    def find(self, member: Name, asked: SyncQuery) -> bytes | None:
        boot, sequence, wire = self._packets.get(member, (0, 0, b""))
        return wire if wire and (asked.boot, asked.sequence, asked.segment) == (boot, sequence, None) else None
