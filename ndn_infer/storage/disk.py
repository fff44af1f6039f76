"""Objects on disk: whole or not at all, checked when they are read, there after a restart.

Owns: an SQLite file of objects, its bound, who is forgotten when it is full, and that nothing comes out of it which did
not go in. Must not know: sockets, who asks, keys (what is stored was signed or verified before).

An object is one row with its metadata packet, and its other packets in order, in chunks of 64: second-level manifest
segments first, then segments. Names are not stored: they follow from the manifest, and so do the digests against which
every packet is checked when a chunk is read. All rows of an object are written in one transaction. Writing is done by a
thread of the store's own; until it is done an object is answered from memory.

An object put as pinned is durable when its future is done. Others are written as soon as the thread has nothing else to
do, at the latest at `flush`: a crash may lose the last of them, whole.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, DigestMismatch, StoreFull
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.storage.file import ObjectRow, StoreFile, bytes_on_disk
from ndn_infer.storage.policy import Policy, policy_of
from ndn_infer.wire.manifest import MANIFEST, Manifest, ObjectPackets, decode_manifest
from ndn_infer.wire.peek import data_name

log = logging.getLogger(__name__)

CHUNK_PACKETS: Final = 64
BATCH_BYTES: Final = 8 << 20
CACHED_CHUNKS: Final = 64
OBJECT_OVERHEAD_BYTES: Final = 512


@dataclass(slots=True)
class _Entry:
    """What is known of an object on disk. `manifest` is filled in when it is first asked for."""

    id: int
    size: int
    pinned: bool
    stored: float
    sizes: tuple[int, ...]
    policy: Policy
    manifest: Manifest | None = None
    metadata: bytes = b""


@dataclass(slots=True, eq=False)
class _Waiting:
    """An object on its way to the file; `removed` meanwhile; durable `with_next`, the one after it."""

    packets: ObjectPackets
    pinned: bool
    removed: bool = False
    with_next: bool = False


class DiskStore:
    """Objects by base name; a newer version replaces an older one. `capacity_bytes` bounds the file.

    `policies` are by prefix, the longest one counts. `wall` is the wall clock, Unix epoch seconds (times to live).
    Raises ConfigError when there is neither a file that can be read nor a place to make one.
    """

    def __init__(
        self, path: Path, capacity_bytes: int, *, policies: Sequence[Policy] = (),
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._path = path
        self.capacity_bytes = capacity_bytes
        self._policies = sorted(policies, key=lambda policy: -len(policy.prefix))
        self._wall = wall
        self._lock = threading.RLock()
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()
        self._waiting: dict[Name, _Waiting] = {}
        self._writing: dict[Name, _Waiting] = {}
        self._chunks: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self.evicted = 0
        self.damaged = 0
        self.unwritten = 0
        """Objects that could not be written (disk full, or read-only)."""
        self._mortal = any(policy.ttl_s < float("inf") for policy in self._policies)
        self._used: dict[Name, int] = {}
        """Bytes by the prefix of the policy that they fall under."""
        self._file = StoreFile(path, capacity_bytes)
        self._writer = ThreadPoolExecutor(1, "store")
        for row in self._file.objects():
            policy = policy_of(self._policies, row.base)
            self._add(row.base, _Entry(row.id, row.size, row.pinned or policy.pin, row.stored, row.sizes, policy))

    # ------------------------------------------------------------ putting and removing

    def put(self, packets: ObjectPackets, *, pinned: bool = False) -> Future[None] | None:
        """Keep an object. For a pinned one, a future that is done when it is durable, or raises StoreFull (also for a
        disk that cannot be written); None for others, which are written soon."""
        with self._lock:
            self._waiting[packets.base] = _Waiting(packets, pinned)
            size = sum(item.packets.wire_bytes for item in self._waiting.values())
            idle = not self._writing
        if pinned or idle or size >= BATCH_BYTES:
            future = self.flush()
            return future if pinned else None
        return None

    def put_all(self, objects: Sequence[ObjectPackets]) -> Future[None]:
        """Keep pinned objects: written in this order, none after one that could not be. The future is that of `put`."""
        batch = {one.base: _Waiting(one, pinned=True, with_next=one is not objects[-1]) for one in objects}
        with self._lock:
            self._writing.update(batch)
        return self._writer.submit(self._write, batch, in_order=True)

    def flush(self) -> Future[None]:
        """Write what waits. The future raises StoreFull when a pinned object among it could not be written."""
        with self._lock:
            batch, self._waiting = self._waiting, {}
            self._writing.update(batch)
        return self._writer.submit(self._write, batch)

    def remove(self, base: Name) -> None:
        """Forget an object, pinned or not."""
        with self._lock:
            self._waiting.pop(base, None)
            if (writing := self._writing.pop(base, None)) is not None:
                writing.removed = True
            if (entry := self._entries.get(base)) is not None:
                self._forget(base, entry)
        if entry is not None:
            self._writer.submit(self._file.delete, [entry.id])

    def close(self) -> None:
        """Write what waits and close the file."""
        try:
            self.flush().result()
        except StoreFull as error:
            log.warning("%s", error)
        with self._lock:
            order = [entry.id for entry in self._entries.values()]
        self._writer.submit(self._file.finish, order).result()
        self._writer.shutdown()
        self._file.close()

    # ------------------------------------------------------------ asking

    @property
    def read_only(self) -> bool:
        return self._file.read_only

    def __contains__(self, base: Name) -> bool:
        with self._lock:
            return base in self._waiting or base in self._writing or self._entry(base) is not None

    def __len__(self) -> int:
        return len(self.bases())

    def bases(self) -> list[Name]:
        """All base names."""
        with self._lock:
            return sorted(self._entries.keys() | self._waiting.keys() | self._writing.keys())

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return sum(self._used.values())

    def policy(self, base: Name) -> Policy:
        """What goes for objects of this name."""
        return policy_of(self._policies, base)

    def pinned(self, base: Name) -> bool:
        with self._lock:
            waiting = self._waiting.get(base) or self._writing.get(base)
            entry = self._entries.get(base)
            return waiting.pinned if waiting is not None else entry is not None and entry.pinned

    def metadata(self, base: Name) -> bytes | None:
        """The metadata packet of the object at `base`."""
        with self._lock:
            waiting = self._waiting.get(base) or self._writing.get(base)
            if waiting is not None:
                return waiting.packets.metadata
            entry = self._known(base)
            return entry.metadata if entry is not None else None

    def manifest(self, base: Name) -> Manifest | None:
        with self._lock:
            waiting = self._waiting.get(base) or self._writing.get(base)
            if waiting is not None:
                return waiting.packets.manifest
            entry = self._known(base)
            return entry.manifest if entry is not None else None

    def get(self, base: Name) -> ObjectPackets | None:
        """The whole object."""
        with self._lock:
            waiting = self._waiting.get(base) or self._writing.get(base)
            if waiting is not None:
                return waiting.packets
            entry = self._known(base)
            if entry is None or entry.manifest is None:
                return None
            manifest, packets = entry.manifest, {}
            for name in _names(manifest):
                wire = self.packet(name)
                if wire is None:
                    return None
                packets[name] = wire
            return ObjectPackets(base, manifest, entry.metadata, data_name(entry.metadata), packets)

    def packet(self, name: Name) -> bytes | None:
        """The packet of exactly this name: a segment, a manifest segment or a metadata packet."""
        split = _split(name)
        if split is None:
            return None
        base, marker, number = split
        with self._lock:
            waiting = self._waiting.get(base) or self._writing.get(base)
            if waiting is not None:
                packets = waiting.packets
                return packets.metadata if name == packets.metadata_name else packets.packets.get(name)
            entry = self._known(base)
            if entry is None or entry.manifest is None:
                return None
            if marker == METADATA:
                return entry.metadata if data_name(entry.metadata) == name else None
            manifest, upper = entry.manifest, len(entry.manifest.manifest_digests) // 32
            wanted = manifest.manifest_name(number) if marker == MANIFEST else manifest.segment_name(number)
            index = number if marker == MANIFEST else upper + number
            if wanted != name or (marker == MANIFEST and number >= upper):
                return None
            return self._segment(base, entry, index)

    def _segment(self, base: Name, entry: _Entry, index: int) -> bytes | None:
        """A packet by its place in the file: those of the manifest first."""
        if index >= len(entry.sizes):
            return None
        self._entries.move_to_end(base)
        wires = self._chunk(base, entry, index // CHUNK_PACKETS)
        return wires[index % CHUNK_PACKETS] if wires else None

    # ------------------------------------------------------------ reading the file

    def _entry(self, base: Name) -> _Entry | None:
        """The entry of an object that is not too old. Call with the lock held."""
        entry = self._entries.get(base)
        if entry is not None and self._mortal and entry.policy.ttl_s < self._wall() - entry.stored:
            self.remove(base)
            return None
        return entry

    def _known(self, base: Name) -> _Entry | None:
        """The entry with its metadata packet read and checked."""
        entry = self._entry(base)
        if entry is None or entry.manifest is not None:
            return entry
        try:
            data = decode_data(self._file.metadata(entry.id))
            if not data.name.startswith(base + METADATA):
                raise BadPacket("its metadata packet belongs to another object")
            manifest = decode_manifest(data)
            if not manifest.digests:
                manifest = self._with_digests(entry, manifest)
        except (BadPacket, DigestMismatch) as error:
            self._drop(base, str(error))
            return None
        entry.manifest, entry.metadata = manifest, data.wire
        return entry

    def _with_digests(self, entry: _Entry, manifest: Manifest) -> Manifest:
        """The second level filled in, from the object's first packets. Raises BadPacket."""
        digests = manifest.manifest_digests
        count = len(digests) // 32
        wires: list[bytes] = []
        for number in range(-(-count // CHUNK_PACKETS)):
            wires += self._cut(entry, number)
        contents = []
        for number, wire in enumerate(wires[:count]):
            manifest.check_manifest_segment(number, wire)
            contents.append(decode_data(wire).content)
        return manifest.with_digests(b"".join(contents))

    def _chunk(self, base: Name, entry: _Entry, number: int) -> list[bytes]:
        """The packets of one chunk, each checked; [] when it is damaged: then the object is dropped."""
        key = (entry.id, number)
        wires = self._chunks.get(key)
        if wires is not None:
            self._chunks.move_to_end(key)
            return wires
        try:
            wires = self._cut(entry, number)
            self._check(entry, number * CHUNK_PACKETS, wires)
        except (BadPacket, DigestMismatch) as error:
            self._drop(base, str(error))
            return []
        self._chunks[key] = wires
        while len(self._chunks) > CACHED_CHUNKS:
            self._chunks.popitem(last=False)
        return wires

    def _cut(self, entry: _Entry, number: int) -> list[bytes]:
        joined = self._file.chunk(entry.id, number)
        sizes = entry.sizes[number * CHUNK_PACKETS : (number + 1) * CHUNK_PACKETS]
        if len(joined) != sum(sizes):
            raise BadPacket(f"chunk {number} is missing or cut short")
        wires, at = [], 0
        for size in sizes:
            wires.append(joined[at : at + size])
            at += size
        return wires

    def _check(self, entry: _Entry, first: int, wires: list[bytes]) -> None:
        manifest = entry.manifest
        assert manifest is not None
        digests = manifest.manifest_digests + manifest.digests
        for index, wire in enumerate(wires, first):
            if hashlib.sha256(wire).digest() != digests[32 * index : 32 * index + 32]:
                raise BadPacket(f"packet {index} is not the one that its producer signed for")

    def _drop(self, base: Name, why: str) -> None:
        log.warning("dropped %s from the store: %s", ndn.to_uri(base), why)
        self.damaged += 1
        self.remove(base)

    # ------------------------------------------------------------ writing, in the writer's thread

    def _write(self, batch: dict[Name, _Waiting], *, in_order: bool = False) -> None:
        failed: Exception | None = None
        for base, item in batch.items():
            try:
                if not item.removed and not (in_order and failed):
                    self._write_one(base, item)
            except (sqlite3.Error, StoreFull) as error:
                self.unwritten += 1
                level = logging.WARNING if self.unwritten == 1 or item.pinned else logging.DEBUG
                log.log(level, "%s could not be stored in %s: %s", ndn.to_uri(base), self._path, error)
                if item.pinned:
                    failed = StoreFull(f"{ndn.to_uri(base)} could not be stored in {self._path}: {error}")
            finally:
                with self._lock:
                    if self._writing.get(base) is item:
                        del self._writing[base]
        if failed is not None:
            raise failed

    def _write_one(self, base: Name, item: _Waiting) -> None:
        packets, policy = item.packets, policy_of(self._policies, base)
        wires = [packets.packets[name] for name in _names(packets.manifest)]
        sizes = tuple(map(len, wires))
        chunks = [b"".join(wires[at : at + CHUNK_PACKETS]) for at in range(0, len(wires), CHUNK_PACKETS)]
        need = bytes_on_disk(len(packets.metadata) + 2 * len(sizes) + len(base) * 2 + OBJECT_OVERHEAD_BYTES)
        need += sum(bytes_on_disk(len(chunk)) for chunk in chunks)
        victims = self._make_room(base, need)
        stored = self._wall()
        row = ObjectRow(0, base, sizes, need, item.pinned, stored, item.with_next)
        number = self._file.write(row, packets.metadata, chunks, instead_of=[entry.id for _, entry in victims])
        with self._lock:
            for name, entry in victims:
                if self._entries.get(name) is entry:
                    self._forget(name, entry)
                    self.evicted += name != base
            if not item.removed:
                self._add(base, _Entry(number, need, item.pinned or policy.pin, stored, sizes, policy))
                return
        self._file.delete([number])

    def _make_room(self, base: Name, need: int) -> list[tuple[Name, _Entry]]:
        """What must go for `need` more bytes: the older version, what is too old, then by policy the least recently
        used. Raises StoreFull when that is not enough."""
        with self._lock:
            old = self._entries.get(base)
            victims = [(base, old)] if old is not None else []
            free = self.capacity_bytes - self.used_bytes + (old.size if old is not None else 0)
            if need <= self.capacity_bytes and free < need:
                for name, entry in self._in_order_of_going(base):
                    free += entry.size
                    victims.append((name, entry))
                    if free >= need:
                        break
        if free < need:
            raise StoreFull(f"it takes {need} bytes; {max(free, 0)} are not pinned")
        return victims

    def _in_order_of_going(self, base: Name) -> Iterator[tuple[Name, _Entry]]:
        """Objects other than `base` that may go, each once: too old ones, those of prefixes beyond their share, those
        without a share of their own, then all; each least recently used first. Call with the lock held."""
        now, taken = self._wall(), {base}
        over = {
            policy.prefix: self._used.get(policy.prefix, 0) - int(policy.share * self.capacity_bytes)
            for policy in self._policies
            if policy.share < 1
        }

        def beyond_share(entry: _Entry) -> bool:
            excess = over.get(entry.policy.prefix, 0)
            if excess > 0:
                over[entry.policy.prefix] = excess - entry.size
            return excess > 0

        tests: list[Callable[[_Entry], bool]] = [lambda entry: entry.policy.share == 1, lambda _: True]
        if any(excess > 0 for excess in over.values()):
            tests.insert(0, beyond_share)
        if self._mortal:
            tests.insert(0, lambda entry: now - entry.stored > entry.policy.ttl_s)
        for test in tests:
            for name, entry in self._entries.items():
                if not entry.pinned and name not in taken and test(entry):
                    taken.add(name)
                    yield name, entry

    def _add(self, base: Name, entry: _Entry) -> None:
        self._entries[base] = entry
        self._entries.move_to_end(base)
        self._used[entry.policy.prefix] = self._used.get(entry.policy.prefix, 0) + entry.size

    def _forget(self, base: Name, entry: _Entry) -> None:
        del self._entries[base]
        self._used[entry.policy.prefix] -= entry.size
        for number in range(-(-len(entry.sizes) // CHUNK_PACKETS)):
            self._chunks.pop((entry.id, number), None)


def _names(manifest: Manifest) -> list[Name]:
    """The packets of an object in the order in which they are stored, metadata apart."""
    names = [manifest.manifest_name(number) for number in range(len(manifest.manifest_digests) // 32)]
    return names + [manifest.segment_name(number) for number in range(manifest.segments)]


def _split(name: Name) -> tuple[Name, bytes, int] | None:
    """(base, b"" or METADATA or MANIFEST, segment number) of a packet of an object; None for another name."""
    try:
        parts = ndn.components(name)
        if len(parts) < 3 or ndn.component_type(parts[-2]) != ndn.VERSION:
            return None
        number = ndn.component_number(parts[-1], ndn.SEGMENT)
    except BadPacket:
        return None
    if parts[-3] in (METADATA, MANIFEST):
        return b"".join(parts[:-3]), parts[-3], number
    return b"".join(parts[:-2]), b"", number
