"""A testbed's network of processes where one of them dies or says what it should not."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.testbed import topology_file
from ndn_infer.testbed.askers import Asker
from ndn_infer.testbed.network import Setup, TopologyNetwork
from ndn_infer.testbed.node_process import NodeProcess
from ndn_infer.testbed.process_world import ProcessWorld
from ndn_infer.testbed.world import Prompt

ROW = '{"id": 1, "row": {"node": "", "began_s": 1.0, "text": "Paris"}}'


@dataclass
class Network:
    """Whose asker is this script."""

    script: str
    folder: Path

    @property
    def topology(self) -> Any:
        return topology_file.load("three_nodes")

    def module(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-S", "-c", self.script]

    def process(self, node: str, title: str, command: Sequence[str], **_: Any) -> NodeProcess:
        return NodeProcess(title, command, {}, self.folder / "log")


@asynccontextmanager
async def asker(folder: Path, *says: str) -> AsyncIterator[Asker]:
    """One that says so when it is asked, and stays."""
    lines = "".join(f"print({line!r}, flush=True); " for line in says)
    script = f"print('READY', flush=True); input(); {lines}input()"
    found = await Asker.start(Network(script, folder), "edge")  # type: ignore[arg-type]
    try:
        yield found
    finally:
        await found.stop()


async def test_what_a_library_prints_is_no_answer(tmp_path: Path) -> None:
    async with asker(tmp_path, "Warning: slow", ROW) as found, asyncio.timeout(60):
        row = await found.ask(Prompt("?"), None)
    assert (row.text, row.node, row.error) == ("Paris", "edge", "")


@pytest.mark.parametrize("line", ['{"id": 1, ', '{"id": 1, "row": {"no": 1}}', "{}"])
async def test_whoever_waits_is_told_where_answers_cannot_be_read(tmp_path: Path, line: str) -> None:
    async with asker(tmp_path, line) as found, asyncio.timeout(60):
        row = await found.ask(Prompt("?"), None)
        assert "died" in row.error and not row.complete
        assert "gone" in (await found.ask(Prompt("?"), None)).error


async def test_a_world_that_ends_waits_for_no_asker_that_is_not_ready(tmp_path: Path) -> None:
    network = Network("input()", tmp_path)
    started: list[NodeProcess] = []

    def process(*given: Any, **options: Any) -> NodeProcess:
        started.append(Network.process(network, *given, **options))
        return started[0]

    network.process = process  # type: ignore[method-assign]
    world = ProcessWorld(network)  # type: ignore[arg-type]
    asking = asyncio.ensure_future(world.ask("edge", Prompt("?")))
    for _ in range(2000):
        if started and started[0].running:
            break
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        asking.cancel()
        await world.close()
        await started[0].kill()  # as the network does
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_forwarder_that_is_killed_while_routes_are_set_gets_none(tmp_path: Path) -> None:
    network = TopologyNetwork(topology_file.load("three_nodes"), Setup(tmp_path), lambda text: None)
    told: list[str] = []

    @dataclass
    class Managed:
        node: str

        async def set_routes(self, routes: Any) -> int:
            told.append(self.node)
            network.managed.pop("compute", None)  # as `kill` does, in the middle of this
            return len(routes)

    try:
        network.managed = {node.name: Managed(node.name) for node in network.topology.nodes}  # type: ignore[misc]
        await network.route()
        assert told == [node.name for node in network.topology.nodes if node.name != "compute"]
    finally:
        shutil.rmtree(network.grounds.directory)
