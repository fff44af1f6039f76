"""One play of a scenario in virtual time: build, play, result document.

Owns: the loop, the scratch folder, the limit in virtual seconds. Must not know: what a scenario does, who prints.

Equal scenarios, seeds and settings give equal documents, byte for byte.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import Timeout
from ndn_infer.testbed.provision import zero_trust
from ndn_infer.testbed.scenario import Measured, Run, Scenario, document
from ndn_infer.testbed.topology import Topology
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.testbed.virtual.model import Speed
from ndn_infer.testbed.virtual.world import Plan, VirtualWorld

SHARED_MEMORY: Final = Path("/dev/shm")
"""Nothing that a virtual node writes need survive anything."""
NOTE: Final = "tokens are hashes: what depends on a model's quality or arithmetic is not shown here"


@dataclass(frozen=True, slots=True)
class Play:
    """`topology` None is the scenario's own; `limit_s` 0 too, in virtual seconds."""

    scenario: Scenario
    seed: int = 0
    topology: Topology | None = None
    settings: tuple[str, ...] = ()
    speed: Speed | None = None
    limit_s: float = 0.0
    commit: str = ""
    strategy: str = ""
    """Of all forwarders; "" is best-route."""
    zero_trust: bool = False
    """Forwarders grant an application routes below its own certificate and no others."""


def play(what: Play) -> tuple[dict[str, Any], list[str]]:
    """The result document, and tables for people. Raises Timeout, and what the scenario raises."""
    with _scratch() as folder, _quiet():
        random.seed(what.seed)  # pauses of retries
        return run_virtual(lambda: _play(what, folder))


async def _play(what: Play, folder: Path) -> tuple[dict[str, Any], list[str]]:
    topology = what.topology or what.scenario.load_topology()
    settings = (*what.scenario.settings, *(zero_trust(topology) if what.zero_trust else ()), *what.settings)
    world = await VirtualWorld.build(Plan(topology, folder, what.seed, settings, what.speed, what.strategy))
    world.note(NOTE)
    if what.strategy:
        world.note(f"strategy of all forwarders: {what.strategy}")
    before = await world.counters(), await world.link_bytes()
    world.begin()
    limit_s = what.limit_s or what.scenario.limit_s
    try:
        async with asyncio.timeout(limit_s):
            await what.scenario.play(world)
    except TimeoutError:
        raise Timeout(f"{what.scenario.name} was not done within {limit_s:g} virtual seconds") from None
    length = world.now()
    measured = Measured.between(before, (await world.counters(), await world.link_bytes()))
    run = Run(what.commit, "ndn-infer, in one process", what.zero_trust, length)
    found = document(what.scenario, world, measured, run)
    tables = list(world.record.tables)
    world.close()
    return found, tables


@contextmanager
def _scratch() -> Iterator[Path]:
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ndn-infer-virtual-", dir=where) as folder:
        yield Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """What hundreds of nodes warn of is no news: scenarios kill them."""
    logger = logging.getLogger("ndn_infer")
    level = logger.level
    if logger.getEffectiveLevel() >= logging.WARNING:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
