"""The network's thread beside vLLM: one for the scheduler's half, one for each worker's.

Owns: what crosses between the threads. Everything here returns at once; what was asked for comes as a future or is
collected later. Must not know: vLLM, how blocks are found, fetched or published.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError
from ndn_infer.security.domains import Domain
from ndn_infer.vllm.finder import Found, PrefixFinder
from ndn_infer.vllm.jobs import LoadJob, SavedBlock
from ndn_infer.vllm.loader import BlockLoader
from ndn_infer.vllm.loop_thread import NetworkThread
from ndn_infer.vllm.member import VllmMember, domain_files, join_sooner_or_later
from ndn_infer.vllm.publisher import BlockPublisher
from ndn_infer.vllm.running_load import Place, RunningLoad
from ndn_infer.vllm.settings import ConnectorSettings
from ndn_infer.vllm.spaces import RankBlocks
from ndn_infer.vllm.staging import StagingRoom
from ndn_infer.vllm.tenants import SaltDomains

log = logging.getLogger(__name__)


class SchedulerNetwork:
    """Finds blocks. `ranks`: what the workers hold, once they have said so."""

    def __init__(self, config: Config, settings: ConnectorSettings) -> None:
        self._settings = settings
        self._ranks: tuple[RankBlocks, ...] = ()
        self._finder: PrefixFinder | None = None
        self._member: VllmMember | None = None
        self._peers = [ndn.from_uri(uri) for uri in settings.peers]
        self._joined = threading.Event()
        self._thread = NetworkThread("ndn-infer lookups")
        self._thread.submit(join_sooner_or_later(config, self._on_joined, serves=False))

    async def _on_joined(self, member: VllmMember) -> None:
        self._member = member
        self._make()
        self._joined.set()

    def _make(self) -> None:
        if self._member is not None and self._ranks:
            whole_s = max(self._settings.lookup_ms, 1.0) / 1000
            self._finder = PrefixFinder(self._member, self._ranks, self._peers, whole_s)

    def tell(self, ranks: Sequence[RankBlocks]) -> None:
        """What the workers hold."""
        self._ranks = tuple(ranks)
        self._thread.post(self._make)

    @property
    def ready(self) -> bool:
        """Whether blocks can be asked for."""
        return self._finder is not None

    @property
    def counters(self) -> Counter[str]:
        return self._member.counters if self._member is not None else Counter()

    def wait_joined(self, timeout_s: float) -> bool:
        return self._joined.wait(timeout_s)

    def find(self, domain: Domain, values: Sequence[bytes]) -> concurrent.futures.Future[Found]:
        return self._thread.submit(self._find(domain, values))

    async def _find(self, domain: Domain, values: Sequence[bytes]) -> Found:
        return [] if self._finder is None else await self._finder.find(domain, values)

    def close(self) -> None:
        self._thread.close()


@dataclass(frozen=True, slots=True)
class WorkerPart:
    """What a worker's network is for: its rank's blocks, its number among the ranks, and how blocks are placed."""

    rank: RankBlocks
    number: int
    place: Place


class WorkerNetwork:
    """Fetches and publishes blocks of one rank."""

    def __init__(self, config: Config, settings: ConnectorSettings, part: WorkerPart) -> None:
        self._settings = settings
        self._part = part
        self._domains: Final = SaltDomains(domain_files(config))
        self._stage = StagingRoom(int(settings.stage_mib) << 20)
        self._lock = threading.Lock()
        self._dropped: list[tuple[str, bytes]] = []
        self._member: VllmMember | None = None
        self._loader: BlockLoader | None = None
        self._publisher: BlockPublisher | None = None
        self._joined = threading.Event()
        self.counters: Final[Counter[str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = NetworkThread("ndn-infer KV")
        self._thread.submit(join_sooner_or_later(config, self._on_joined, serves=True))

    async def _on_joined(self, member: VllmMember) -> None:
        publisher = BlockPublisher(member, self._part.rank)
        try:
            await publisher.begin()
            public = self._domains.of_label("public")
            assert public is not None
            await publisher.space(public)
        except NdnInferError as error:
            log.error("KV blocks are not offered: %s", error)
        self._member, self._publisher = member, publisher
        self._loader = BlockLoader(member, self._part.rank, self._part.number)
        self._joined.set()

    def wait_joined(self, timeout_s: float) -> bool:
        return self._joined.wait(timeout_s)

    # ------------------------------------------------------------ loading

    def load(self, job: LoadJob) -> RunningLoad:
        """Begin a load. It ends, whatever happens."""
        running = RunningLoad(job, 1.5 * self._settings.load_timeout_s, self._part.place)
        if not self._thread.post(lambda: self._start(running)):
            running.end()
        return running

    def _start(self, running: RunningLoad) -> None:
        running.task = asyncio.get_running_loop().create_task(self._load(running))
        self._tasks.add(running.task)
        running.task.add_done_callback(self._tasks.discard)

    async def _load(self, running: RunningLoad) -> None:
        try:
            domain = self._domains.of_label(running.job.domain)
            if self._loader is not None and domain is not None:
                await self._loader.load(running, domain, self._settings.load_timeout_s)
        finally:
            running.end()

    def cancel(self, running: RunningLoad) -> None:
        """Nobody wants these blocks any more; it ends soon."""
        self._thread.post(lambda: running.task is not None and running.task.cancel())

    # ------------------------------------------------------------ saving

    def room(self, size: int) -> bool:
        """Whether one more block of this size may be handed over to `save`."""
        return self._stage.take(size)

    def save(self, block: SavedBlock, content: bytearray) -> None:
        """Publish a block for which there was room."""
        if not self._thread.post(lambda: self._thread.submit(self._publish(block, content))):
            self._stage.give(len(content))

    async def _publish(self, block: SavedBlock, content: bytearray) -> None:
        try:
            domain = self._domains.of_label(block.domain)
            if self._publisher is None or domain is None:
                self.drop(block)
                return
            await self._publisher.publish(domain, block.value, content)
        except NdnInferError as error:
            log.warning("a KV block is not published: %s", error)
            self.drop(block)
        finally:
            self._stage.give(len(content))

    def drop(self, block: SavedBlock) -> None:
        """It is not going to be published."""
        with self._lock:
            self._dropped.append((block.domain, block.value))
            self.counters["kv_saves_dropped"] += 1

    def dropped(self) -> list[tuple[str, bytes]]:
        """Blocks that were not published, since this was asked last."""
        with self._lock:
            gone, self._dropped = self._dropped, []
        return gone

    @property
    def member_counters(self) -> Counter[str]:
        """As the status record has them."""
        return self._member.counters if self._member is not None else Counter()

    @property
    def staged_bytes(self) -> int:
        return self._stage.used

    def close(self) -> None:
        self._thread.close()
