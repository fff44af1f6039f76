"""Hash chains over blocks of token ids: the part of a KV name that says which tokens, after which tokens.

Owns: the canonical derivation and its test vectors (tests/unit/test_chain.py). A block's chain value commits to all
ids before it and to the block size, as in vLLM and SGLang. What else changes the bytes of KV stands elsewhere in its
name: the weights in the model digest, dtype and engine implementation in the codec. Must not know: names, KV, models.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

_DOMAIN: Final = b"ndn-infer chain v1"


def seed(block_tokens: int) -> bytes:
    """Start value of a chain, 32 bytes."""
    return hashlib.sha256(_DOMAIN + b"\0" + str(block_tokens).encode()).digest()


def extend(parent: bytes, ids: Sequence[int]) -> bytes:
    """Chain value of the block `ids` (each 0 <= id < 2**32) after the block whose value is `parent`."""
    return hashlib.sha256(parent + struct.pack(f"<{len(ids)}I", *ids)).digest()


def chain(ids: Sequence[int], block_tokens: int) -> list[bytes]:
    """Chain values of all full blocks of `ids`, in order; a rest shorter than a block has none."""
    values = []
    parent = seed(block_tokens)
    for offset in range(0, len(ids) - block_tokens + 1, block_tokens):
        parent = extend(parent, ids[offset : offset + block_tokens])
        values.append(parent)
    return values
