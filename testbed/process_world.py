"""A World of real processes, in network namespaces or in Mini-NDN, and one play of a scenario in it.

Owns: what a scenario's orders mean for a network, its clock, what is recorded of them. Must not know: what a scenario
does, how a network is built.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ndn_infer.testbed.askers import Asker
from ndn_infer.testbed.evidence import Snapshot
from ndn_infer.testbed.process_network import FORWARDER, ProcessNetwork, in_any_case
from ndn_infer.testbed.result import RunRecord, Value
from ndn_infer.testbed.scenario import NAMESPACES, Measured, Run, Scenario, document
from ndn_infer.testbed.topology import Topology
from ndn_infer.testbed.world import AnswerProgress, LinkBytes, Prompt, PromptOutcome


@dataclass(slots=True)
class ProcessWorld:
    """World (world.py) over a started network. `close` ends its consumers; the network is its maker's."""

    network: ProcessNetwork
    seed: int = 0
    kind: str = NAMESPACES
    record: RunRecord = field(default_factory=RunRecord)
    began: float = field(default_factory=time.monotonic)
    _askers: dict[str, asyncio.Task[Asker]] = field(default_factory=dict)

    @property
    def topology(self) -> Topology:
        return self.network.topology

    def begin(self) -> None:
        """The scenario begins now."""
        self.began = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self.began

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # ------------------------------------------------------------ asking

    async def join(self, *nodes: str) -> None:
        for node in nodes:
            await self._asker(node)

    async def _asker(self, node: str) -> Asker:
        """Started by the first who asks there; the others wait for it."""
        self.topology.check(node)
        if node not in self._askers:
            self._askers[node] = asyncio.create_task(Asker.start(self.network, node))
        return await asyncio.shield(self._askers[node])

    async def ask(self, node: str, what: Prompt, progress: AnswerProgress | None = None) -> PromptOutcome:
        asker = await self._asker(node)
        started = self.now()
        row = await asker.ask(what, progress)
        row = replace(row, began_s=row.began_s - self.began if row.began_s else started)
        self.record.asked.append(row)
        return row

    # ------------------------------------------------------------ breaking and mending

    async def kill(self, node: str, role: str) -> None:
        self._event(f"kill {node}/{self._role(node, role)}")
        await self.network.kill(node, role)

    async def start(self, node: str, role: str) -> None:
        await self.network.start_producer(node, self._role(node, role))
        self._event(f"start {node}/{role}")

    async def stop(self, node: str, role: str) -> None:
        self._event(f"stop {node}/{self._role(node, role)}")
        await self.network.terminate(node, role)

    async def kill_forwarder(self, node: str) -> None:
        self.topology.check(node)
        self._event(f"kill forwarder of {node}")
        await self.network.kill(node, FORWARDER)

    async def start_forwarder(self, node: str) -> None:
        self.topology.check(node)
        await self.network.start_forwarder(node)
        self._event(f"start forwarder of {node}")

    async def cut(self, first: str, second: str) -> None:
        link = self.topology.link_between(first, second)
        self._event(f"cut {first} - {second}")
        await self.network.switch(link, up=False)

    async def heal(self, first: str, second: str) -> None:
        link = self.topology.link_between(first, second)
        await self.network.switch(link, up=True)
        await self.network.route()
        self._event(f"heal {first} - {second}")

    async def move(self, node: str, old: str, new: str) -> None:
        links = self.topology.link_between(node, old), self.topology.link_between(node, new)
        self._event(f"move {node} from {old} to {new}")
        await self.network.switch(links[0], up=False)
        await self.network.switch(links[1], up=True)
        await self.network.route(moved=True)

    def _role(self, node: str, role: str) -> str:
        self.topology.check(node, role)
        return role

    def _event(self, what: str) -> None:
        self.record.events.append((self.now(), what))

    # ------------------------------------------------------------ looking

    async def counters(self) -> Snapshot:
        return await self.network.snapshot()

    async def link_bytes(self) -> Sequence[LinkBytes]:
        return await self.network.link_bytes()

    def claim(self, name: str, holds: bool, value: Value) -> None:
        self.record.claim(name, holds, value)

    def note(self, text: str) -> None:
        self.record.note(text)

    async def close(self) -> None:
        for starting in self._askers.values():
            if not starting.done():
                starting.cancel()  # its process ends with the network
            for asker in await asyncio.gather(starting, return_exceptions=True):
                if isinstance(asker, Asker):
                    await asker.stop()


async def play(
    scenario: Scenario, world: ProcessWorld, timeout_s: float, run: Callable[[float], Run]
) -> dict[str, Any]:
    """Play it (`timeout_s` at most, 0: its own limit) and end its consumers. The result document; `run` makes the
    circumstances from the seconds that it took. Raises TimeoutError."""
    try:
        before, links = await world.counters(), await world.link_bytes()
        world.begin()
        async with asyncio.timeout(timeout_s or scenario.limit_s):
            await scenario.play(world)
        length = world.now()
        measured = Measured.between((before, links), (await world.counters(), await world.link_bytes()))
    finally:
        await in_any_case(world.close())
    return document(scenario, world, measured, run(length))
