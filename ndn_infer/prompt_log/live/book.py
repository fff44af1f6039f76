"""The book of a log: its entries, its tree and its newest checkpoint, as signed objects in a store.

Owns: what is put into the store in which order, and picking up after a crash. Must not know: who appends, the network.

In one batch: entries, then the tiles that grew, then the checkpoint. The store writes in this order, so a checkpoint is
never there without what it is over; entries without one (a crash between) are taken into the tree at the next start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadRecord, ConfigError, StorageError
from ndn_infer.namespace import LogCheckpoint, LogEntry, LogTile, Role
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SIGNATURE_SHA256_WITH_ECDSA
from ndn_infer.prompt_log import merkle
from ndn_infer.prompt_log.checkpoint import Checkpoint
from ndn_infer.prompt_log.entries import LeafEntry
from ndn_infer.prompt_log.merkle import HASH_BYTES
from ndn_infer.prompt_log.receipt import Root, sign_root
from ndn_infer.prompt_log.tiles import TILE_BYTES, TileTree
from ndn_infer.security.crypto import Signer
from ndn_infer.storage.disk import DiskStore
from ndn_infer.wire.manifest import LASTING_FRESHNESS_MS, ObjectPackets, build_object

FRESHNESS_MS: Final = 100
"""How long caches may give an older checkpoint, or an older tile at the right edge."""


@dataclass(frozen=True, slots=True)
class Names:
    """Those of a log."""

    net: Name
    log: Name
    site: str
    node: str

    @classmethod
    def of(cls, net: Name, log: Name) -> Names:
        """Raises BadRecord for an identity that is no log's."""
        role = Role.parse(net, log)
        if role is None or role.role != "log":
            raise BadRecord(f"{ndn.to_uri(log)} is not a log of this network, which is named <net>/<site>/<node>/log")
        return cls(net, log, role.site, role.node)

    @property
    def checkpoint(self) -> Name:
        return LogCheckpoint(self.site, self.node).to_name(self.net)

    def tile(self, level: int, index: int) -> Name:
        return LogTile(self.site, self.node, str(level), str(index)).to_name(self.net)

    def entry(self, index: int) -> Name:
        return LogEntry(self.site, self.node, str(index)).to_name(self.net)


class LogBook:
    """`store` is written by this book alone. Raises StorageError where what is in it contradicts itself."""

    def __init__(self, store: DiskStore, net: Name, signer: Signer) -> None:
        if signer.info.type != SIGNATURE_SHA256_WITH_ECDSA:
            raise ConfigError("a log signs receipts with ECDSA P-256, and its key is of another kind")
        self.names = Names.of(net, signer.identity)
        self._store = store
        self._signer = signer
        self._key_id = hashlib.sha256(signer.public_der).digest()
        self.checkpoint: Checkpoint | None = self._read_checkpoint()
        size = self.checkpoint.size if self.checkpoint is not None else 0
        try:
            self.tree = TileTree(size, self._read_tile)
            sound = self.checkpoint is None or self.tree.root() == self.checkpoint.root
        except BadRecord as error:
            raise StorageError(f"the log's tree is damaged: {error}", hint=_DAMAGED) from error
        if not sound:
            raise StorageError("the log's tiles are not those of its checkpoint", hint=_DAMAGED)
        self._take_up()

    def add(self, entries: Sequence[LeafEntry], *, keep: bool = True) -> tuple[int, Future[None]]:
        """Entries as the next leaves: the index of the first, and a future that is done when they and a checkpoint over
        them are on disk, or raises StoreFull. `keep`: False for a measurement of the tree alone."""
        first, objects = self.tree.size, []
        for number, entry in enumerate(entries):
            if keep:
                objects.append(self._object(self.names.entry(first + number), records.encode(entry)))
            self.tree.append(merkle.leaf_hash(entry.leaf()))
        return first, self._commit(objects)

    def sign_again(self) -> Future[None] | None:
        """A checkpoint of now over the tree as it is; None for an empty one. A log that lost records says so by it."""
        return self._commit([]) if self.tree.size else None

    def entry(self, index: int) -> LeafEntry | None:
        found = self._store.get(self.names.entry(index))
        return records.decode(LeafEntry, found.content()) if found is not None else None

    # ------------------------------------------------------------ objects

    def _commit(self, objects: list[ObjectPackets]) -> Future[None]:
        for (level, index), tile in self.tree.changed().items():
            lasting = LASTING_FRESHNESS_MS if len(tile) == TILE_BYTES else FRESHNESS_MS
            name = self.names.tile(level, index)
            objects.append(self._object(name, tile, version=len(tile) // HASH_BYTES, freshness_ms=lasting))
        checkpoint = self.checkpoint = self._signed()
        content = records.encode(checkpoint)
        objects.append(self._object(self.names.checkpoint, content, version=checkpoint.size, freshness_ms=FRESHNESS_MS))
        return self._store.put_all(objects)

    def _signed(self) -> Checkpoint:
        name, size = ndn.to_uri(self.names.log), self.tree.size
        unsigned = Checkpoint(name, size, self.tree.root(), int(clock.wall_s()), self._key_id, bytes(64))
        root: Root = unsigned.signed()
        signature = sign_root(root, self._signer.sign)
        return Checkpoint(name, size, root.root, root.issued, self._key_id, signature)

    def _object(
        self, base: Name, content: bytes, *, version: int = 1, freshness_ms: int = LASTING_FRESHNESS_MS
    ) -> ObjectPackets:  # fmt: skip
        return build_object(base, version, content, self._signer.sign_data, freshness_ms=freshness_ms)

    def _read_checkpoint(self) -> Checkpoint | None:
        found = self._store.get(self.names.checkpoint)
        return records.decode(Checkpoint, found.content()) if found is not None else None

    def _read_tile(self, level: int, index: int) -> bytes:
        found = self._store.get(self.names.tile(level, index))
        return found.content() if found is not None else b""

    def _take_up(self) -> None:
        """Entries that came to the disk without their checkpoint."""
        before = self.tree.size
        while (entry := self.entry(self.tree.size)) is not None:
            self.tree.append(merkle.leaf_hash(entry.leaf()))
        if self.tree.size > before:
            self._commit([]).result()


_DAMAGED: Final = "restore the store and its checkpoint together from a backup; witnesses will say what is missing"
