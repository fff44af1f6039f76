"""A load that runs in the network's thread, as vLLM's thread sees it.

Owns: when it ended and with what, and that nothing is written to the paged cache after that. Must not know: the
network.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from ndn_infer import clock
from ndn_infer.vllm.jobs import LoadJob

Place = Callable[[int, memoryview], None]
"""Writes a block's payload to its place in the paged cache."""


class RunningLoad:
    """`within_s`: after that it is given up, whatever the network's thread does."""

    def __init__(self, job: LoadJob, within_s: float, place: Place) -> None:
        self.job = job
        self.task: asyncio.Task[None] | None = None
        self._give_up_at = clock.monotonic() + within_s
        self._place = place
        self._lock = threading.Lock()
        self._placed: set[int] = set()
        self._ended = threading.Event()

    def place(self, block: int, payload: memoryview) -> None:
        """Write a verified block; not after the end."""
        with self._lock:
            if not self._ended.is_set():
                self._place(block, payload)
                self._placed.add(block)

    def end(self) -> None:
        """Nothing is written from now on."""
        with self._lock:
            self._ended.set()

    def ended(self) -> bool:
        """Whether it has; one that should have by now does."""
        if not self._ended.is_set() and clock.monotonic() >= self._give_up_at:
            self.end()
        return self._ended.is_set()

    def wait(self) -> None:
        """Until it ended."""
        self._ended.wait(max(self._give_up_at - clock.monotonic(), 0))
        self.end()

    @property
    def failed(self) -> set[int]:
        """Blocks that were not placed."""
        return {block.block for block in self.job.blocks} - self._placed
