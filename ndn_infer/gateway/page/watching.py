"""Looking at the network for as long as somebody looks at the page: one reading a second for all who do.

Owns: when datasets are read and offers are asked for. Must not know: HTTP, what the document says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from ndn_infer import clock
from ndn_infer.client import Client
from ndn_infer.errors import NdnInferError
from ndn_infer.gateway.page.network_map import MAX_PRODUCERS, MapReading, map_document
from ndn_infer.transport.objects.datasets import Datasets

READ_S: Final = 1.0
OFFERS_S: Final = 10.0
MAX_ALIASES: Final = 16


class NetworkWatch:
    """Reads between the first `watching` block and the end of the last."""

    def __init__(self, client: Client, forwarder: str) -> None:
        """`forwarder` is its URI."""
        self._client = client
        self._forwarder = forwarder
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._models: dict[str, str] = {}
        self._looked_at = 0.0
        self._before: MapReading | None = None
        self.number = 0
        self.document: dict[str, Any] = {}
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read_on())
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._task is not None:
                task, self._task = self._task, None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._before = None

    async def newer(self, number: int) -> dict[str, Any]:
        """The document after that of this number, inside a `watching` block."""
        while self.number <= number:
            await self._news.wait()
        return self.document

    async def once(self) -> dict[str, Any]:
        """One reading now. Raises what Datasets raises."""
        await self._look_for_offers()
        return map_document(await self._snapshot(), self._before)

    async def _read_on(self) -> None:
        while True:
            try:
                await self._look_for_offers()
                now = await self._snapshot()
                document = map_document(now, self._before)
                self._before = now
            except NdnInferError as error:
                document = {"error": str(error)}
                self._before = None
            self.number += 1
            self.document = document
            self._news.set()
            self._news = asyncio.Event()
            await asyncio.sleep(READ_S)

    async def _look_for_offers(self) -> None:
        now = clock.monotonic()
        if self._looked_at and now - self._looked_at < OFFERS_S:
            return
        self._looked_at = now
        with contextlib.suppress(NdnInferError):
            await self._client.offers.look()
        subjects = {
            one.subject for entry in self._client.offers.entries() for one in entry.offer.functions
            if one.subject_kind == "model" and one.subject not in self._models
        }  # fmt: skip
        for subject in list(subjects)[:MAX_ALIASES]:
            with contextlib.suppress(NdnInferError):
                self._models[subject] = (await self._client.conversation().resolve_model(subject)).alias

    async def _snapshot(self) -> MapReading:
        where = self._client.offers.where
        datasets = Datasets(where.endpoint)
        general, store = await datasets.general(), await datasets.content_store()
        faces, routes = await datasets.faces(), await datasets.routes()
        offers = sorted(self._client.offers.entries(), key=lambda entry: entry.hint)[:MAX_PRODUCERS]
        return MapReading(clock.monotonic(), self._forwarder, general, store, faces, routes, offers, dict(self._models))
