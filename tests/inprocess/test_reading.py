"""Ways to read an object: whole, in order as it comes, a range, and on from where an earlier try ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.config import Config, FetchConfig
from ndn_infer.errors import BadPacket, BadRecord, FetchIncomplete, Timeout
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.namespace import Result
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.objects import fetch
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, SEGMENT_BYTES, ObjectPackets, build_object, encode_manifest
from ndn_infer.wire.peek import data_name
from tests.harness import NET, Node, keychain_in, role

CONFIG = replace(Config(), fetch=replace(FetchConfig(), deadline_s=2.0, lifetime_ms=500))
BASE = Result("corpus", "cd" * 32, "lookup", "12" * 32).to_name(NET)


@dataclass
class Pair:
    consumer: Node
    producer: Node

    def publish(self, size: int, number: int = 0) -> tuple[bytes, bytes]:
        content = random.Random(size).randbytes(size)
        base = Result("corpus", "cd" * 32, "lookup", f"{number:064x}").to_name(NET)
        self.producer.server.publish(base, content, self.signer)
        return base, content

    @property
    def signer(self) -> Signer:
        return self.producer.keychain.signer_for(role("rag"))


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    network, keychain = MemoryNetwork(), keychain_in(tmp_path, "rag")
    producer, consumer = Node(network, keychain, CONFIG), Node(network, keychain, CONFIG)
    for node in (producer, consumer):
        await node.open()
    producer.server.answer_certificates(NET, keychain.certificates)
    producer.server.serve(NET + ndn.generic("corpus"), keychain.signer_for(role("rag")))
    await producer.registrar.register(NET)
    try:
        yield Pair(consumer, producer)
    finally:
        await consumer.close()
        await producer.close()
        network.close()


async def test_whole_in_order_and_by_range(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        for number, size in enumerate((0, 1, 4096, 4097, 8000, 8001, 100_000, 1_700_000)):  # the last has two levels
            base, content = net.publish(size, number)
            fetcher = net.consumer.fetcher
            found = await fetcher.discover(base)
            seen: list[tuple[int, int]] = []

            def tell(done: int, of: int, seen: list[tuple[int, int]] = seen) -> None:
                seen.append((done, of))

            fetched = await fetcher.collect(found, most=size, progress=tell)
            assert fetched.content == content
            if fetched.segments:
                assert seen[-1] == (fetched.segments, fetched.segments)
            place = bytearray(size + 3)
            assert (await fetcher.read_into(found, place)).size == size
            assert place == content + b"\0\0\0"
            assert b"".join([piece async for piece in fetcher.stream(found)]) == content
            for start, length in ((0, 10), (size // 2, 9000), (max(0, size - 5), 100), (size, 1)):
                assert await fetcher.read(found, start, length) == content[start : start + length]
            with pytest.raises(BadPacket):
                await fetcher.read(found, size + 1, 1)


async def test_of_an_object_above_the_bound_nothing_is_fetched(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, content = net.publish(400_000)
        fetcher = net.consumer.fetcher
        found, sent = await fetcher.discover(base), fetcher.stats.sent
        for reading in (fetcher.collect(found, most=399_999), fetcher.packets(found, most=399_999)):
            with pytest.raises(BadRecord, match="400000 bytes; 399999 are the most"):
                await reading
        assert fetcher.stats.sent == sent
        with pytest.raises(BadRecord, match="are the most"):
            await fetcher.fetch(base, most=399_999)
        assert (await fetcher.fetch(base, most=400_000)).content == content


async def test_a_manifest_that_promises_too_few_bytes_gets_no_more_fetched(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, signer = Result("corpus", "cd" * 32, "lookup", "ff" * 32).to_name(NET), net.signer
        honest = build_object(base, 1, random.Random(1).randbytes(1_700_000), signer.sign_data)
        lie = replace(honest.manifest, size=100)
        wire = signer.sign_data(honest.metadata_name, encode_manifest(lie), final_block=ndn.segment(0))
        net.producer.server.put(ObjectPackets(base, lie, wire, honest.metadata_name, honest.packets))
        fetcher = net.consumer.fetcher
        found = await fetcher.discover(base)
        for read in (fetcher.collect, fetcher.packets):
            before = fetcher.stats.sent
            with pytest.raises(BadPacket, match="more bytes"):
                await read(found, most=100)
            assert fetcher.stats.sent - before < 150


async def test_packets_that_come_too_slowly_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickle(*_: object, **__: object) -> ObjectPackets:
        await asyncio.Event().wait()
        raise AssertionError

    async with pair(tmp_path) as net:
        base, _ = net.publish(1000)
        fetcher = net.consumer.fetcher.apart(deadline_s=0.01, window_limit=4)
        found = await fetcher.discover(base)
        monkeypatch.setattr(fetch, "pull_packets", trickle)
        with pytest.raises(Timeout, match="too slowly"):
            await fetcher.packets(found, most=1000)


async def test_a_range_fetches_its_segments_only(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, content = net.publish(800_000)
        found = await net.consumer.fetcher.discover(base)
        before = net.producer.server.store, net.producer.endpoint.stats.data_out
        assert await net.consumer.fetcher.read(found, 400_000, 8000) == content[400_000:408_000]
        assert net.producer.endpoint.stats.data_out - before[1] == 1


async def test_a_sealed_stream_is_read_by_range_too(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        signer = net.producer.keychain.signer_for(role("rag"))
        stream = net.producer.server.open_stream(BASE, signer)
        parts = [random.Random(number).randbytes(number * 3) for number in range(50)]
        for number, part in enumerate(parts):
            stream.append(part, final=number == len(parts) - 1)
        content, found = b"".join(parts), await net.consumer.fetcher.discover(BASE)
        assert (await net.consumer.fetcher.collect(found, most=MAX_OBJECT_BYTES)).content == content
        for start, length in ((0, 1), (100, 1000), (len(content) - 3, 50)):
            assert await net.consumer.fetcher.read(found, start, length) == content[start : start + length]


async def test_what_failed_is_resumed_without_fetching_anything_twice(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, content = net.publish(400_000)
        lost = {base_name for number in (7, 31) for base_name in (ndn.segment(number),)}

        def tamper(wire: bytes) -> bytes | None:
            at = wire.find(b"\x06")
            try:
                name = data_name(wire[at:])
            except (BadPacket, IndexError):
                return wire
            return None if any(name.endswith(component) for component in lost) else wire

        net.producer.link.tamper_up = tamper
        found = await net.consumer.fetcher.discover(base)
        with pytest.raises(FetchIncomplete) as caught:
            await net.consumer.fetcher.collect(found, most=MAX_OBJECT_BYTES)
        assert caught.value.missing == (7, 31)
        assert len(caught.value.contents) == 48
        net.producer.link.tamper_up = None
        sent = net.consumer.fetcher.stats.sent
        fetched = await net.consumer.fetcher.collect(found, most=MAX_OBJECT_BYTES, have=caught.value.contents)
        assert fetched.content == content
        assert net.consumer.fetcher.stats.sent - sent == 2


async def test_a_slow_reader_holds_the_network_back(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, content = net.publish(SEGMENT_BYTES * 3000)
        found = await net.consumer.fetcher.discover(base)
        stream = net.consumer.fetcher.stream(found)
        first = await anext(stream)
        for _ in range(200):
            await asyncio.sleep(0)
        sent = net.consumer.fetcher.stats.sent
        await asyncio.sleep(0.2)
        assert net.consumer.fetcher.stats.sent <= max(sent, 1100), "asked for what nobody takes"
        rest = b"".join([piece async for piece in stream])
        assert bytes(first) + rest == content


async def test_a_reader_that_leaves_early_leaves_nothing_behind(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, _ = net.publish(SEGMENT_BYTES * 500)
        found = await net.consumer.fetcher.discover(base)
        stream = net.consumer.fetcher.stream(found)
        await anext(stream)
        await stream.aclose()
        assert net.consumer.fetcher._pulls.puller.idle
        assert not net.consumer.endpoint.numbered


async def test_two_readers_of_one_object_share_packets_and_both_get_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        base, content = net.publish(300_000)
        fetcher = net.consumer.fetcher
        other = Fetcher(net.consumer.endpoint, net.consumer.validator, CONFIG.fetch)
        found = await fetcher.discover(base)
        results = await asyncio.gather(
            fetcher.collect(found, most=MAX_OBJECT_BYTES),
            fetcher.collect(found, most=MAX_OBJECT_BYTES),
            other.collect(found, most=MAX_OBJECT_BYTES),
        )
        assert all(result.content == content for result in results)
