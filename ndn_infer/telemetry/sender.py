"""Sends ended spans to a collector, as OTLP over HTTP.

Owns: when spans are sent and what happens when nobody takes them. Must not know: what they say. Between two answers it
waits for an event and does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from ndn_infer import clock
from ndn_infer.telemetry.otlp import document
from ndn_infer.telemetry.spans import Tracer

log = logging.getLogger(__name__)

TOGETHER_S: Final = 1.0
"""Spans that end within so long are sent together."""
AT_ONCE: Final = 512
TIMEOUT_S: Final = 5.0
LAST_S: Final = 2.0
"""For what is left at the end."""
WARN_EVERY_S: Final = 60.0


@contextlib.asynccontextmanager
async def sending(tracer: Tracer, endpoint: str) -> AsyncIterator[None]:
    """While the block lasts, and what is left at its end."""
    url = endpoint if endpoint.rstrip("/").endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    async with ClientSession(timeout=ClientTimeout(TIMEOUT_S)) as session:
        sender = _Sender(tracer, url, session)
        task = asyncio.get_running_loop().create_task(sender.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await sender.send_all()


class _Sender:
    def __init__(self, tracer: Tracer, url: str, session: ClientSession) -> None:
        self._tracer = tracer
        self._url = url
        self._session = session
        self._ended = asyncio.Event()
        self._warned_at = -WARN_EVERY_S
        tracer.on_ended = self._ended.set

    async def run(self) -> None:
        while True:
            await self._ended.wait()
            await asyncio.sleep(TOGETHER_S)
            self._ended.clear()
            await self.send_all()

    async def send_all(self) -> None:
        """What a collector does not take is dropped: traces are no reason to use memory."""
        waiting = self._tracer.waiting
        while waiting:
            spans = [waiting.popleft() for _ in range(min(len(waiting), AT_ONCE))]
            try:
                async with self._session.post(self._url, json=document(self._tracer.service, spans)) as answer:
                    if answer.status >= 400:
                        self._dropped(len(spans), f"status {answer.status}")
            except (ClientError, TimeoutError, OSError) as error:
                self._dropped(len(spans), str(error) or type(error).__name__)

    def _dropped(self, count: int, why: str) -> None:
        self._tracer.dropped += count
        now = clock.monotonic()
        if now >= self._warned_at + WARN_EVERY_S:
            self._warned_at = now
            log.warning("%s takes no traces: %s; %d spans were dropped so far", self._url, why, self._tracer.dropped)
