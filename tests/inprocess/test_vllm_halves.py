"""The connector's network side without vLLM: instances publish, find and load blocks over the real forwarder core, in
virtual time. Whatever a holder does, a block is right or reported, and a load ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ndn_infer.security.domains import DomainEpoch
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.link import links
from ndn_infer.vllm.jobs import LoadedBlock, LoadJob
from ndn_infer.vllm.loop_thread import NetworkThread
from ndn_infer.vllm.running_load import RunningLoad
from ndn_infer.vllm.single_flight import SingleFlight
from ndn_infer.vllm.staging import StagingRoom
from tests.harness import NET
from tests.vllm_kit import RANK, SHAPE, TENANT, VALUES, Instance, content_of, instances


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


def test_a_hostile_link_makes_few_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One for each block, whatever number of its packets is refused."""

    async def work(a: Instance, b: Instance) -> None:
        await a.hold(VALUES[:4])
        found = await b.find(a)
        b.links[-1].tamper_down = lambda wire: flipped(wire) if len(wire) > 4000 else wire
        running = await b.load(found)
        assert len(running.failed) == 4 and b.endpoint.stats.refused >= 4 * 4
        lines = [record.getMessage() for record in caplog.records if "refused a packet" in record.getMessage()]
        assert len(lines) == 4 and len({line.split(":")[0] for line in lines}) == 4

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


# ---------------------------------------------------------------- between two threads


def job() -> LoadJob:
    return LoadJob("r", "public", tuple(LoadedBlock(bytes(32), number, ()) for number in range(3)), False)


def test_nothing_is_written_after_the_end_of_a_load() -> None:
    pages: list[int] = []
    running = RunningLoad(job(), 100.0, lambda block, _: pages.append(block))
    running.place(1, memoryview(b""))
    assert not running.ended()
    running.end()
    running.place(2, memoryview(b""))
    assert pages == [1] and running.ended() and running.failed == {0, 2}


def test_a_load_is_given_up_whatever_the_network_does() -> None:
    pages: list[int] = []
    running = RunningLoad(job(), 0.0, lambda block, _: pages.append(block))
    running.wait()
    running.place(0, memoryview(b""))
    assert running.ended() and running.failed == {0, 1, 2} and not pages


def test_work_that_only_waits_stays_and_ends_with_the_thread() -> None:
    """An event loop holds its tasks weakly."""
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    thread = NetworkThread("test")
    future = thread.submit(wait())
    del future
    thread.submit(asyncio.sleep(0)).result(10)
    gc.collect()
    assert not ended.is_set()
    thread.close()
    assert ended.is_set() and thread.submit(asyncio.sleep(0)).cancelled() and not thread.post(lambda: None)


def test_staging_is_bounded() -> None:
    room = StagingRoom(100)
    assert room.take(60) and not room.take(60) and room.take(40)
    room.give(60)
    room.give(40)
    assert room.used == 0 and room.take(500)  # alone


async def test_work_for_several_is_done_once_and_ends_when_nobody_waits() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    begun, ended = [], []
    go = asyncio.Event()

    async def work() -> int:
        begun.append(1)
        try:
            await go.wait()
            return 7
        finally:
            ended.append(1)

    waiting = [asyncio.ensure_future(flights.run("k", work)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()
    go.set()
    assert await asyncio.gather(*waiting[1:]) == [7, 7] and begun == [1] and not len(flights)
    go.clear()
    last = asyncio.ensure_future(flights.run("k", work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    assert len(begun) == len(ended) == 2 and not len(flights)


def test_links_of_two_threads_read_into_memory_of_their_own() -> None:
    """A process with both halves has two event loops; what one reads must not be overwritten by the other."""
    rooms = [links._room()]
    other = threading.Thread(target=lambda: rooms.append(links._room()))
    other.start()
    other.join()
    assert rooms[0] is links._room() and rooms[0] is not rooms[1]
