"""Sync groups of many members in virtual time: everybody learns everything, in spite of loss, and it stays cheap."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ndn_infer.sync.core.state import Options
from ndn_infer.testbed.bench.svs import described
from ndn_infer.testbed.sync_simulation import BROADCAST, GRAPH, GroupLoad, GroupNetwork, SyncWorld

LOAD = GroupLoad(members=60, changing=0.03, seconds=8.0)
SMALL_PACKETS = Options(full_bytes=1500, partial_bytes=500)
"""A state of 60 members is then larger than a packet."""


@pytest.mark.parametrize("options", [Options(), SMALL_PACKETS], ids=["whole vectors", "parts and summaries"])
@pytest.mark.parametrize(
    "network", [replace(BROADCAST, loss=0.1), replace(GRAPH, loss=0.1)], ids=["broadcast", "graph"]
)
def test_all_learn_all_in_spite_of_loss(network: GroupNetwork, options: Options) -> None:
    world = SyncWorld(network, replace(LOAD, options=options), newcomer=True)
    figures = world.run()
    assert figures.missed == 0 and len(figures.until_all) == round(60 * 0.03 * 8)
    assert figures.newcomer_s is not None and figures.newcomer_s < 10
    assert len({tuple(sorted(member.table)) for member in world.members}) == 1
    assert sorted(figures.until_most)[len(figures.until_most) // 2] < 2.0


def test_loss_costs_no_storm() -> None:
    """With whole vectors a publication costs few Interests: its own, at most one more, and answers to the outdated."""
    lossy = SyncWorld(replace(BROADCAST, loss=0.1), LOAD).run()
    quiet = SyncWorld(replace(BROADCAST, loss=0.0), LOAD).run()
    assert quiet.interests < 2 * 60 * 0.03 + 0.5
    assert lossy.interests < 6 * 60 * 0.03


def test_a_group_where_nothing_changes_is_silent() -> None:
    idle = SyncWorld(BROADCAST, replace(LOAD, changing=0.0, seconds=120.0, drain_s=0.0)).run()
    assert idle.interests < 0.2


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (described(SyncWorld(GRAPH, replace(LOAD, seconds=3.0)).run()) for _ in range(2))
    for figures in (first, second):
        figures.pop("CPU of the core, us a node and second")
    assert first == second
