"""The blocks of one model in one domain: their names, their bytes, those at hand, and whose signature counts.

Owns: the meeting of chain values, names, formats and seals. Must not know: how blocks are found, fetched or published.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from ndn_infer import ndn
from ndn_infer.errors import BadRecord
from ndn_infer.kv.cache import SharedKv
from ndn_infer.kv.codec import BlockFormat, block_bytes, decode_block, encode_block
from ndn_infer.kv.holders import HoldsQuery, Subject
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import Origin
from ndn_infer.ndn.name import Name
from ndn_infer.security.domains import OVERHEAD_BYTES, PAD_BYTES, PUBLIC, Domain
from ndn_infer.security.signer_policy import signer_policy

log = logging.getLogger(__name__)


class Blocks:
    """`shared` is that of the process."""

    def __init__(self, host: KvHost, model: str, fmt: BlockFormat, domain: Domain, shared: SharedKv) -> None:
        self.model = model
        self.format = fmt
        self.domain = domain
        self.shared = shared
        self.layers = f"0-{fmt.layout.layers - 1}"
        self.subject = Subject(model, domain.label, fmt.codec, self.layers)
        self.own = shared.own
        self.content_bytes = block_bytes(fmt)
        """Of the newest one seen: sealed ones are a little longer."""
        self.block_tokens = fmt.layout.block_tokens
        self._host = host
        self._policy = signer_policy(host.config.kv.trusted_signers)

    # ------------------------------------------------------------ names and bytes

    def chain(self, ids: Sequence[int]) -> list[bytes]:
        return self.domain.chain_values(ids, self.block_tokens)

    def extend(self, parent: bytes, ids: Sequence[int]) -> bytes:
        """Chain value of the block `ids` after that of `parent`; b"" is before the first."""
        return self.domain.chain_extend(parent or self.domain.chain_seed(self.block_tokens), ids)

    def name(self, value: bytes) -> Name:
        """Base name of the block whose chain value is `value`."""
        return self.subject.name(self._host.net, value)

    def uri(self, value: bytes) -> str:
        return self.subject.uri(self._host.net, value)

    def value_of(self, base: Name) -> bytes | None:
        """Chain value of the block with this base name; None when it is none of these."""
        return self.subject.value_of(self._host.net, base)

    def asked_by(self, query: HoldsQuery) -> bool:
        """Whether a question is for these blocks."""
        return self.subject.asked_by(query)

    def encode(self, base: Name, block: torch.Tensor) -> bytes:
        """Content of an object, sealed where the domain is private."""
        return self.domain.seal(base, encode_block(block, self.format))

    def decode(self, base: Name, content: bytearray) -> torch.Tensor:
        """Takes `content`: the memory it was fetched to becomes the block where nothing has to be opened. Raises
        BadRecord, SealBroken."""
        plain = content if self.domain is PUBLIC else self.domain.open(base, memoryview(content))
        return decode_block(plain, self.format)

    def room(self, size: int) -> bytearray:
        """Memory for the content of a block. Raises BadRecord for another size than every block has."""
        plain = block_bytes(self.format)
        if not plain <= size <= plain + (0 if self.domain is PUBLIC else OVERHEAD_BYTES + PAD_BYTES):
            raise BadRecord(f"a KV block has {plain} bytes, this one {size}")
        return bytearray(size)

    # ------------------------------------------------------------ what is at hand

    def at_hand(self, value: bytes) -> tuple[torch.Tensor, Origin | None] | None:
        return self.shared.cache.get(self.domain.label, value)

    def keep(self, value: bytes, block: torch.Tensor, origin: Origin | None) -> None:
        """Keep a block at hand. `origin` is None only for what this process computed."""
        self.shared.cache.put(self.domain.label, value, block, origin)

    def believes(self, signer: Name) -> bool:
        """Whether a verified block that this identity signed is used (option kv.trusted_signers)."""
        if signer in self.shared.own or self._policy.believes(self.model, signer):
            return True
        self._host.counters["kv_signers_refused"] += 1
        log.info("KV of %s is not used: kv.trusted_signers does not name it", ndn.to_uri(signer))
        return False
