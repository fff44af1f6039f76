"""KV blocks at hand, in memory, and what else the connectors of a process share.

Owns: which blocks stay. Must not know: how blocks are found, fetched or computed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import torch

from ndn_infer.kv.layout import BlockLayout
from ndn_infer.kv.plan import Estimates
from ndn_infer.kv.prefix import Origin
from ndn_infer.ndn.name import Name


class BlockCache:
    """The most recently used blocks of all domains, `memory_mb` MiB of them."""

    def __init__(self, layout: BlockLayout, memory_mb: int = 512) -> None:
        self._limit = max((memory_mb << 20) // layout.nbytes, 1)
        self._blocks: OrderedDict[tuple[str, bytes], tuple[torch.Tensor, Origin | None]] = OrderedDict()

    def get(self, label: str, value: bytes) -> tuple[torch.Tensor, Origin | None] | None:
        """A block at hand. The label is part of the key: chain values stand in names, so that whoever saw one could
        else ask for a tenant's block in the public domain."""
        held = self._blocks.get((label, value))
        if held is not None:
            self._blocks.move_to_end((label, value))
        return held

    def put(self, label: str, value: bytes, block: torch.Tensor, origin: Origin | None) -> None:
        self._blocks[label, value] = (block, origin)
        self._blocks.move_to_end((label, value))
        while len(self._blocks) > self._limit:
            self._blocks.popitem(last=False)

    def values(self, label: str) -> list[bytes]:
        """Chain values of the blocks of one domain that are at hand."""
        return [value for one, value in self._blocks if one == label]

    def clear(self) -> None:
        """Evict everything."""
        self._blocks.clear()


@dataclass(slots=True)
class SharedKv:
    """What the connectors of all domains share in one process: blocks at hand, what fetching and computing cost, and
    under which identities this process answers."""

    cache: BlockCache
    estimates: Estimates = field(default_factory=Estimates)
    own: set[Name] = field(default_factory=set)

    @classmethod
    def for_blocks(cls, layout: BlockLayout, memory_mb: int = 512, policy: str = "auto") -> SharedKv:
        """`policy`: as in Estimates."""
        return cls(BlockCache(layout, memory_mb), Estimates(policy))
