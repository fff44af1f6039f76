"""The prefix of a prompt in KV blocks: where each is to be had, which are at hand, which were had.

Owns: these. Must not know: how blocks are found or fetched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import torch

from ndn_infer import ndn
from ndn_infer.ndn.name import Name
from ndn_infer.records import MAX_SIGNERS, KvSigner
from ndn_infer.transport.objects.fetched import Discovered

MAX_EXAMPLES: Final = 8
"""Names of blocks that an answer tells."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a block that was not computed here: who signed it, and the metadata packet with that signature. `found` is
    None where the packets are in our own store, as they came."""

    signer: Name
    found: Discovered | None = None


@dataclass(slots=True)
class FoundBlocks:
    """The longest prefix of blocks that could be had: tensors in order, how many came from where, and who signed.

    `origins`: one for each tensor, None for a block that was computed here. `names`: in order, of the first
    MAX_EXAMPLES blocks at least.
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
class BlockSource:
    """Where one block is to be had: a verified manifest, or claims (holder, version) in the order to try them."""

    value: bytes
    found: Discovered | None = None
    claims: list[tuple[Name, int]] = field(default_factory=list)


@dataclass(slots=True)
class Located:
    """What exists of a prompt's KV: blocks at hand with their origins, then blocks held elsewhere, without a gap."""

    values: list[bytes]
    local: list[torch.Tensor]
    sources: list[BlockSource]
    origins: list[Origin | None] = field(default_factory=list)

    @property
    def held(self) -> int:
        return len(self.sources)
