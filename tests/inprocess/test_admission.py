"""What a producer takes on and for how long: acknowledgement before any compute, deadlines, no work that nobody waits
for, equal calls once network-wide. Over real forwarder cores, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import clock, records
from ndn_infer.config import CallConfig, Config, ProducerConfig
from ndn_infer.errors import CallError, FetchIncomplete, NetworkError
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.functions.lifetime import UNWANTED_S
from ndn_infer.functions.tokenize import Text
from ndn_infer.namespace import Call, CallClass
from ndn_infer.records import CallAnswer, Envelope, Record, TokenizeRequest
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.objects.live_stream import LiveStream
from tests.harness import NET, Node, keychain_in

SUBJECT = ("model", "ab" * 32)
CONFIG = replace(Config(), call=CallConfig(deadline_s=20.0), producer=ProducerConfig(queue_limit=8))


class Work(NamedFunction[TokenizeRequest]):
    """Takes as many seconds as its text says ("7 anything")."""

    function, role, request_type, subject, unit_s = "tokenize", "tokenize", TokenizeRequest, SUBJECT, 1.0

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []

    def units(self, request: TokenizeRequest) -> float:
        return float(request.text.split()[0])

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        self.begun.append(request.text)
        await asyncio.sleep(self.units(request))
        if "fail" in request.text:
            raise CallError("the wheel came off", code="broken")
        self.done.append(request.text)
        return Text(request.text.upper())


class Count(NamedFunction[TokenizeRequest]):
    """Streams so many numbers as its text says, ten a second."""

    function, role, request_type, subject, streams = "generate", "decode", TokenizeRequest, SUBJECT, True

    def first_event_s(self, request: TokenizeRequest) -> float:
        return 0.1

    def queue_length(self) -> int:
        return len(self._tasks)

    def __init__(self) -> None:
        self.runs = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, request: TokenizeRequest, job: Job) -> LiveStream:
        self.runs += 1
        out = job.open_stream()
        task = asyncio.get_running_loop().create_task(self._count(out, int(request.text)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return out

    async def _count(self, out: LiveStream, last: int) -> None:
        for number in range(1, last + 1):
            await asyncio.sleep(0.1)
            if out.closed:
                return
            out.append(records.encode(Text(str(number))), final=number == last)


@dataclass
class World:
    """A core forwarder with the producer, edges around it; consumers at the edges."""

    keychain: Any
    core: MemoryNetwork = field(default_factory=MemoryNetwork)
    edges: list[MemoryNetwork] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    servers: list[FunctionServer] = field(default_factory=list)

    async def node(self, at: MemoryNetwork, config: Config = CONFIG) -> Node:
        node = await Node(at, self.keychain, config).open()
        self.nodes.append(node)
        return node

    async def produce(self, *functions: NamedFunction[Any]) -> Node:
        node = await self.node(self.core)
        producer = await node.produce(*functions)
        self.servers = producer._servers
        return node

    def edge(self) -> MemoryNetwork:
        """Another forwarder, whose every Interest of the network goes on to the core."""
        edge = MemoryNetwork(seed=len(self.edges) + 1)
        self.edges.append(edge)
        up, down = edge.attach(), self.core.attach()
        up.receiver = lambda packets: [down.send(packet) for packet in packets]
        down.receiver = lambda packets: [up.send(packet) for packet in packets]
        now = asyncio.get_running_loop().time()
        edge.core.register(NET, Route(up.face.id, 0, 1, CHILD_INHERIT, None), now)
        return edge

    async def close(self) -> None:
        for server in self.servers:
            await server.close()
        for node in reversed(self.nodes):
            await node.close()
        for network in (*self.edges, self.core):
            network.close()


def in_world(tmp_path: Path, story: Callable[[World], Awaitable[None]]) -> None:
    keychain = keychain_in(tmp_path / "keys", "tokenize", "decode", "user")

    async def whole() -> None:
        world = World(keychain)
        try:
            await story(world)
        finally:
            await world.close()

    run_virtual(whole, epoch_us=clock.wall_us())  # keys are of today


def ask(text: str, function: str = "tokenize") -> Ask:
    return Ask(SUBJECT, function, TokenizeRequest(text=text))


def waiting_at(deadline_s: float) -> Config:
    return replace(CONFIG, call=CallConfig(deadline_s=deadline_s))


# ---------------------------------------------------------------- acknowledgement


def test_long_work_is_acknowledged_at_once_with_name_time_and_place(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        work = Work()
        await world.produce(work)
        caller = (await world.node(world.core)).caller
        began = clock.monotonic()
        answers = [(await caller.start(ask(f"{seconds} s"))).answer for seconds in (5, 7, 2)]
        assert clock.monotonic() - began < 3 * 0.005 and work.done == []
        assert [answer.queue for answer in answers] == [0, 1, 2]
        assert [round(answer.estimate_ms / 1000) for answer in answers] == [5, 12, 14]
        assert all("/result/tokenize/" in answer.result and answer.hint for answer in answers)

    in_world(tmp_path, story)


def test_quick_work_is_answered_in_one_round_trip_and_speed_is_measured(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.produce(Work())
        node = await world.node(world.core)
        await node.caller.call(ask("0.01 warm"), Text)
        before = node.endpoint.stats.interests_out
        assert (await node.caller.call(ask("0.02 quick"), Text)).text == "0.02 QUICK"
        assert node.endpoint.stats.interests_out == before + 1
        load = world.servers[0].load()
        assert load.unit_s == pytest.approx(1.0, rel=0.1) and load.running == 0 and load.wait_s == 0.0

    in_world(tmp_path, story)


class Leaving(Work):
    """Has something to do after each answer, which breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        def note() -> None:
            self.sent.append(job.host.counters["answers"] - before)

        def breaks() -> None:
            raise ValueError("the wheel came off")

        before = job.host.counters["answers"]
        job.afterwards.extend((breaks, note))
        return await super().run(request, job)


