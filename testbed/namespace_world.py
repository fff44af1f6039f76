"""A World of real processes in network namespaces, for a scenario to play in and for benches to ask in.

Owns: that the world ends before its network. Must not know: scenarios, how a network is built.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ndn_infer.testbed.network import Setup, TopologyNetwork
from ndn_infer.testbed.process_network import Say, in_any_case
from ndn_infer.testbed.process_world import ProcessWorld
from ndn_infer.testbed.topology import Topology


@dataclass(slots=True)
class NamespaceWorld(ProcessWorld):
    """World (world.py) over a started network. `close` ends its consumers; the network is its maker's."""

    network: TopologyNetwork


@asynccontextmanager
async def standing(topology: Topology, setup: Setup, say: Say) -> AsyncIterator[NamespaceWorld]:
    """A world that stands while the block runs. Raises what building it raises."""
    network = TopologyNetwork(topology, setup, say)
    world = NamespaceWorld(network)
    try:
        await network.start()
        yield world
    finally:
        await in_any_case(world.close())
        await in_any_case(network.stop())
