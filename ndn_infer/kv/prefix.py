"""The prefix of a prompt in KV blocks: where each is to be had, which are at hand, which were had.

Owns: these. Must not know: how blocks are found or fetched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, overload

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


class Sources(Sequence[BlockSource]):
    """Where each block of a prompt is to be had, from its first on, as far as somebody has them without a gap.

    A prompt has a thousand blocks, mostly of one holder. So what is known is kept by holder, and a BlockSource is made
    when somebody asks for it.
    """

    def __init__(self, values: Sequence[bytes]) -> None:
        self.values = values
        self.settled = 0
        """Blocks from the first on for which there is a manifest or a claim: its length."""
        self._found: dict[int, Discovered] = {}
        self._claims: list[tuple[Name, Sequence[int]]] = []

    def discovered(self, number: int, found: Discovered) -> None:
        """The verified manifest of a block."""
        self._found[number] = found
        self._settle()

    def claimed(self, holder: Name, versions: Sequence[int]) -> None:
        """What `holder` says it holds: a version of each block, 0 for none."""
        self._claims.append((holder, versions))
        self._settle()

    def is_claimed(self, number: int) -> bool:
        return any(versions[number] for _, versions in self._claims)

    def _settle(self) -> None:
        while self.settled < len(self.values):
            first = self.settled
            for _, versions in self._claims:
                self.settled = _first_without(versions, self.settled)
            while self.settled in self._found:
                self.settled += 1
            if self.settled == first:
                return

    def __len__(self) -> int:
        return self.settled

    @overload
    def __getitem__(self, at: int) -> BlockSource: ...

    @overload
    def __getitem__(self, at: slice) -> list[BlockSource]: ...

    def __getitem__(self, at: int | slice) -> BlockSource | list[BlockSource]:
        numbers = range(self.settled)[at]
        return self._source(numbers) if isinstance(numbers, int) else list(map(self._source, numbers))

    def _source(self, number: int) -> BlockSource:
        claims = [(holder, versions[number]) for holder, versions in self._claims if versions[number]]
        return BlockSource(self.values[number], self._found.get(number), claims)


def _first_without(versions: Sequence[int], start: int) -> int:
    """The first number from `start` on whose version is 0."""
    try:
        return versions.index(0, start)
    except ValueError:
        return len(versions)


@dataclass(slots=True)
class Located:
    """What exists of a prompt's KV: blocks at hand with their origins, then blocks held elsewhere, without a gap."""

    values: list[bytes]
    local: list[torch.Tensor]
    sources: Sequence[BlockSource]
    origins: list[Origin | None] = field(default_factory=list)

    @property
    def held(self) -> int:
        return len(self.sources)
