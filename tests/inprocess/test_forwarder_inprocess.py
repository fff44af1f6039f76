"""The in-process network: delivery, delay and loss from a seed, hands on the wire, and what ends with a link."""

from __future__ import annotations

import asyncio

from ndn.app_support import nfd_mgmt

from ndn_infer import ndn
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.ndn import packet
from tests.forwarder_world import data, describe, interest

SIGNED = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=bytes(8), time_ms=1)
WAIT_S = 10.0


class Application:
    """An end of a link: a queue of what arrived; `serve` answers every Interest."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        link.receiver = lambda packets: self.arrived.put_nowait(*packets)

    async def next(self) -> str:
        return describe(await asyncio.wait_for(self.arrived.get(), WAIT_S))

    async def register(self, uri: str) -> None:
        parameters = ControlParameters(name=ndn.from_uri(uri)).encode()
        name = ndn.from_uri("/localhost/nfd/rib/register") + ndn.generic(parameters)
        self.link.send(packet.encode_interest(name, nonce=b"rgst", info=SIGNED, signer=packet.digest_signer)[0])
        reply = packet.decode_data(await asyncio.wait_for(self.arrived.get(), WAIT_S))
        assert nfd_mgmt.parse_response(reply.content)["status_code"] == 200


async def two(network: MemoryNetwork, **options: float) -> tuple[Application, Application]:
    consumer, producer = Application(network.attach(**options)), Application(network.attach())
    await producer.register("/p")
    return consumer, producer


async def test_exchange_and_what_a_closed_link_takes_along() -> None:
    network = MemoryNetwork()
    consumer, producer = await two(network)
    consumer.link.send(interest("/p/1", 1))
    assert await producer.next() == "I/p/1#1"
    producer.link.send(data("/p/1"))
    assert await consumer.next() == "D/p/1"
    lost: list[bool] = []
    producer.link.lost = lambda: lost.append(True)
    producer.link.close()
    producer.link.close()
    consumer.link.send(interest("/p/2", 2))
    assert await consumer.next() == "N150/p/2#2"
    assert lost == [True]
    network.close()


async def test_hands_on_the_wire() -> None:
    network = MemoryNetwork()
    consumer, producer = await two(network)
    seen: list[str] = []

    def replace(wire: bytes) -> bytes | None:
        seen.append(describe(wire))
        return data("/p/1", content=b"evil")

    producer.link.tamper_up = replace
    consumer.link.send(interest("/p/1", 1))
    await producer.next()
    producer.link.send(data("/p/1"))
    found = packet.decode_data(await asyncio.wait_for(consumer.arrived.get(), WAIT_S))
    assert found.content == b"evil" and seen == ["D/p/1"]
    consumer.link.tamper_down = lambda wire: None
    consumer.link.send(interest("/p/1", 2))
    consumer.link.send(interest("/p/3", 3))
    assert await producer.next() == "I/p/3#3" and consumer.arrived.empty()
    network.close()


async def test_loss_is_drawn_from_the_seed() -> None:
    async def arrivals(seed: int) -> list[str]:
        network = MemoryNetwork(seed=seed)
        consumer, producer = await two(network, loss=0.5)
        for number in range(1, 41):
            consumer.link.send(interest(f"/p/{number}", number))
        for _ in range(5):
            await asyncio.sleep(0)
        found = [describe(producer.arrived.get_nowait()) for _ in range(producer.arrived.qsize())]
        network.close()
        return found

    first = await arrivals(1)
    assert 8 < len(first) < 32
    assert await arrivals(1) == first and await arrivals(2) != first


async def test_delay_keeps_order_and_lets_interests_run_out() -> None:
    network = MemoryNetwork()
    consumer, producer = await two(network, delay_s=0.02)
    for number in range(1, 6):
        consumer.link.send(interest(f"/p/{number}", number, lifetime_ms=50))
    assert producer.arrived.empty()
    assert [await producer.next() for _ in range(5)] == [f"I/p/{number}#{number}" for number in range(1, 6)]
    for _ in range(500):
        if network.core.pit_size == 0:
            break
        await asyncio.sleep(0.01)
    assert network.core.pit_size == 0 and network.core.counters.unsatisfied == 5
    network.close()
