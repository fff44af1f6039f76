"""A compact hint of which prefixes' KV a producer has: a Bloom filter over some of the chain values.

Owns: which chain values count, the filter's form, and reading a held length out of it. Must not know: names, tensors,
who asks. Pure.

Chain values are SHA-256, so their own bytes serve as hashes. When there are more values than the filter takes, one in
two, four, ... counts, chosen by the last bytes of the value itself: producer and reader need not agree on anything
else, and the hint has the same size whatever is held. A prefix is read value by value up to the first that counts and
is not in the filter, so a false positive lengthens an estimate by one step, and nothing worse (docs/offers.md has the
figures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ndn_infer.records.offer import MAX_HINT_BYTES, HeldPrefixes

PROBES: Final = 5
BITS_A_VALUE: Final = 8
LEAST_BYTES: Final = 16


def hint_of(
    values: Iterable[bytes], block_tokens: int, *, has: Callable[[bytes], bool] = lambda value: True
) -> HeldPrefixes | None:
    """The hint for blocks with these chain values (32 bytes each); None when there are none. `has`: asked of those that
    count, whether they are still there."""
    counted, rate = set(values), 0
    if not counted:
        return None
    while len(counted) * BITS_A_VALUE > MAX_HINT_BYTES * 8:
        rate += 1
        counted = {value for value in counted if _counts(value, rate)}
    counted = {value for value in counted if has(value)}
    if not counted:
        return None
    size = LEAST_BYTES
    while size * 8 < len(counted) * BITS_A_VALUE:
        size *= 2
    bits = bytearray(size)
    for value in counted:
        for place in _places(value, size):
            bits[place >> 3] |= 1 << (place & 7)
    return HeldPrefixes(bytes(bits), rate, block_tokens)


def held_blocks(hint: HeldPrefixes, values: Sequence[bytes]) -> int:
    """How many of the first blocks with these chain values are held, by the hint: up to the last value that counts and
    is in the filter before one that is not."""
    size = len(hint.bits)
    if size & (size - 1) or not size:
        return 0  # of another form
    held = 0
    for number, value in enumerate(values, 1):
        if not _counts(value, hint.rate):
            continue
        if not all(hint.bits[place >> 3] & 1 << (place & 7) for place in _places(value, size)):
            break
        held = number
    return held


def _counts(value: bytes, rate: int) -> bool:
    return int.from_bytes(value[-4:], "big") & ((1 << rate) - 1) == 0


def _places(value: bytes, size: int) -> list[int]:
    """Bits of a filter of `size` bytes (a power of two, 512 at most)."""
    mask = 8 * size - 1
    return [int.from_bytes(value[at : at + 2], "big") & mask for at in range(0, 2 * PROBES, 2)]
