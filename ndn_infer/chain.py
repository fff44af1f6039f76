"""Hash chains over blocks of token ids: the part of a KV name that says which tokens, after which tokens.

Owns: the canonical derivation and its test vectors (tests/unit/test_chain.py). A block's chain value commits to all
ids before it, as in vLLM and SGLang; the seed commits to everything else that changes the bytes of KV: block size,
engine implementation and compute dtype. Must not know: names, KV, models.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

_DOMAIN: Final = b"ndn-infer chain v1"


def seed(implementation: str, dtype: str, block_tokens: int) -> bytes:
    """Start value of a chain, 32 bytes. `implementation` names the class of engines whose KV bytes are equal."""
    text = f"{implementation}\n{dtype}\n{block_tokens}".encode()
    return hashlib.sha256(_DOMAIN + b"\0" + text).digest()


def extend(parent: bytes, ids: Sequence[int]) -> bytes:
    """Chain value of the block `ids` (each 0 <= id < 2**32) after the block whose value is `parent`."""
    return hashlib.sha256(parent + struct.pack(f"<{len(ids)}I", *ids)).digest()


def chain(start: bytes, ids: Sequence[int], block_tokens: int) -> list[bytes]:
    """Chain values of all full blocks of `ids`, in order; a rest shorter than a block has none."""
    values = []
    parent = start
    for offset in range(0, len(ids) - block_tokens + 1, block_tokens):
        parent = extend(parent, ids[offset : offset + block_tokens])
        values.append(parent)
    return values
