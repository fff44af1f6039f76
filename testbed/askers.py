"""Askers (asker.py) by node: orders written, rows read.

Owns: their pipes, which line belongs to which question. Must not know: what a question costs or shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ndn_infer.testbed.node_process import NodeProcess
from ndn_infer.testbed.process_network import ProcessNetwork
from ndn_infer.testbed.world import AnswerProgress, Prompt, PromptOutcome

ASKER = "asker"
READY_TIMEOUT_S = 60.0
PATIENCE_S = 5.0
"""After it was told to stop asking: then the process is believed to be dead."""


@dataclass(slots=True)
class _WaitingAsk:
    done: asyncio.Future[PromptOutcome]
    progress: AnswerProgress


@dataclass(slots=True)
class Asker:
    """The consumers of one node."""

    node: str
    process: NodeProcess
    _numbers: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)
    _waiting: dict[int, _WaitingAsk] = field(default_factory=dict)
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, network: ProcessNetwork, node: str) -> Asker:
        """Raises ChildFailed."""
        command = network.module("ndn_infer.testbed.asker")
        found = cls(node, network.process(node, ASKER, command))
        await found.process.start(READY_TIMEOUT_S)
        found._reading = asyncio.create_task(found._read())
        return found

    async def ask(self, what: Prompt, progress: AnswerProgress | None) -> PromptOutcome:
        """The row, `began_s` by CLOCK_MONOTONIC. Cancelled, the reader leaves."""
        number, waiting = (
            self._numbers(),
            _WaitingAsk(asyncio.get_running_loop().create_future(), progress or AnswerProgress()),
        )
        if self._reading is None or self._reading.done():
            return PromptOutcome(self.node, 0.0, error=f"the consumers on {self.node} are gone")
        self._waiting[number] = waiting
        self._write({"id": number, "ask": asdict(what)})
        try:
            return await waiting.done
        except asyncio.CancelledError:
            self._write({"id": number, "leave": True})
            raise
        finally:
            self._waiting.pop(number, None)
            waiting.progress.ended()

    def _write(self, order: dict[str, Any]) -> None:
        process = self.process.process
        assert process is not None and process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _read(self) -> None:
        """Until it ends; whoever still waits is told."""
        process = self.process.process
        assert process is not None and process.stdout is not None
        try:
            async for line in process.stdout:
                if line.startswith(b"{"):  # what libraries print is no answer
                    self._take(json.loads(line))
        finally:
            for waiting in self._waiting.values():
                if not waiting.done.done():
                    waiting.done.set_result(PromptOutcome(self.node, 0.0, error=f"the consumers on {self.node} died"))

    def _take(self, message: dict[str, Any]) -> None:
        waiting = self._waiting.get(message["id"])
        if waiting is None:
            return
        if "tokens" in message:
            waiting.progress.came(message["tokens"], message["at"])
        elif not waiting.done.done():
            waiting.done.set_result(replace(_row(message["row"]), node=self.node))

    async def stop(self) -> None:
        await self.process.stop()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


def _row(document: dict[str, Any]) -> PromptOutcome:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    return PromptOutcome(**fields)
