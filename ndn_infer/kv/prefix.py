"""KV blocks that were looked for: where they are to be had, which are at hand, which could be had.

Owns: these, and the memory of blocks at hand. Must not know: how blocks are found or fetched.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from ndn_infer import ndn
from ndn_infer.kv.block import BlockLayout
from ndn_infer.kv.plan import Estimates
from ndn_infer.ndn.name import Name
from ndn_infer.records import MAX_SIGNERS, KvSigner
from ndn_infer.transport.objects.fetched import Discovered


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a block that was not computed here: who signed it, and the metadata packet with that signature. `found` is
    None where the packets are in our own store, as they came."""

    signer: Name
    found: Discovered | None = None


@dataclass(slots=True)
class FoundBlocks:
    """The longest prefix of blocks that could be had: tensors in order, how many came from where, and who signed.

    `origins`: one for each tensor, None for a block that was computed here.
    """

    tensors: list[torch.Tensor]
    names: list[str]
    origins: list[Origin | None] = field(default_factory=list)
    local: int = 0
    named: int = 0
    content_store: int = 0
    holders: dict[Name, None] = field(default_factory=dict)

    def take(self, block: torch.Tensor, name: str, found: Discovered) -> None:
        """One more that came by name."""
        self.tensors.append(block)
        self.names.append(name)
        self.origins.append(Origin(found.signed_by.identity, found))
        self.named += 1
        self.content_store += found.arrival.from_content_store
        self.holders[found.signed_by.identity] = None

    def extend(self, more: FoundBlocks) -> None:
        """Blocks that follow these."""
        self.tensors += more.tensors
        self.names += more.names
        self.origins += more.origins
        self.local += more.local
        self.named += more.named
        self.content_store += more.content_store
        self.holders.update(more.holders)

    def signers(self) -> tuple[KvSigner, ...]:
        """Who signed the blocks that were not computed here."""
        return count_signers(self.origins)


def count_signers(origins: Iterable[Origin | None]) -> tuple[KvSigner, ...]:
    counts = Counter(origin.signer for origin in origins if origin is not None)
    return tuple(KvSigner(ndn.to_uri(signer), blocks) for signer, blocks in counts.most_common(MAX_SIGNERS))


@dataclass(slots=True)
class Source:
    """Where one block is to be had: a verified manifest, or claims (holder, version) in the order to try them."""

    value: bytes
    found: Discovered | None = None
    claims: list[tuple[Name, int]] = field(default_factory=list)


@dataclass(slots=True)
class Located:
    """What exists of a prompt's KV: blocks at hand with their origins, then blocks held elsewhere, without a gap."""

    values: list[bytes]
    local: list[torch.Tensor]
    sources: list[Source]
    origins: list[Origin | None] = field(default_factory=list)

    @property
    def held(self) -> int:
        return len(self.sources)


class Common:
    """What the connectors of all domains share in one process: blocks at hand, recently used ones of `memory_mb` MiB,
    what fetching and computing cost, and under which identities this process answers."""

    def __init__(self, layout: BlockLayout, memory_mb: int = 512) -> None:
        self.own: set[Name] = set()
        self.estimates = Estimates()
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
