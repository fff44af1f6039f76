"""Blocks that this process publishes: computed here and signed, or passed on as they came.

Owns: what of them is in the store, by tags, and what is told to those who ask. Must not know: how blocks of others are
found or fetched.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from ndn_infer import ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.kv.blocks import Blocks
from ndn_infer.kv.holders import TAG_BYTES, HoldsQuery
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import Origin
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.certificate import split_locator
from ndn_infer.security.crypto import Signer

log = logging.getLogger(__name__)

MAX_TAGS: Final = 65536


@dataclass(frozen=True, slots=True)
class _Noted:
    """One block: its chain value and its base name."""

    value: bytes
    base: Name


class PublishedBlocks:
    """Begins with what the store holds from before a restart."""

    def __init__(self, host: KvHost, blocks: Blocks) -> None:
        self._host = host
        self._blocks = blocks
        self._noted: OrderedDict[bytes, _Noted] = OrderedDict()
        """Blocks in the store, by their tags."""
        self._versions: dict[bytes, int] = {}
        """Of blocks in memory, by their tags, as long as nothing leaves it: hundreds are asked for at once."""
        self._left = 0
        for base in host.server.store.bases():
            value = blocks.value_of(base)
            if value is not None:
                self._note(value, base)

    def publish(self, value: bytes, block: torch.Tensor, signer: Signer) -> None:
        """Sign and publish one block that was computed here, and keep it at hand. Never for a block of another's
        signature: see `pass_on`."""
        self._blocks.keep(value, block, None)
        base = self._blocks.name(value)
        if base not in self._host.server.store:
            began = time.perf_counter()
            packets = self._host.server.publish(base, self._blocks.encode(base, block), signer)
            self._blocks.content_bytes = packets.manifest.size
            self._note(value, packets.base)
            self._host.counters["kv_blocks_published"] += 1
            self._host.counters["kv_publish_us"] += round((time.perf_counter() - began) * 1e6)

    async def pass_on(self, value: bytes, origin: Origin) -> bool:
        """Serve a block that somebody else computed, packet for packet, under its signature. Whether that can be done;
        else it has to be computed here."""
        base = self._blocks.name(value)
        if base in self._host.server.store:
            return True
        if origin.found is None or origin.found.manifest is None:
            return False
        try:
            size = origin.found.manifest.size  # of a block that was fetched and read before
            packets = await self._host.fetcher.packets(origin.found, most=size, hints=(origin.signer,))
        except NdnInferError as error:
            log.info("a KV block of %s is computed here: %s", ndn.to_uri(origin.signer), error)
            return False
        self._host.server.put(packets)
        self._note(value, packets.base)
        self._host.counters["kv_blocks_passed_on"] += 1
        return True

    def stored(self, value: bytes) -> tuple[torch.Tensor, Origin | None] | None:
        """A block out of our own store: the network would not lead us to ourselves. After a restart the signature alone
        tells who computed it."""
        base = self._blocks.name(value)
        packets = self._host.server.store.get(base) if value[:TAG_BYTES] in self._noted else None
        if packets is None:
            return None
        try:
            locator = decode_data(packets.metadata).signature_info.key_locator
            located = split_locator(locator) if locator is not None else None
            if located is None or not self._blocks.believes(located.identity):
                return None
            block = self._blocks.decode(base, bytearray(packets.content()))
        except NdnInferError as error:
            log.warning("a KV block of our own store cannot be used: %s", error)
            return None
        origin = None if located.identity in self._blocks.shared.own else Origin(located.identity)
        self._blocks.keep(value, block, origin)
        self._host.counters["kv_blocks_from_store"] += 1
        return block, origin

    @property
    def values(self) -> tuple[bytes, ...]:
        """Chain values of blocks that were put into the store; some may have been evicted since."""
        return tuple(noted.value for noted in self._noted.values())

    def has(self, value: bytes) -> bool:
        """Whether a block is in the store now."""
        return self._blocks.name(value) in self._host.server.store

    def versions_of(self, tags: Sequence[bytes], query: HoldsQuery) -> Sequence[int]:
        """Under which version the block of each of these tags is in the store, 0 when it is not (any more)."""
        if not self._blocks.asked_by(query):
            return [0] * len(tags)
        left = self._host.server.store.left
        if left != self._left:
            self._versions, self._left = {}, left
        known = self._versions.get
        return [known(tag) or self._version_of(tag) for tag in tags]

    def _version_of(self, tag: bytes) -> int:
        noted = self._noted.get(tag)
        if noted is None:
            return 0
        store = self._host.server.store
        manifest = store.manifest(noted.base)
        if manifest is None:
            del self._noted[tag]
            return 0
        version = ndn.last_version(manifest.name[len(noted.base) :])
        if store.in_memory(noted.base):
            self._versions[tag] = version
        return version

    def _note(self, value: bytes, base: Name) -> None:
        self._noted[value[:TAG_BYTES]] = _Noted(value, base)
        while len(self._noted) > MAX_TAGS:
            self._noted.popitem(last=False)
