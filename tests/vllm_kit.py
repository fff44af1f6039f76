"""vLLM instances without vLLM: nodes of one network that publish, find and load made-up blocks.

Owns: what such an instance is, and what its blocks hold.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.security.access import Access
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.calls.direct import Questions
from ndn_infer.transport.link.links import Link, connect
from ndn_infer.vllm.codec import BlockShape
from ndn_infer.vllm.finder import Found, PrefixFinder
from ndn_infer.vllm.jobs import LoadedBlock, LoadJob
from ndn_infer.vllm.loader import BlockLoader
from ndn_infer.vllm.member import VllmMember
from ndn_infer.vllm.publisher import BlockPublisher
from ndn_infer.vllm.running_load import RunningLoad
from ndn_infer.vllm.spaces import RankBlocks
from tests.harness import NET, Node, role

SHAPE = BlockShape(128, (6000,) * 5, bytes(range(16)))
RANK = RankBlocks("ab" * 32, "vllm.0123", "0-4", SHAPE)
VALUES = [random.Random(number).randbytes(32) for number in range(12)]
TENANT = DomainEpoch("0123456789abcdef" * 2, 1, bytes(range(32)))


def content_of(value: bytes) -> bytearray:
    """The one right content under a chain value."""
    content, payload = SHAPE.room()
    payload[:] = random.Random(value).randbytes(len(payload))
    return content


class Instance(Node):
    """`uri`: of another forwarder than the one in this process."""

    uri = ""

    async def _dial(self) -> Link:
        return await connect(self.uri, 5.0) if self.uri else await super()._dial()

    async def start(self, name: str) -> Instance:
        await self.open()
        signer = self.keychain.signer_for(role("vllm", node=name))
        access = Access(list, signer, self.validator)
        self.validator.add_certificates(*self.keychain.certificates())
        self.member = VllmMember(self.joined, signer, self.server, self.caller, Questions(self.server), access)
        self.publisher, self.loader = BlockPublisher(self.member, RANK), BlockLoader(self.member, RANK, 0)
        await self.publisher.begin()
        await self.publisher.space(PUBLIC)
        self.pages: dict[int, bytes] = {}
        return self

    async def hold(self, values: Sequence[bytes], domain: Domain = PUBLIC) -> None:
        for value in values:
            await self.publisher.publish(domain, value, content_of(value))

    async def find(self, *peers: Instance, domain: Domain = PUBLIC) -> Found:
        finder = PrefixFinder(self.member, [RANK], [peer.member.signer.identity for peer in peers], 0.4)
        return await finder.find(domain, VALUES)

    async def load(self, found: Found, domain: Domain = PUBLIC, timeout_s: float = 10.0) -> RunningLoad:
        blocks = tuple(
            LoadedBlock(value, 100 + number, held)
            for number, (value, held) in enumerate(zip(VALUES, found, strict=False))
        )
        place = lambda block, payload: self.pages.__setitem__(block, bytes(payload))  # noqa: E731
        running = RunningLoad(LoadJob("r", domain.label, blocks, False), 100.0, place)
        await self.loader.load(running, domain, timeout_s)
        running.end()
        return running

    def all_right(self) -> bool:
        return all(page == bytes(SHAPE.payload(content_of(VALUES[at - 100]))) for at, page in self.pages.items())

    def wires(self, value: bytes, domain: Domain = PUBLIC) -> dict[bytes, bytes]:
        packets = self.server.store.get(RANK.subject(domain.label).name(NET, value))
        assert packets is not None
        return packets.packets


@asynccontextmanager
async def instances(count: int = 2, uri: str = "") -> AsyncIterator[list[Instance]]:
    names = [f"n{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        keychain = Keychain.open_or_create(Path(folder), NET)
        keychain.ensure(NET + ndn.generic("operator"), *(role("vllm", node=name) for name in names))
        network = MemoryNetwork()
        made = [Instance(network, keychain, Config()) for _ in names]
        try:
            for instance, name in zip(made, names, strict=True):
                instance.uri = uri
                await instance.start(name)
            yield made
        finally:
            for instance in made:
                await instance.member.questions.close()
                await instance.close()
            network.close()
