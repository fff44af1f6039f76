"""What finding and fetching need to know of blocks.

Owns: these two contracts. Must not know: what a block is: a tensor of our engine (blocks.py), bytes of another one.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol, TypeVar

from ndn_infer.kv.holders import Subject
from ndn_infer.kv.prefix import Origin
from ndn_infer.ndn.name import Name

B = TypeVar("B")


class NamedBlocks(Protocol):
    """Blocks that have names."""

    @property
    def subject(self) -> Subject: ...

    @property
    def own(self) -> Set[Name]:
        """Identities of this process."""
        ...

    def name(self, value: bytes) -> Name:
        """Base name of the block whose chain value is `value`."""
        ...

    def believes(self, signer: Name) -> bool:
        """Whether a verified block that this identity signed is used."""
        ...


class BlockSpace(NamedBlocks, Protocol[B]):
    """Blocks that can be read: what a verified content becomes."""

    def room(self, size: int) -> bytearray:
        """Memory for the content of a block. Raises BadRecord for another size than every block has."""
        ...

    def decode(self, base: Name, content: bytearray) -> B:
        """Takes `content`. Raises BadRecord, SealBroken."""
        ...

    def keep(self, value: bytes, block: B, origin: Origin | None) -> None:
        """A block was fetched from this origin."""
        ...
