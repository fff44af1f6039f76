"""The connector's network side without vLLM: instances publish, find and load blocks over the real forwarder core, in
virtual time. Whatever a holder does, a block is right or reported, and a load ends."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.security.access import Access
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.calls.direct import Questions
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
async def instances(count: int = 2) -> AsyncIterator[list[Instance]]:
    names = [f"n{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        keychain = Keychain.open_or_create(Path(folder), NET)
        keychain.ensure(NET + ndn.generic("operator"), *(role("vllm", node=name) for name in names))
        network = MemoryNetwork()
        made = [Instance(network, keychain, Config()) for _ in names]
        try:
            for instance, name in zip(made, names, strict=True):
                await instance.start(name)
            yield made
        finally:
            for instance in made:
                await instance.member.questions.close()
                await instance.close()
            network.close()


def played(work: Callable[..., Awaitable[None]], count: int = 2) -> None:
    async def whole() -> None:
        async with instances(count) as made:
            await work(*made)

    run_virtual(whole)


def test_blocks_are_found_and_placed() -> None:
    async def work(a: Instance, b: Instance) -> None:
        await a.hold(VALUES[:7])
        found = await b.find(a)
        assert len(found) == 7
        running = await b.load(found)
        assert not running.failed and len(b.pages) == 7 and b.all_right()
        assert b.member.counters["kv_blocks_loaded"] == 7

    played(work)


def test_a_prefix_of_two_holders_and_what_nobody_holds() -> None:
    async def work(a: Instance, b: Instance, c: Instance) -> None:
        assert await c.find(a, b) == []
        await asyncio.sleep(0.1)  # caches keep an answer for 10 ms
        await a.hold(VALUES[:3])
        await b.hold([*VALUES[3:5], VALUES[6]])
        found = await c.find(a, b)
        assert len(found) == 5
        assert not (await c.load(found)).failed and len(c.pages) == 5 and c.all_right()

    played(work, 3)


def flipped(wire: bytes) -> bytes:
    return wire[:-40] + bytes([wire[-40] ^ 1]) + wire[-39:]


@pytest.mark.parametrize("harm", ["tampered", "truncated", "swapped", "withheld", "forgotten"])
def test_harm_to_a_block_is_reported_and_not_placed(harm: str) -> None:
    async def work(a: Instance, b: Instance) -> None:
        await a.hold(VALUES[:6])
        found = await b.find(a)
        assert len(found) == 6
        wires = a.wires(VALUES[2])
        first = next(iter(wires))
        if harm == "tampered":
            wires[first] = flipped(wires[first])
        elif harm == "truncated":
            wires[first] = wires[first][:200]
        elif harm == "swapped":
            wires[first] = next(iter(a.wires(VALUES[3]).values()))
        elif harm == "withheld":
            del wires[first]
        else:
            a.server.store.remove(RANK.subject("public").name(NET, VALUES[2]))
        running = await b.load(found)
        assert running.failed == {102} and len(b.pages) == 5 and b.all_right()

    played(work)


def test_a_manifest_under_another_name_is_refused() -> None:
    async def work(a: Instance, b: Instance) -> None:
        await a.hold(VALUES[:3])
        found = await b.find(a)
        swapped = [found[0], (replace(found[2][0], claims=()),), found[2]]
        a.server.store.remove(RANK.subject("public").name(NET, VALUES[1]))
        assert (await b.load(swapped)).failed == {101} and b.all_right()

    played(work)


def test_a_holder_that_goes_leaves_a_load_that_ends() -> None:
    async def work(a: Instance, b: Instance) -> None:
        await a.hold(VALUES[:6])
        found = await b.find(a)
        await a.joined.close()
        running = await b.load(found, timeout_s=3.0)
        assert running.failed == {100 + number for number in range(6)} and not b.pages

    played(work)


def test_tenants_share_among_members_only_and_nothing_is_in_clear() -> None:
    async def work(a: Instance, b: Instance, c: Instance) -> None:
        await a.hold(VALUES[:4], TENANT)
        assert await b.find(a) == []
        await asyncio.sleep(0.1)
        found = await b.find(a, domain=TENANT)
        assert len(found) == 4
        clear = bytes(SHAPE.payload(content_of(VALUES[0])))
        for wire in a.wires(VALUES[0], TENANT).values():
            assert not any(clear[at : at + 16] in wire for at in range(0, len(clear), 500))
        other = DomainEpoch(TENANT.domain, 1, bytes(32))  # who has the label, and another key
        assert len((await c.load(found, other)).failed) == 4 and not c.pages
        assert not (await b.load(found, TENANT)).failed and b.all_right()

    played(work, 3)
