"""Room for work of known size, shared fairly among owners: who waits, waits for its own work, not for others'.

Owns: who may begin now. Must not know: what the work is, who the owners are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SHARES: Final = 8


class FairRoom:
    """`total` bytes of work at a time. An owner gets one share (an eighth), or one piece of work of any size.

    Work larger than a share takes half of the room at most, all of it together, so that the small is never behind it.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._share = max(total // SHARES, 1)
        self._used: Counter[str] = Counter()
        self._large = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, owner: str, size: int) -> AsyncIterator[None]:
        """Room for `size` bytes, when it is there."""
        size = max(size, 1)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(owner, size))
            self._take(owner, size)
        try:
            yield
        finally:
            self._take(owner, -size)
            if not self._used[owner]:
                del self._used[owner]
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, owner: str, size: int) -> bool:
        mine, all_of_them = self._used[owner], self._used.total()
        if mine and mine + size > self._share:
            return False
        if size > self._share and self._large and self._large + size > self._total // 2:
            return False
        return not all_of_them or all_of_them + size <= self._total

    def _take(self, owner: str, size: int) -> None:
        self._used[owner] += size
        self._large += size if abs(size) > self._share else 0
