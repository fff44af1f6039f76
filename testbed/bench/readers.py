"""Many readers of one stream on an edge-core tree: bytes that leave the producer's node, against those for one reader.

The same answer is read by one and by a hundred consumers at five edges; beside it, in the same namespaces and over the
same links, a server of server-sent events sends the same number of tokens to one and to a hundred. Counted are bytes on
the link between origin and core, headers included; also without the offers that each reader looks at before it asks:
these are fresh for 0.2 to 2 seconds, by how many places are free, so readers who come one after another may ask for
them again. Needs root and iproute2, as the testbed does. Told apart are the stream (segments of the answer) and all
bytes, by kind of name. Owns: the turns, the figures. Must not know: how nodes are made, packets. Each token leaves in a
segment of its own: several would share one where the machine decodes quickly, as it does for one reader, and the bytes
of two answers would differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.testbed import topology_file
from ndn_infer.testbed.bench.forwarders import CannotMeasure
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.evidence import produced
from ndn_infer.testbed.link_kinds import LinkKinds
from ndn_infer.testbed.load import together
from ndn_infer.testbed.namespace_world import NamespaceWorld, standing
from ndn_infer.testbed.namespaces import check_machine
from ndn_infer.testbed.network import Setup, TopologyNetwork
from ndn_infer.testbed.node_process import our_module
from ndn_infer.testbed.process_network import NET, in_thread, say
from ndn_infer.testbed.world import Prompt, PromptOutcome

TOPOLOGY: Final = "tree"
ORIGIN, CORE = "origin", "core"
EDGES: Final = ("edge1", "edge2", "edge3", "edge4", "edge5")
READERS: Final = 100
QUICK_READERS: Final = 20
TOKENS: Final = 128
PROMPT: Final = "Write about a windmill."
SSE: Final = "ndn_infer.testbed.bench.sse"
SSE_PORT: Final = 8080
SSE_S: Final = 180.0
BY_TOKEN: Final = "producer.event_ms=0"
STREAM: Final = "Data result"
"""Segments of answers."""


def run(options: argparse.Namespace, config: Config) -> int:
    check_machine()
    readers = QUICK_READERS if options.quick else READERS
    figures, peers, ratios = asyncio.run(_measured(config, (BY_TOKEN, *options.settings), readers))
    print_report("readers", figures, peers, ratios)
    return 0


Figures = dict[str, Any]


async def _measured(config: Config, settings: tuple[str, ...], readers: int) -> tuple[Figures, Figures, Figures]:
    async with standing(topology_file.load(TOPOLOGY), Setup(config.cache_dir, settings), say) as world:
        await world.join(*EDGES)
        await world.ask(EDGES[0], Prompt("Hello.", max_tokens=4))  # certificates and catalogue are on the way
        with closing(Tree.open(world)) as tree:
            one = await tree.ask(1, seed=1)
            before = await world.counters()
            many = await tree.ask(readers, seed=2)
            calls = produced(before, await world.counters(), "decode")["calls"]
            one_led = await tree.ask(1, seed=3, choose=False)
            many_led = await tree.ask(readers, seed=4, choose=False)
            every_ms = round(one.rows[0].per_token_s * 1000)
            peers = await tree.sse(readers, every_ms)
    figures = {
        "readers": readers, "tokens": TOKENS, **one.figures("of_one"), **many.figures("of_all"),
        **one_led.figures("of_one_without_offers"), **many_led.figures("of_all_without_offers"),
        "executions": calls, "ttft_of_one_ms": one.rows[0].ttft_s * 1000,
        "slowest_ttft_ms": max(row.ttft_s for row in many.rows) * 1000,
    }  # fmt: skip
    ratios = {
        "egress_of_all_over_one": many.egress / one.egress,
        "stream_of_all_over_one": many.kinds[STREAM] / one.kinds[STREAM],
        "egress_of_all_over_one_without_offers": many_led.egress / one_led.egress,
        "sse_egress_of_all_over_one": peers["sse_egress_of_all_bytes"] / peers["sse_egress_of_one_bytes"],
        "sse_egress_of_all_over_ours": peers["sse_egress_of_all_bytes"] / many.egress,
    }
    return figures, peers, ratios


@dataclass(frozen=True, slots=True)
class ReadingTurn:
    """Readers of one answer, what it took the origin in bytes, and these by kind of name."""

    rows: list[PromptOutcome]
    egress: int
    kinds: Mapping[str, int]

    def figures(self, title: str) -> Figures:
        return {f"egress_{title}_bytes": self.egress, f"kinds_{title}_bytes": dict(self.kinds)}


@dataclass(frozen=True, slots=True)
class Tree:
    """The started network, and what leaves its origin."""

    network: TopologyNetwork
    world: NamespaceWorld
    kinds: LinkKinds

    @classmethod
    def open(cls, world: NamespaceWorld) -> Tree:
        spaces, link = world.network.namespaces, world.topology.link_between(CORE, ORIGIN)
        found = LinkKinds.open(ndn.from_uri(NET), spaces.name(ORIGIN), spaces.device(link))
        return cls(world.network, world, found)

    def close(self) -> None:
        self.kinds.close()

    async def egress(self) -> int:
        """Bytes from the origin to the core so far."""
        links = await self.world.link_bytes()
        return next(link.back for link in links if (link.first, link.second) == (CORE, ORIGIN))

    async def ask(self, readers: int, *, seed: int, choose: bool = True) -> ReadingTurn:
        """So many readers of one answer. Raises CannotMeasure."""
        before = await self.egress()
        self.kinds.read()
        places = [EDGES[number % len(EDGES)] for number in range(readers)]
        rows = await together(self.world, places, Prompt(PROMPT, TOKENS, seed, choose=choose))
        sent = await self.egress() - before
        lost = [row.error for row in rows if not row.complete]
        if lost or len({row.ids for row in rows}) != 1:
            raise CannotMeasure(f"{len(lost)} of {readers} readers did not get the answer: {lost[:1]}")
        return ReadingTurn(rows, sent, self.kinds.read())

    async def sse(self, readers: int, every_ms: int) -> Figures:
        """The peer: its egress for one reader and for all."""
        namespaces = self.network.namespaces
        await in_thread(namespaces.route_ip)
        command = our_module(SSE, "serve", str(SSE_PORT), str(TOKENS), str(every_ms))
        await self.network.process(ORIGIN, "sse", command).start(30.0)
        found: Figures = {}
        for title, counts in (("one", [1, 0, 0, 0, 0]), ("all", spread(readers))):
            before = await self.egress()
            began = time.monotonic()
            await asyncio.gather(*(self._read(edge, count) for edge, count in zip(EDGES, counts, strict=True) if count))
            found[f"sse_egress_of_{title}_bytes"] = await self.egress() - before
            found[f"sse_{title}_s"] = round(time.monotonic() - began, 2)
        return found

    async def _read(self, edge: str, readers: int) -> None:
        """Raises CannotMeasure when a reader did not get every token."""
        host = self.network.namespaces.address(ORIGIN)
        command = [sys.executable, "-m", SSE, "read", host, str(SSE_PORT), str(readers)]
        output = await self.network.process(edge, "sse-readers", command).finish(SSE_S)
        if json.loads(output) != [TOKENS] * readers:
            raise CannotMeasure(f"readers of server-sent events on {edge} got {output[:200]!r}")


def spread(readers: int) -> list[int]:
    share, rest = divmod(readers, len(EDGES))
    return [share + (number < rest) for number in range(len(EDGES))]
