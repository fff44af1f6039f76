"""One search for the longest prefix of KV blocks: a few questions whatever its length, an end as soon as it is known.

Holders are asked which blocks they have, all of them in one question. Blocks are discovered under their own names where
no holder claims them: a few at first, which also tells who signed them; more of them, a growing number at once, where
those were found and nobody who was asked says more. A prefix of one holder thus costs as much for 256 blocks as for 16.

Owns: which blocks are discovered when, when a search is done. Must not know: how a block is discovered, whether a
holder may be asked, what is in a block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

from ndn_infer import clock
from ndn_infer.kv.prefix import Sources
from ndn_infer.ndn.name import Name
from ndn_infer.transport.objects.fetched import Discovered

log = logging.getLogger(__name__)

FIRST: Final = 16
"""Blocks that are discovered before anybody said which ones he holds, where those are all."""
FEW: Final = 4
"""The same where there are more: whoever signed them is asked for the rest. FIRST more where that does not help."""
GROWTH: Final = 4
"""Each time that all of them were found and there are more."""


class Sought(Protocol):
    """Answers the questions of a search (discovery.BlockDiscovery)."""

    async def discover(self, value: bytes) -> Discovered | None:
        """The verified manifest of a block, from whomever the network asks."""
        ...

    async def ask(self, identity: Name, values: Sequence[bytes]) -> list[int]:
        """What `identity` says it holds of `values`: versions, 0 for none."""
        ...

    def more_to_ask(self, signer: Name, asked: Sequence[Name]) -> bool:
        """Whether the signer of a block that was found can tell which others it holds."""
        ...

    def patience_s(self) -> float:
        """For one answer; a search takes four times as long at most. An eighth of it is about a round trip."""
        ...


class Search:
    """One search. `asked` are those to ask at once."""

    def __init__(self, sought: Sought, values: Sequence[bytes], asked: Sequence[Name]) -> None:
        self._sought = sought
        self._values = values
        self._sources = Sources(values)
        self._missed: set[int] = set()
        """Blocks whose discovery has ended with nothing."""
        self._limit = 0
        """Blocks before it were discovered or claimed before discovery came to them."""
        self._asked = list(asked)
        self.unanswered = len(asked)
        """Of those that were to be asked which blocks they hold."""
        self._learned = 0
        """Of those that were asked because they signed what was found: nobody waits for them longer than for a round
        trip, as the packets of a producer outlive it."""
        self._hoped_until = clock.monotonic() + sought.patience_s() / 8
        """As long as answers of holders are awaited, no more blocks are discovered."""
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> Sources:
        """Sources of the longest prefix that somebody holds."""
        # Discovery first: the network's nearest holder then sends its manifests before it says that it has them.
        self._widen()
        for identity in self._asked:
            self._begin(self._ask_known(identity))
        try:
            async with asyncio.timeout(4 * self._sought.patience_s()):
                while not self._done():
                    await self._next()
        except TimeoutError:
            log.info("only %d of %d KV blocks were answered for in time", self._sources.settled, len(self._values))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._sources

    def _done(self) -> bool:
        """Whether all blocks are settled up to the first that nobody has."""
        settled = self._sources.settled
        return settled == len(self._values) or (settled in self._missed and self.unanswered == 0)

    async def _next(self) -> None:
        """Until something was heard; discovers more where all that was discovered is there."""
        self._news.clear()
        if self._sources.settled < self._limit:
            await self._news.wait()
            return
        hoped_s = self._hoped_until - clock.monotonic()
        if (self.unanswered or self._learned) and hoped_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), hoped_s)
        else:
            self._widen()

    def _widen(self) -> None:
        """Discover the next blocks that nobody claims."""
        first = self._sources.settled
        more = FEW if not self._limit and len(self._values) > FIRST else FIRST
        self._limit = min(max(first + more, GROWTH * self._limit), len(self._values))
        for number in range(first, self._limit):
            if not self._sources.is_claimed(number):
                self._begin(self._discover(number))

    async def _discover(self, number: int) -> None:
        found = await self._sought.discover(self._values[number])
        if found is None:
            self._missed.add(number)
        else:
            self._sources.discovered(number, found)
        self._news.set()
        if found is not None and self._limit < len(self._values):
            await self._learn(found.signed_by.identity)

    async def _learn(self, signer: Name) -> None:
        """Ask it, and not in another task: what else came with the first block, and is verified, would go before the
        question."""
        if self._sought.more_to_ask(signer, self._asked):
            self._asked.append(signer)
            self._learned += 1
            self._hoped_until = clock.monotonic() + self._sought.patience_s() / 8
            await self._ask(signer)
            self._learned -= 1
            self._news.set()

    async def _ask_known(self, identity: Name) -> None:
        await self._ask(identity)
        self.unanswered -= 1
        self._news.set()

    async def _ask(self, identity: Name) -> None:
        versions = await self._sought.ask(identity, self._values)
        if any(versions):
            self._sources.claimed(identity, versions)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))
