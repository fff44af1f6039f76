"""The last answers of this gateway, a bounded ring of records.

Owns: how many are kept, and who finds which. Must not know: HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from ndn_infer.gateway.answers.record import SeenAnswer
from ndn_infer.ndn.name import Name

MAX_BYTES: Final = 16 << 20
"""Of packets, in all records together; the oldest records go first."""
MAX_WAITING: Final = 64
"""Readers that wait for an answer that has not begun."""


class AnswerBook:
    """At most `most` records, by their id and by what their client called them."""

    def __init__(self, net: Name, most: int) -> None:
        self.net = net
        self._most = most
        self._records: OrderedDict[str, SeenAnswer] = OrderedDict()
        self._news: asyncio.Event | None = None
        self._waiting = 0
        self.number = 1
        """Of the newest change: an answer began or ended."""

    def open(self, owner: str, path: str, request_id: str = "", model: str = "") -> SeenAnswer:
        record = SeenAnswer(self.net, f"ans-{secrets.token_hex(12)}", owner, path=path, request_id=request_id)
        record.model = model
        self._records[record.id] = record
        while len(self._records) > self._most:
            self._records.popitem(last=False)
        self._changed()
        return record

    def _changed(self) -> None:
        self.number += 1
        if self._news is not None:
            self._news.set()
            self._news = None

    def completed(self) -> None:
        """An answer has ended. Keeps to the bytes."""
        self._changed()
        left = sum(record.kept_bytes for record in self._records.values())
        for key in list(self._records)[:-1]:
            if left <= MAX_BYTES:
                return
            left -= self._records.pop(key).kept_bytes

    def of(self, owner: str) -> Iterator[SeenAnswer]:
        """The records that this owner may see, the newest first."""
        return (record for record in reversed(self._records.values()) if record.owner == owner)

    def find(self, owner: str, key: str) -> SeenAnswer | None:
        """By id, or by what the client called the request (the newest of that name)."""
        return next((record for record in self.of(owner) if key and key in (record.id, record.request_id)), None)

    async def await_open(self, owner: str, key: str, patience_s: float) -> SeenAnswer | None:
        """As `find`, for a request that may come in the next moment. None when it does not, or too many wait."""
        found = self.find(owner, key)
        if found is not None or self._waiting >= MAX_WAITING:
            return found
        self._waiting += 1
        try:
            async with asyncio.timeout(patience_s):
                while found is None:
                    await self.change(self.number)
                    found = self.find(owner, key)
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1
        return found

    async def change(self, number: int) -> None:
        """Until something is newer than that."""
        while self.number <= number:
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()
