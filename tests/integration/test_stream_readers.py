"""A hundred readers of one stream on an edge-core tree, ends that move: real forwarder cores, wires between them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ndn_infer.forwarder.core.adaptive import ADAPTIVE
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.forwarder.shell.wire import Wire, WireShape
from ndn_infer.ndn.name import SEGMENT, component_type, components
from ndn_infer.ndn.packet import decode_data
from ndn_infer.ndn.tlv import DATA
from ndn_infer.transport.objects.live_stream import LiveStream
from tests.harness import NET, Node, keychain_in
from tests.inprocess.test_streams import CONFIG, Open, Reading, until, write

EDGES = 3
TOKENS = 30


@dataclass
class Tree:
    """`core` between `edges`; names lead over every edge, the adaptive strategy finds which."""

    core: MemoryNetwork
    edges: list[MemoryNetwork]
    producer: Node
    function: Open
    keys: Path
    left: Counter[int]
    """Segments that left the producer, by number."""

    async def reader(self, edge: int) -> Node:
        return await Node(self.edges[edge], self.producer.keychain, CONFIG).open()

    async def move(self, node: Node, edge: int) -> None:
        """Leave a forwarder, join another one."""
        node.network = self.edges[edge]
        node.link.close()
        await until(lambda: node.endpoint.connected and not node.link.closed)


@asynccontextmanager
async def tree(folder: Path) -> AsyncIterator[Tree]:
    core, edges = MemoryNetwork(), [MemoryNetwork(seed=number) for number in range(EDGES)]
    now = asyncio.get_running_loop().time()
    core.core.strategies.set(NET, ADAPTIVE)
    for number, edge in enumerate(edges):
        wire = Wire(WireShape(delay_s=0.002), ("core", f"edge{number}"), seed="tree")
        core.core.add_next_hop(NET, wire.join(0, core).id, 1, now)
        edge.core.add_next_hop(NET, wire.join(1, edge).id, 1, now)
    producer = await Node(edges[0], keychain_in(folder / "keys", "decode", "user"), CONFIG).open()
    function, left = Open(), Counter[int]()
    offered = await producer.produce(function)

    def count(wire: bytes) -> bytes:
        data = decode_data(wire) if wire[0] == DATA else None
        if data is not None and component_type(last := components(data.name)[-1]) == SEGMENT and data.content:
            left[int.from_bytes(last[2:])] += 1
        return wire

    producer.link.tamper_up = count
    yield Tree(core, edges, producer, function, folder, left)
    await offered.close()
    await producer.close()
    for network in (core, *edges):
        network.close()


async def _slowly(stream: LiveStream, first: int, last: int) -> None:
    for token in range(first, last + 1):
        await write(stream, token, token, end=TOKENS - 1)
        await asyncio.sleep(0.03)


@pytest.mark.timeout(120)
async def test_a_hundred_readers_cost_the_producer_one_copy(tmp_path: Path) -> None:
    """Half of them from the first token, others join late; some leave and come back."""
    async with tree(tmp_path) as t:
        nodes = [await t.reader(1 + number % (EDGES - 1)) for number in range(100)]
        readings = [Reading(node) for node in nodes]
        work = [asyncio.create_task(reading.run()) for reading in readings[:50]]
        stream = await t.function.opened()
        await _slowly(stream, 0, 9)
        work += [asyncio.create_task(reading.run()) for reading in readings[50:90]]
        for task in work[:10]:
            task.cancel()
        await _slowly(stream, 10, 19)
        late = [Reading(node) for node in nodes[:10]]
        work += [asyncio.create_task(reading.run()) for reading in (*readings[90:], *late)]
        await _slowly(stream, 20, TOKENS - 1)
        await asyncio.gather(*work[10:])
        complete = [*readings[10:], *late]
        assert len(complete) == 100 and all(reading.ids == list(range(TOKENS)) for reading in complete)
        assert len(t.function.streams) == 1 and sum(t.left.values()) <= TOKENS * 1.05, t.left
        for node in nodes:
            await node.close()


@pytest.mark.parametrize("who", ["consumer", "producer"])
async def test_an_end_that_changes_its_forwarder_loses_and_doubles_nothing(tmp_path: Path, who: str) -> None:
    """No new protocol: the producer registers again, the consumer sends its Interests again."""
    async with tree(tmp_path) as t:
        node = await t.reader(1)
        reading = Reading(node)
        work = asyncio.create_task(reading.run())
        stream = await t.function.opened()
        await _slowly(stream, 0, 9)
        await until(lambda: len(reading.ids) == 10)
        before, signed = node.endpoint.stats.interests_out, len(t.function.streams)
        await t.move(node if who == "consumer" else t.producer, 2)
        await _slowly(stream, 10, 19)
        await until(lambda: len(reading.ids) == 20)
        moved = node.endpoint.stats.interests_out - before - 10
        await _slowly(stream, 20, TOKENS - 1)
        assert await work == list(range(TOKENS)) and len(t.function.streams) == signed
        assert moved <= 3 * CONFIG.fetch.stream_ahead, "Interests of a handover beside those for segments"
        await node.close()
