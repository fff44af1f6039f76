"""One search for the longest prefix of KV blocks: every question at once, an end as soon as the length is known.

Owns: when a search is done. Must not know: how a block is discovered, who is asked, what is in a block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from ndn_infer.kv.prefix import BlockSource
from ndn_infer.ndn.name import Name
from ndn_infer.transport.objects.fetched import Discovered

log = logging.getLogger(__name__)


class Sought(Protocol):
    """Answers the questions of a search (discovery.BlockDiscovery)."""

    async def discover(self, value: bytes) -> Discovered | None:
        """The verified manifest of a block, from whomever the network asks."""
        ...

    async def ask(self, identity: Name, values: Sequence[bytes]) -> list[int]:
        """What `identity` says it holds of `values`: versions, 0 for none."""
        ...

    def patience_s(self) -> float:
        """For one answer; a search takes four times as long at most."""
        ...


class Search:
    """One search: all questions at once, and an end as soon as the length of the prefix is known."""

    def __init__(self, sought: Sought, values: list[bytes], asked: Sequence[Name]) -> None:
        self._sought = sought
        self._sources = [BlockSource(value) for value in values]
        self._open = [True] * len(values)
        """Whether discovery of a block goes on."""
        self._asked = asked
        self.unanswered = len(asked)
        """Of those that were asked which blocks they hold."""
        self._settled = 0
        self._news = asyncio.Event()

    async def run(self) -> list[BlockSource]:
        """Sources of the longest prefix that somebody holds."""
        sought, values = self._sought, [source.value for source in self._sources]
        # Discovery first: the network's nearest holder then sends its manifests before it says that it has them.
        tasks = [_start(self._discover(number)) for number in range(len(values))]
        tasks += [_start(self._ask(identity, values)) for identity in self._asked]
        try:
            async with asyncio.timeout(4 * sought.patience_s()):
                while not self._done():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            log.info("only %d of %d KV blocks were answered for in time", self._settled, len(values))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._sources[: self._settled]

    def _done(self) -> bool:
        """Whether all blocks up to the first that nobody has are settled; moves on over those that are."""
        while self._settled < len(self._sources):
            source = self._sources[self._settled]
            if source.found is None and not source.claims:
                return not self._open[self._settled] and self.unanswered == 0
            self._settled += 1
        return True

    async def _discover(self, number: int) -> None:
        source = self._sources[number]
        source.found = await self._sought.discover(source.value)
        self._open[number] = False
        self._news.set()

    async def _ask(self, identity: Name, values: list[bytes]) -> None:
        for source, version in zip(self._sources, await self._sought.ask(identity, values), strict=True):
            if version:
                source.claims.append((identity, version))
        self.unanswered -= 1
        self._news.set()


def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)
