"""Dead nonces: (name, nonce) of Interests that left the PIT, so that what still loops is recognised.

Pure. Source: NFD developer guide, section 3.5 (lifetime 6 s); NFD adapts its capacity, this one is bounded by time and
by a fixed number.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ndn_infer.ndn.name import Name

LIFETIME_S: Final = 6.0
CAPACITY: Final = 1 << 16


class DeadNonceList:
    def __init__(self, lifetime_s: float = LIFETIME_S, capacity: int = CAPACITY) -> None:
        self.lifetime_s = lifetime_s
        self._capacity = capacity
        self._seen: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, name: Name, nonce: bytes, now: float) -> None:
        seen = self._seen
        key = hash((name, nonce))
        seen[key] = now
        seen.move_to_end(key)
        oldest = now - self.lifetime_s
        while len(seen) > self._capacity or next(iter(seen.values())) < oldest:
            seen.popitem(last=False)

    def has(self, name: Name, nonce: bytes, now: float) -> bool:
        if not self._seen:
            return False
        added = self._seen.get(hash((name, nonce)))
        return added is not None and added >= now - self.lifetime_s
