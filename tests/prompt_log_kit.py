"""A prompt log, its writers and its witnesses in one process: real packets, files that can be copied and searched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log.live.book import LogBook
from ndn_infer.prompt_log.live.client import LogClient
from ndn_infer.prompt_log.live.log import PromptLog
from ndn_infer.prompt_log.live.reader import LogReader
from ndn_infer.prompt_log.live.spool import Spool
from ndn_infer.prompt_log.live.users import UserKeys
from ndn_infer.prompt_log.live.writer import LogWriter
from ndn_infer.prompt_log.policy import LogPolicy
from ndn_infer.prompt_log.said import ASKED, PromptRecord
from ndn_infer.security.askers import Askers
from ndn_infer.security.keychain import Keychain
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.transport.calls.direct import Direct, Questions
from ndn_infer.transport.objects.serve import Server
from tests.harness import NET, Node, keychain_in, role

LOG = role("log")
WITNESS = role("log", "lab", "w1")
MACHINE = ndn.prefix(LOG, -1)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@dataclass(slots=True)
class RunningLog:
    node: Node
    log: PromptLog
    store: TieredStore

    @property
    def book(self) -> LogBook:
        return self.log.book


@dataclass(slots=True)
class LogWorld:
    """`files` has all that the log and its writers write."""

    network: MemoryNetwork
    keychain: Keychain
    files: Path
    writer: Node
    _ends: AsyncExitStack = field(default_factory=AsyncExitStack)

    @asynccontextmanager
    async def log(self, folder: Path | None = None) -> AsyncIterator[RunningLog]:
        """The log over these files, as long as the block lasts."""
        folder = folder or self.files / "log"
        node = await self.node()
        store = TieredStore(1 << 20, DiskStore(folder / "objects", 1 << 30))
        signer = self.keychain.signer_for(LOG)
        try:
            log = PromptLog(LogBook(store.disk, NET, signer), UserKeys(folder / "users"), node.fetcher)
            server = Server(node.endpoint, store)
            questions = Questions(server, Askers(node.validator))
            server.serve(LOG, signer)
            log.answer(questions, signer)
            await node.registrar.register(LOG)
            yield RunningLog(node, log, store)
            await questions.close()
            await log.close()
        finally:
            await node.close()
            store.close()

    async def node(self) -> Node:
        node = await Node(self.network, self.keychain, Config()).open()
        node.validator.add_certificates(*self.keychain.certificates())
        return node

    async def reader(self) -> LogReader:
        node = await self.node()
        self._ends.push_async_callback(node.close)
        return LogReader.of(NET, LOG, node.fetcher, node.validator)

    def client(self, signer: Name = b"") -> LogClient:
        direct = Direct(self.writer.endpoint, self.writer.validator)
        return LogClient(direct, LOG, self.keychain.signer_for(signer or role("user")), self.writer.inputs)

    def log_writer(self, *, refuse: bool, most_bytes: int = 1 << 20, wait_s: float = 30.0) -> LogWriter:
        policy = LogPolicy("public", LOG, "gateway", refuse)
        return LogWriter(policy, self.client(), Spool(self.files / "spool", most_bytes), wait_s)


@asynccontextmanager
async def log_world(folder: Path) -> AsyncIterator[LogWorld]:
    network, keychain = MemoryNetwork(), keychain_in(folder / "keys", "log", "user", "decode")
    keychain.ensure(WITNESS, MACHINE)
    writer = await Node(network, keychain, Config(), asks_as="user").open()
    writer.validator.add_certificates(*keychain.certificates())
    world = LogWorld(network, keychain, folder / "files", writer)
    world.files.mkdir()
    try:
        yield world
    finally:
        await world._ends.aclose()
        await writer.close()
        network.close()


def asked(user: str, text: str, **more: object) -> PromptRecord:
    return PromptRecord(ASKED, "call1", 0, user, ndn.to_uri(role("user")), text=text, **more)  # type: ignore[arg-type]
