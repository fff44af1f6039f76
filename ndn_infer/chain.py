"""Hash chains over blocks of token ids: the part of a KV name that says which tokens, after which tokens.

Owns: the canonical derivation and its test vectors (tests/unit/test_chain.py, test_domains.py). A block's chain value
commits to all ids before it and to the block size, as in vLLM and SGLang. What else changes the bytes of KV stands
elsewhere in its name: the weights in the model digest, how they compute in the codec (engine_class.py). With a `key`
every step is HMAC-SHA256 under it (RFC 2104), not SHA-256: without the key nobody can derive a value from
token ids, or one value from another. Must not know: names, KV, models, whose a key is (security/domains.py).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

_DOMAIN: Final = b"ndn-infer chain v1"


def seed(block_tokens: int, key: bytes = b"") -> bytes:
    """Start value of a chain, 32 bytes."""
    return _digest(_DOMAIN + b"\0" + str(block_tokens).encode(), key)


def extend(parent: bytes, ids: Sequence[int], key: bytes = b"") -> bytes:
    """Chain value of the block `ids` (each 0 <= id < 2**32) after the block whose value is `parent`."""
    return _digest(parent + struct.pack(f"<{len(ids)}I", *ids), key)


def chain(ids: Sequence[int], block_tokens: int, key: bytes = b"") -> list[bytes]:
    """Chain values of all full blocks of `ids`, in order; a rest shorter than a block has none."""
    values, parent, size = [], seed(block_tokens, key), 4 * block_tokens
    whole = ids[: len(ids) // block_tokens * block_tokens]
    packed = struct.pack(f"<{len(whole)}I", *whole)  # at once: a prompt has a thousand blocks
    sha256 = hashlib.sha256  # and without a call for each
    for start in range(0, len(packed), size):
        message = parent + packed[start : start + size]
        parent = hmac.digest(key, message, "sha256") if key else sha256(message).digest()
        values.append(parent)
    return values


def _digest(message: bytes, key: bytes) -> bytes:
    return hmac.digest(key, message, "sha256") if key else hashlib.sha256(message).digest()
