"""A producer's store in two tiers: memory for what is hot, disk for what shall last.

Owns: which tier answers, and that what is published is in both. Has the interface of ObjectStore. Must not know: files,
sockets.
"""

from __future__ import annotations

import hashlib
import logging

from ndn_infer import ndn
from ndn_infer.errors import StoreFull
from ndn_infer.ndn.name import DIGEST_BYTES, METADATA, Name, ends_in_digest
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.wire.manifest import Manifest, ObjectPackets

log = logging.getLogger(__name__)

_DIGEST_COMPONENT = 34


class TieredStore(ObjectStore):
    """ObjectStore over a DiskStore. `capacity_bytes` is that of memory."""

    def __init__(self, capacity_bytes: int, disk: DiskStore) -> None:
        super().__init__(capacity_bytes)
        self.disk = disk

    def put(self, packets: ObjectPackets, *, pinned: bool = False) -> None:
        """Keep an object. A pinned one is on disk when this returns; where the disk refuses it, it is pinned in memory
        and there is a warning: publishing goes on. Whoever needs to know puts it into `disk`."""
        durable, pinned = self.disk.put(packets, pinned=pinned), False  # what is on disk may leave memory
        if durable is not None:
            try:
                durable.result()
            except StoreFull as error:
                log.warning("%s; it is kept in memory only", error)
                pinned = True
        if self.disk.policy(packets.base).ttl_s == float("inf"):  # memory knows no time to live
            super().put(packets, pinned=pinned)
        else:
            super().remove(packets.base)

    def get(self, base: Name) -> ObjectPackets | None:
        return super().get(base) or self.disk.get(base)

    def remove(self, base: Name) -> None:
        super().remove(base)
        self.disk.remove(base)

    def manifest(self, base: Name) -> Manifest | None:
        return super().manifest(base) or self.disk.manifest(base)

    def segment(self, name: Name) -> bytes | None:
        wire = super().segment(name)
        return wire if wire is not None or METADATA in name else self.disk.packet(name)

    def find(self, name: Name, *, can_be_prefix: bool) -> bytes | None:
        wire = super().find(name, can_be_prefix=can_be_prefix)
        if wire is not None:
            return wire
        if ends_in_digest(name):
            exact = self.disk.packet(name[:-DIGEST_BYTES])
            return exact if exact is not None and hashlib.sha256(exact).digest() == name[-32:] else None
        exact = self.disk.packet(name)
        if exact is not None or not can_be_prefix:
            return exact
        if name.endswith(METADATA):
            return self.disk.metadata(name[: -len(METADATA)])
        return self._first(name)

    def _first(self, prefix: Name) -> bytes | None:
        """Segment 0 of the object whose base or versioned name `prefix` is."""
        for base in (prefix, ndn.prefix(prefix, -1)):
            manifest = self.disk.manifest(base) if base else None
            if manifest is not None and prefix in (base, manifest.name):
                return self.disk.packet(manifest.segment_name(0))
        return None

    def __contains__(self, base: Name) -> bool:
        return super().__contains__(base) or base in self.disk

    def bases(self) -> list[Name]:
        return list(dict.fromkeys([*super().bases(), *self.disk.bases()]))

    def close(self) -> None:
        self.disk.close()
