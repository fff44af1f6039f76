"""The blocks of one rank of an instance in one domain: names, what a verified content must be, whose is used.

Owns: kv.space.BlockSpace over bytes. Must not know: vLLM, torch, how blocks are found or fetched.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadRecord
from ndn_infer.kv.holders import Subject
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import Origin
from ndn_infer.ndn.name import Name
from ndn_infer.security.domains import OVERHEAD_BYTES, PAD_BYTES, PUBLIC, Domain
from ndn_infer.security.signer_policy import signer_policy
from ndn_infer.vllm.codec import BlockShape


@dataclass(frozen=True, slots=True)
class RankBlocks:
    """What one worker of an instance holds: its part of every block. Equal ones can be used for each other."""

    model: str
    codec: str
    layers: str
    shape: BlockShape

    def subject(self, domain: str) -> Subject:
        return Subject(self.model, domain, self.codec, self.layers)


class OpaqueBlocks:
    """A block is the payload of its content: bytes of all layers."""

    def __init__(self, host: KvHost, rank: RankBlocks, domain: Domain, own: Set[Name] = frozenset()) -> None:
        self.subject: Final = rank.subject(domain.label)
        self.own: Final = own
        self.domain: Final = domain
        self._host = host
        self._shape = rank.shape
        self._policy = signer_policy(host.config.kv.trusted_signers)

    def name(self, value: bytes) -> Name:
        return self.subject.name(self._host.net, value)

    def believes(self, signer: Name) -> bool:
        """By option kv.trusted_signers; our own are believed."""
        if signer in self.own or self._policy.believes(self.subject.model, signer):
            return True
        self._host.counters["kv_signers_refused"] += 1
        return False

    def room(self, size: int) -> bytearray:
        """Raises BadRecord for another size than every block has."""
        plain = self._shape.content_bytes
        sealed = 0 if self.domain is PUBLIC else OVERHEAD_BYTES + PAD_BYTES
        if not plain <= size <= plain + sealed:
            raise BadRecord(f"a KV block has {plain} bytes, this one {size}")
        return bytearray(size)

    def encode(self, base: Name, content: bytearray) -> bytes | bytearray:
        """Of an object, sealed where the domain is private."""
        return content if self.domain is PUBLIC else self.domain.seal(base, bytes(content))

    def decode(self, base: Name, content: bytearray) -> memoryview:
        """Raises BadRecord, SealBroken."""
        return self._shape.payload(content if self.domain is PUBLIC else self.domain.open(base, memoryview(content)))

    def keep(self, value: bytes, block: memoryview, origin: Origin | None) -> None:
        """vLLM keeps it."""
