"""A worker's half: blocks from the paged cache to the network's thread, and into it.

Owns: loads in flight, which blocks failed, copying what is saved. Must not know: vLLM's classes, how anything is
fetched or published.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from ndn_infer.vllm.codec import BlockShape
from ndn_infer.vllm.jobs import SavedBlock, StepJobs
from ndn_infer.vllm.network import WorkerNetwork
from ndn_infer.vllm.pages import PagedCache
from ndn_infer.vllm.running_load import RunningLoad


class WorkerSide:
    def __init__(self, network: WorkerNetwork, cache: PagedCache, shape: BlockShape) -> None:
        self._network = network
        self._cache = cache
        self._shape = shape
        self._loads: dict[str, RunningLoad] = {}
        self._failed: set[int] = set()
        self.counters: Counter[str] = Counter()

    def begin_step(self, jobs: StepJobs) -> None:
        """Before the model runs: blocks that this step may overwrite."""
        self._save(jobs.before)

    def load(self, jobs: StepJobs) -> None:
        """Begin the loads; wait for those that this step needs."""
        for job in jobs.loads:
            running = self._network.load(job)
            if job.now:
                running.wait()
                self._failed |= running.failed
            else:
                self._loads[job.request] = running

    def end_step(self, jobs: StepJobs) -> None:
        """After the model ran: blocks that are complete now."""
        self._save(jobs.after)

    def finished_loads(self, gone: Iterable[str]) -> set[str]:
        """Requests whose loads have ended; those of requests that are `gone` are cancelled, and end soon."""
        for request in gone:
            if request in self._loads:
                self._network.cancel(self._loads[request])
        done = {request for request, running in self._loads.items() if running.ended()}
        for request in done:
            self._failed |= self._loads.pop(request).failed
        return done

    def failed_blocks(self) -> set[int]:
        """Blocks that could not be had, since this was asked last."""
        failed, self._failed = self._failed, set()
        return failed

    @property
    def loading(self) -> int:
        return len(self._loads)

    def _save(self, blocks: Sequence[SavedBlock]) -> None:
        """Copies of them go to the network's thread, as many as it has room for."""
        began = time.perf_counter()
        for block in blocks:
            if not self._network.room(self._shape.content_bytes):
                self._network.drop(block)
                continue
            self._network.save(block, self._cache.read(block.block, self._shape))
            self.counters["blocks_saved"] += 1
        if blocks:
            self.counters["save_us"] += round((time.perf_counter() - began) * 1e6)
