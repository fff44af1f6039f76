"""Wires between in-process forwarders: delay, bandwidth, queue, loss, cuts, ends that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ndn_infer import clock, ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.forwarder.shell.wire import Wire, WireShape
from ndn_infer.ndn.packet import encode_data
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.link.endpoint import Endpoint, ReceivedInterest

PREFIX = ndn.from_uri("/far")
NAMES = [PREFIX + ndn.segment(number) for number in range(400)]


class Pair:
    """A consumer at one forwarder, a producer of /far at the other."""

    def __init__(self, shape: WireShape, *, seed: str = "1", reliable: bool = False, size: int = 1000) -> None:
        self.near, self.far = MemoryNetwork(seed=1), MemoryNetwork(seed=2)
        self.wire = Wire(shape, ("near", "far"), seed=seed)
        self.reliable = reliable
        self.size = size
        self.out = self.wire.join(0, self.near, reliable=reliable)
        self.wire.join(1, self.far, reliable=reliable)
        self.near.core.register(PREFIX, Route(self.out.id, 255, 1, CHILD_INHERIT), clock.monotonic())
        self.consumer, self.producer = Endpoint(self.near.dial), Endpoint(self.far.dial)

    async def open(self) -> Pair:
        await self.consumer.open()
        await self.producer.open()
        self.producer.attach(PREFIX, self._answer)
        face = next(face for face in self.far.core.faces.values() if face.uri.startswith("memory:"))
        self.far.core.register(PREFIX, Route(face.id, 0, 0, CHILD_INHERIT), clock.monotonic())
        return self

    def _answer(self, request: ReceivedInterest) -> None:
        request.reply(encode_data(request.interest.name, bytes(self.size)))

    async def ask(self, number: int, lifetime_ms: int = 4000) -> float:
        """Seconds until the answer; -1 without one."""
        began = clock.monotonic()
        try:
            await self.consumer.express(NAMES[number], lifetime_ms=lifetime_ms)
        except NdnInferError:
            return -1.0
        return clock.monotonic() - began


def in_pair(work: Callable[[Pair], Any], *arguments: Any, **options: Any) -> Any:
    async def whole() -> Any:
        return await work(await Pair(*arguments, **options).open())

    return run_virtual(whole)


def test_the_delay_is_that_of_both_ways() -> None:
    assert in_pair(lambda pair: pair.ask(0), WireShape(0.02)) == pytest.approx(0.04)


def test_bandwidth_lets_one_after_the_other_leave_and_the_queue_is_bounded() -> None:
    async def work(pair: Pair) -> tuple[list[float], int]:
        times = await asyncio.gather(*(pair.ask(number) for number in range(10)))
        return sorted(times), sum(way.overflowed for way in pair.wire.counters)

    size = 1000 + 60  # name, MetaInfo, signature
    times, overflowed = in_pair(work, WireShape(0.01, bytes_per_s=10_000.0))
    assert overflowed == 0
    steps = [later - sooner for sooner, later in zip(times, times[1:], strict=False)]
    assert all(step == pytest.approx(size / 10_000, rel=0.1) for step in steps)
    times, overflowed = in_pair(work, WireShape(0.01, bytes_per_s=10_000.0, queue=4))
    assert overflowed == 6 and times.count(-1.0) == 6


def test_loss_is_drawn_from_the_seed() -> None:
    async def work(pair: Pair) -> tuple[bool, ...]:
        return tuple([await pair.ask(number, 100) >= 0 for number in range(300)])

    shape = WireShape(0.001, loss=0.2)
    first, again, other = (in_pair(work, shape, seed=seed) for seed in ("1", "1", "2"))
    assert first == again != other
    assert 0.55 < sum(first) / len(first) < 0.73, "0.8 to the square"


def test_reliability_repairs_what_the_wire_loses() -> None:
    async def work(pair: Pair) -> tuple[int, int]:
        answered = [await pair.ask(number) >= 0 for number in range(200)]
        assert pair.out.link.reliability is not None
        return sum(answered), pair.out.link.reliability.counters.repaired

    answered, repaired = in_pair(work, WireShape(0.005, loss=0.1), reliable=True)
    assert answered == 200 and repaired > 5


def test_large_packets_are_cut_into_datagrams() -> None:
    async def work(pair: Pair) -> int:
        assert await pair.ask(0) == 0.0
        return pair.wire.counters[1].packets

    assert in_pair(work, WireShape(), size=8000) == 6


def test_jitter_stays_within_its_bounds() -> None:
    async def work(pair: Pair) -> list[float]:
        return [await pair.ask(number) for number in range(100)]

    times = in_pair(work, WireShape(0.02, jitter_s=0.005))
    assert 0.03 <= min(times) < 0.037 and 0.043 < max(times) <= 0.05


def test_a_cut_wire_is_silent_and_a_healed_one_is_not() -> None:
    async def work(pair: Pair) -> list[float]:
        asking = asyncio.ensure_future(pair.ask(0, 500))
        await asyncio.sleep(0.01)
        pair.wire.cut()  # the Interest is on its way
        found = [await asking, await pair.ask(1, 500)]
        pair.wire.heal()
        return [*found, await pair.ask(2, 500)]

    assert in_pair(work, WireShape(0.02)) == [-1.0, -1.0, pytest.approx(0.04)]


def test_an_end_that_was_left_is_somebody_else_when_it_is_joined_again() -> None:
    async def work(pair: Pair) -> list[float]:
        asking = asyncio.ensure_future(pair.ask(0, 500))
        await asyncio.sleep(0.03)
        pair.near.close()  # the answer is on its way
        pair.wire.leave(0)
        pair.near = MemoryNetwork(seed=3)
        pair.wire.join(0, pair.near)
        return [await asking]

    assert in_pair(work, WireShape(0.02)) == [-1.0]


def test_a_dead_forwarder_is_dialled_until_there_is_one() -> None:
    async def work(pair: Pair) -> float:
        pair.near.close()
        await asyncio.sleep(1)
        assert not pair.consumer.connected
        pair.near.closed = False
        await asyncio.sleep(1)
        assert pair.consumer.connected
        return 0.0

    in_pair(work, WireShape(0.02))
