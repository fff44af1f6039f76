"""The producer's store: published packets by full name, in bounded memory.

Owns: which packet answers an Interest, and what is forgotten when memory runs out (least recently used object first,
pinned ones never). Must not know: signatures, sockets, what objects mean.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from ndn_infer import ndn
from ndn_infer.ndn.name import DIGEST_BYTES, METADATA, Name, ends_in_digest
from ndn_infer.wire.manifest import Manifest, ObjectPackets


@dataclass(slots=True)
class _Entry:
    packets: ObjectPackets
    pinned: bool
    beside: Name = b""
    companions: list[Name] = field(default_factory=list)


@dataclass(slots=True)
class ObjectStore:
    """Objects by base name; a newer version replaces an older one. `capacity_bytes` counts packet bytes."""

    capacity_bytes: int
    used_bytes: int = 0
    evicted: int = 0
    left: int = 0
    """How often an object has left memory, for another version too."""
    _objects: OrderedDict[Name, _Entry] = field(default_factory=OrderedDict)
    _owner: dict[Name, Name] = field(default_factory=dict)

    def put(self, packets: ObjectPackets, *, pinned: bool = False) -> None:
        """Keep an object."""
        self._take_out(packets.base)
        self._objects[packets.base] = _Entry(packets, pinned)
        for name in (packets.metadata_name, *packets.packets):
            self._owner[name] = packets.base
        self.used_bytes += packets.wire_bytes
        while self.used_bytes > self.capacity_bytes:
            victim = next((base for base, entry in self._objects.items() if self._may_leave(entry)), None)
            if victim is None or victim == packets.base:
                break
            self._take_out(victim)
            self.evicted += 1

    def _may_leave(self, entry: _Entry) -> bool:
        """By itself; what is beside another object leaves with that."""
        return not entry.pinned and entry.beside not in self._objects

    def keep_beside(self, base: Name, other: Name) -> None:
        """From now on the object `base` stays as long as `other` does, which is forgotten or replaced with it: what is
        said of an object is of no use without it. At once, where `other` is not here."""
        entry, main = self._objects.get(base), self._objects.get(other)
        if main is None:
            self._take_out(base)
        elif entry is not None and base != other and not main.beside:
            entry.beside = other
            main.companions.append(base)

    def remove(self, base: Name) -> None:
        """Forget an object, pinned or not."""
        self._take_out(base)

    def _take_out(self, base: Name) -> None:
        entry = self._objects.pop(base, None)
        if entry is not None:
            self.left += 1
            self.used_bytes -= entry.packets.wire_bytes
            for name in (entry.packets.metadata_name, *entry.packets.packets):
                self._owner.pop(name, None)
            for companion in entry.companions:
                if self._objects.get(companion, entry).beside == base:
                    self._take_out(companion)

    def get(self, base: Name) -> ObjectPackets | None:
        entry = self._objects.get(base)
        return entry.packets if entry is not None else None

    def manifest(self, base: Name) -> Manifest | None:
        """What the object's metadata packet says."""
        entry = self._objects.get(base)
        return entry.packets.manifest if entry is not None else None

    def in_memory(self, base: Name) -> bool:
        """Whether an object is here, and stays until `left` grows."""
        return base in self._objects

    def bases(self) -> list[Name]:
        """Of all objects that are here."""
        return list(self._objects)

    def close(self) -> None:
        """Nothing of it lasts."""

    def segment(self, name: Name) -> bytes | None:
        """The packet of exactly this name, as quickly as can be."""
        base = self._owner.get(name)
        if base is None:
            return None
        self._objects.move_to_end(base)
        return self._objects[base].packets.packets.get(name)

    def find(self, name: Name, *, can_be_prefix: bool) -> bytes | None:
        """The packet that answers an Interest for `name`, by table look-up."""
        if ends_in_digest(name):
            # Somebody wants exactly these bytes, because a cache on the way holds others under this name.
            wire = self.find(name[:-DIGEST_BYTES], can_be_prefix=False)
            exact = wire is not None and hashlib.sha256(wire).digest() == name[-32:]
            return wire if exact else None
        base = self._owner.get(name)
        if base is None and can_be_prefix:
            if name.endswith(METADATA):
                base = name[: -len(METADATA)]
            else:  # somebody who knows no RDR asks for the object, or a version of it: its first segment
                name = self._first_segment(name)
                base = self._owner.get(name)
        entry = self._objects.get(base) if base is not None else None
        if entry is None:
            return None
        assert base is not None
        self._objects.move_to_end(base)
        wire = entry.packets.packets.get(name)
        return entry.packets.metadata if wire is None else wire

    def _first_segment(self, prefix: Name) -> Name:
        """The name of segment 0 of the object whose base or versioned name `prefix` is; b"" when there is none."""
        entry = self._objects.get(prefix) or self._objects.get(ndn.prefix(prefix, -1))
        if entry is None:
            return b""
        manifest = entry.packets.manifest
        return manifest.segment_name(0) if prefix in (entry.packets.base, manifest.name) else b""

    def __contains__(self, base: Name) -> bool:
        return base in self._objects

    def __len__(self) -> int:
        return len(self._objects)
