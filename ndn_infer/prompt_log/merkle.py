"""Merkle trees of RFC 9162 (Certificate Transparency 2.0): roots, proofs of inclusion and of consistency.

Owns: how hashes are joined, which hashes a proof has, and judging proofs. Must not know: what a leaf is, where hashes
are kept (a reader is passed in), who signs roots.

A node is (level, index): the hash over the complete subtree of 2**level leaves that begins at leaf index * 2**level.
Only such nodes are ever read; all others follow from them. SHA-256 throughout; section numbers are the RFC's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from ndn_infer.errors import BadRecord

HASH_BYTES: Final = 32
MAX_SIZE: Final = 1 << 48
MAX_PROOF: Final = 64
"""Hashes of one proof."""
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

ReadNode = Callable[[int, int], bytes]
"""The hash of the node (level, index)."""


def leaf_hash(entry: bytes) -> bytes:
    """2.1.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(size: int, read: ReadNode) -> bytes:
    """The root over the first `size` leaves."""
    return _range(0, size, read) if size else EMPTY_ROOT


def inclusion(index: int, size: int, read: ReadNode) -> list[bytes]:
    """PATH(index, D[size]) of 2.1.3.1, from the leaf up. Raises BadRecord for a leaf that is not among them."""
    if not 0 <= index < size:
        raise BadRecord(f"leaf {index} is not among the first {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range(middle, end, read))
            end = middle
        else:
            path.append(_range(begin, middle, read))
            begin = middle
    path.reverse()
    return path


def consistency(old: int, new: int, read: ReadNode) -> list[bytes]:
    """PROOF(old, D[new]) of 2.1.4.1: that the tree of `new` leaves begins with that of `old`. Raises BadRecord."""
    if not 0 < old <= new:
        raise BadRecord(f"a tree of {new} leaves is no continuation of one of {old}")
    proof: list[bytes] = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_range(middle, end, read))
            end = middle
        else:
            proof.append(_range(begin, middle, read))
            begin, whole = middle, False
    if not whole:
        proof.append(_range(begin, end, read))
    proof.reverse()
    return proof


# ---------------------------------------------------------------- judging proofs


def root_of_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that a proof of inclusion leads to (2.1.3.2), from a leaf's hash; None for one of another form."""
    if not 0 <= index < size <= MAX_SIZE or any(len(item) != HASH_BYTES for item in proof):
        return None
    first, last, value = index, size - 1, leaf
    for item in proof:
        if last == 0:
            return None
        if first & 1 or first == last:
            value = node_hash(item, value)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            value = node_hash(value, item)
        first, last = first >> 1, last >> 1
    return value if last == 0 else None


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    return root_of_inclusion(leaf, index, size, proof) == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `new` leaves begins with that of `old` (2.1.4.2)."""
    if not 0 < old <= new <= MAX_SIZE or any(len(item) != HASH_BYTES for item in proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    mine = theirs = path[0]
    for item in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            mine, theirs = node_hash(item, mine), node_hash(item, theirs)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            theirs = node_hash(theirs, item)
        first, last = first >> 1, last >> 1
    return last == 0 and mine == old_root and theirs == new_root


# ---------------------------------------------------------------- ranges


def _split(count: int) -> int:
    """The largest power of two below `count`, 2 at least."""
    return 1 << (count - 1).bit_length() - 1


def _range(begin: int, end: int, read: ReadNode) -> bytes:
    """The hash over leaves [begin, end): begin is a multiple of the power of two at or above their number. Its complete
    subtrees are joined from the right."""
    parts: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        parts.append(read(level, begin >> level))
        begin += 1 << level
    value = parts[-1]
    for part in reversed(parts[:-1]):
        value = node_hash(part, value)
    return value