def test_what_comes_after_an_answer_neither_holds_it_up_nor_harms_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        work = Leaving()
        await world.produce(work)
        caller = (await world.node(world.core)).caller
        for number in range(2):
            assert (await caller.call(ask(f"0.01 {number}"), Text)).text == f"0.01 {number}"
        await asyncio.sleep(0.1)
        assert work.sent == [1, 1], "the answer was out before"

    in_world(tmp_path, story)


def test_work_that_fails_after_its_acknowledgement_tells_why_and_is_not_done_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        work = Work()
        await world.produce(work)
        caller = (await world.node(world.core)).caller
        with pytest.raises(CallError, match="the wheel came off") as failed:
            await caller.call(ask("3 fail"), Text)
        assert failed.value.code == "broken" and len(work.begun) == 1

    in_world(tmp_path, story)


class Cut(Work):
    """Cannot reach what it needs, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        if self.left:
            self.left -= 1
            self.begun.append(request.text)
            raise FetchIncomplete("an input broke off")
        return await super().run(request, job)


def test_who_cannot_reach_what_it_needs_is_asked_again(tmp_path: Path) -> None:
    """That is no defect and no fault of the question: the next one is asked, here the same one after a moment."""

    async def story(world: World) -> None:
        work = Cut(2)
        await world.produce(work)
        caller = (await world.node(world.core)).caller
        assert (await caller.call(ask("0.1 s"), Text)).text == "0.1 S" and len(work.begun) == 3
        work.left = 100
        with pytest.raises(CallError, match="an input broke off") as cut:
            await caller.call(ask("0.1 again"), Text)
        assert cut.value.code == "unreachable"
        assert len(work.begun) == 3 + CONFIG.call.attempts

    in_world(tmp_path, story)


# ---------------------------------------------------------------- admission


def test_busy_is_said_at_once_with_a_time_to_come_back_that_is_right(tmp_path: Path) -> None:
    """Asked by hand what is said; asked by callers, who come back as they were told, all is done in the end."""

    async def story(world: World) -> None:
        work = Work()
        producer = await world.produce(work)
        nodes = [await world.node(world.core) for _ in range(3)]
        began = clock.monotonic()
        said = [await by_hand(nodes[number % 3], f"4 {number}") for number in range(24)]
        refused = [answer.retry_after_ms for answer in said if answer.code]
        assert clock.monotonic() - began < 0.2 and len(refused) == 18 and {a.code for a in said} == {"", "busy"}
        assert refused == sorted(refused) and refused[0] > 0, "one after another"
        calls = [nodes[number % 3].caller.call(ask(f"1 {number}"), Text) for number in range(15)]
        assert [answer.text for answer in await asyncio.gather(*calls)] == [f"1 {number}" for number in range(15)]
        assert producer.counters["refused_busy"] > 18 and len(work.done) >= 15

    in_world(tmp_path, story)


async def by_hand(node: Node, text: str) -> CallAnswer:
    """What the producer answers to one Interest."""
    request = records.encode(TokenizeRequest(text=text))
    name = Call(*SUBJECT, "tokenize", CallClass.SHARED, hashlib.sha256(request).hexdigest()).to_name(NET)
    data, _ = await node.endpoint.express(name, parameters=records.encode(Envelope(request)), must_be_fresh=True)
    return records.decode(CallAnswer, data.content)


# ---------------------------------------------------------------- deadlines


def test_work_whose_deadline_passed_ends_and_a_caller_with_more_time_keeps_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        work = Work()
        producer = await world.produce(work)
        hasty = await world.node(world.core, waiting_at(2.0))
        patient = await world.node(world.core, waiting_at(60.0))
        with pytest.raises((CallError, NetworkError)):
            await hasty.caller.call(ask("30 alone"), Text)
        await asyncio.sleep(2 * 2.048 + 1)
        assert producer.counters["ended_deadline"] == 1 and not world.servers[0]._work
        both = [asyncio.ensure_future(node.caller.call(ask("10 both"), Text)) for node in (hasty, patient)]
        done = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(done[0], Exception) and isinstance(done[1], Text)
        assert work.begun == ["30 alone", "10 both"] and work.done == ["10 both"]

    in_world(tmp_path, story)


def test_what_was_started_and_nobody_waits_for_ends(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        work = Work()
        producer = await world.produce(work)
        node = await world.node(world.core)
        await node.caller.start(ask("100 left"))
        (running,) = world.servers[0]._work.values()
        assert running.task is not None
        began = clock.monotonic()
        await asyncio.wait([running.task])
        assert UNWANTED_S <= clock.monotonic() - began <= UNWANTED_S + 2.1
        assert producer.counters["ended_unwanted"] == 1 and work.done == []

    in_world(tmp_path, story)


def test_a_call_of_ten_minutes_with_one_pending_interest_at_a_time(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        work = Work()
        await world.produce(work)
        node = await world.node(world.edge(), waiting_at(700.0))
        call = asyncio.ensure_future(node.caller.call(ask("600 patience"), Text))
        most, began = 0, clock.monotonic()
        while not call.done():
            most = max(most, sum(1 for _ in node.endpoint._waiting()))
            await asyncio.sleep(0.05)
        assert (await call).text == "600 PATIENCE" and work.begun == ["600 patience"]
        assert most == 1 and 600 <= clock.monotonic() - began < 602
        assert node.endpoint.stats.interests_out < 650

    in_world(tmp_path, story)


# ---------------------------------------------------------------- once, network-wide


@pytest.mark.parametrize("seconds", ["0.02", "3"], ids=["quick", "acknowledged"])
def test_fifty_equal_calls_of_fifty_consumers_over_six_forwarders_are_one_run(tmp_path: Path, seconds: str) -> None:
    async def story(world: World) -> None:
        work = Work()
        producer = await world.produce(work)
        edges = [world.edge() for _ in range(5)]
        nodes = [await world.node(edges[number % 5]) for number in range(50)]
        calls = (node.caller.call(ask(f"{seconds} same"), Text) for node in nodes)
        assert {answer.text for answer in await asyncio.gather(*calls)} == {f"{seconds} SAME"}
        assert len(work.begun) == 1 and producer.counters["calls"] <= 5 * 2, "a forwarder asks once for all of its own"

    in_world(tmp_path, story)


def test_equal_streams_are_one_run_also_when_the_first_reader_leaves(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        count = Count()
        await world.produce(count)
        edges = [world.edge() for _ in range(5)]
        nodes = [await world.node(edges[number % 5]) for number in range(50)]

        async def read(node: Node, most: int) -> list[str]:
            seen: list[str] = []
            async for event, _ in node.caller.stream(ask("40", "generate"), Text):
                seen.append(event.text)
                if len(seen) == most:
                    break
            return seen

        first = asyncio.ensure_future(read(nodes[0], 5))
        await asyncio.sleep(0.3)
        others = [asyncio.ensure_future(read(node, 40)) for node in nodes[1:]]
        told = (await nodes[1].caller.start(ask("7", "generate"))).answer
        assert told.stream and told.queue == 1 and told.estimate_ms == 100
        assert await first == [str(number) for number in range(1, 6)]
        everything = [str(number) for number in range(1, 41)]
        assert all(seen == everything for seen in await asyncio.gather(*others)) and count.runs == 2

    in_world(tmp_path, story)
