"""Chain values of the blocks of one request: the tokens, and what else belongs to them.

Owns: how an adapter, the rest of a cache_salt and multimodal inputs are mixed into the chain (chain.py). Pure. Must not
know: vLLM, names, the network. What all requests of an instance share stands in the cache class.

A block's value commits to all tokens before it. Before the first block one step mixes in the adapter and the salt, if
there are any; before a block that a multimodal input reaches into, one step mixes in that input's hash and where it
begins. Such a step has nine words, the first of which is no token id; a block has its tokens, a multiple of sixteen.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.errors import BadRecord
from ndn_infer.security.domains import PUBLIC, Domain

_STEP: Final = 0xFFFFFFFF
MOST_INPUTS: Final = 4096
MOST_TEXT: Final = 4096
"""Characters of a salt, of an adapter's digest, of an input's hash."""


@dataclass(frozen=True, slots=True)
class InputSpan:
    """A multimodal input: its content's hash, and the positions of a prompt that stand for it."""

    content: str
    first: int
    length: int


@dataclass(frozen=True, slots=True)
class Salted:
    """`adapter`: digest of a LoRA adapter's weights, "" for none. `salt`: the whole cache_salt, "" for none. `inputs`:
    by position."""

    adapter: str = ""
    salt: str = ""
    inputs: tuple[InputSpan, ...] = ()

    def __post_init__(self) -> None:
        """Raises BadRecord."""
        texts = [self.adapter, self.salt, *(item.content for item in self.inputs)]
        if len(self.inputs) > MOST_INPUTS or any(len(text) > MOST_TEXT for text in texts):
            raise BadRecord("too much to mix into the chain of a request")


@dataclass(slots=True)
class BlockChain:
    """The values of one request's full blocks, as its tokens become known."""

    domain: Domain = PUBLIC
    block_tokens: int = 16
    salted: Salted = field(default_factory=Salted)
    values: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises BadRecord for blocks of another size than multiples of 16."""
        if self.block_tokens <= 0 or self.block_tokens % 16:
            raise BadRecord(f"blocks of {self.block_tokens} tokens cannot be named: a multiple of 16 is needed")

    def extend(self, ids: Sequence[int], blocks: int) -> list[bytes]:
        """The values of the first `blocks` blocks of `ids`, all tokens from the beginning; as many as are full."""
        size = self.block_tokens
        for number in range(len(self.values), min(blocks, len(ids) // size)):
            parent = self.values[-1] if self.values else self._seed()
            for item in self.salted.inputs:
                if item.first < (number + 1) * size and item.first + item.length > number * size:
                    parent = self._mix(parent, b"input", item.content, str(item.first))
            self.values.append(self.domain.chain_extend(parent, ids[number * size : (number + 1) * size]))
        return self.values[:blocks]

    def _seed(self) -> bytes:
        seed = self.domain.chain_seed(self.block_tokens)
        if not self.salted.adapter and not self.salted.salt:
            return seed
        return self._mix(seed, b"request", self.salted.adapter, self.salted.salt)

    def _mix(self, parent: bytes, what: bytes, *texts: str) -> bytes:
        parts = [what, *(text.encode("utf-8", "surrogatepass") for text in texts)]
        digest = hashlib.sha256(b"".join(struct.pack("<I", len(part)) + part for part in parts)).digest()
        return self.domain.chain_extend(parent, (_STEP, *struct.unpack("<8I", digest)))


def domain_name(salt: str) -> str:
    """The name of the tenant domain that a cache_salt speaks of: all of it, or what stands before the first "/", where
    tenants of one domain are kept apart."""
    return salt.partition("/")[0]
