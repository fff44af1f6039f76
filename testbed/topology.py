"""Topologies: nodes, links and what runs where; shortest paths and routes over them.

Owns: what a node and a link are, Dijkstra, which node forwards which prefix where. Pure. Must not know: how a file says
it (topology_file.py), namespaces, forwarders, how a route is installed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from ndn_infer.errors import UsageError

_ADDRESSES: Final = IPv4Network("10.0.0.0/16")
MAX_LINKS: Final = _ADDRESSES.num_addresses // 4


class TopologyError(UsageError):
    """A topology file says something that cannot be; the message starts with file and line."""

    default_hint = "the format is Mini-NDN's; testbed/topologies/three_nodes.conf is an example"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node. `parameters` are its key=value pairs as written."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def functions(self) -> tuple[str, ...]:
        """The producers that run there."""
        return tuple(part for part in self.parameters.get("functions", "").split(",") if part)

    @property
    def cores(self) -> str:
        """Processors of this machine that its processes run on, as taskset has them (`0-1,3`); "" for all."""
        return self.parameters.get("cores", "")


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One link. `delay_us` is one way, microseconds, plus or minus up to `jitter_us`; `bandwidth_mbit` 0 is unlimited;
    `loss_percent` 0 to 100; `queue_packets` is how many wait in each direction at most, 0 the runner's default.

    `cost` is what routing adds up: as written, else the delay in milliseconds, at least 1.
    """

    first: str
    second: str
    delay_us: int = 0
    bandwidth_mbit: float = 0.0
    loss_percent: float = 0.0
    cost: int = 1
    jitter_us: int = 0
    queue_packets: int = 0

    @property
    def shaped(self) -> bool:
        """Whether more than bandwidth is limited: that takes netem, or a process of ours (delay_link.py)."""
        return bool(self.delay_us or self.jitter_us or self.loss_percent or self.queue_packets)

    def other(self, node: str) -> str:
        return self.second if node == self.first else self.first


@dataclass(frozen=True, slots=True)
class Way:
    """The way from one node to another: the neighbour to give packets to, and the sum of costs."""

    next_hop: str
    cost: int


@dataclass(frozen=True, slots=True)
class Topology:
    name: str
    nodes: tuple[NodeSpec, ...]
    links: tuple[LinkSpec, ...]

    def node(self, name: str) -> NodeSpec:
        return next(node for node in self.nodes if node.name == name)

    def check(self, node: str, function: str = "") -> None:
        """Raises TopologyError for a node that is not in it, or that has not this function."""
        known = {item.name: item.functions for item in self.nodes}
        if node not in known:
            raise TopologyError(f"{self.name}: there is no node {node!r}")
        if function and function not in known[node]:
            raise TopologyError(f"{self.name}: {node} has no {function!r}, but {', '.join(known[node]) or 'nothing'}")

    @property
    def consumer(self) -> str:
        """The first node without functions. Raises TopologyError when every node has some."""
        for node in self.nodes:
            if not node.functions:
                return node.name
        raise TopologyError(f"{self.name}: no node is left to ask: every node has functions")

    def roles(self) -> dict[str, str]:
        """role -> a node that has it. Raises TopologyError when one that every question needs is nowhere."""
        found = {function.partition(":")[0]: node.name for node in reversed(self.nodes) for function in node.functions}
        missing = {"tokenize", "prefill", "decode"} - set(found)
        if missing:
            raise TopologyError(f"{self.name}: no node has functions={','.join(sorted(missing))}")
        return found

    def with_function(self, function: str) -> list[str]:
        """The nodes that have a producer, in the order of the file."""
        return [node.name for node in self.nodes if function in node.functions]

    def link_between(self, first: str, second: str) -> LinkSpec:
        """Raises TopologyError when the two are not linked."""
        for link in self.links_of(first):
            if second in (link.first, link.second):
                return link
        raise TopologyError(f"{self.name}: {first} and {second} are not linked")

    def links_of(self, node: str) -> list[LinkSpec]:
        return [link for link in self.links if node in (link.first, link.second)]

    def addresses(self, link: LinkSpec) -> tuple[IPv4Address, IPv4Address]:
        """The addresses of both ends, first and second: a /30 per link."""
        base = _ADDRESSES.network_address + 4 * self.links.index(link)
        return base + 1, base + 2


# ---------------------------------------------------------------- paths


def shortest_paths(topology: Topology, source: str) -> dict[str, Way]:
    """Dijkstra from `source`: every other node that can be reached. Ties go to the lower name, so runs are alike."""
    done: dict[str, Way] = {}
    heap: list[tuple[int, str, str]] = [(0, source, "")]
    while heap:
        cost, node, first = heapq.heappop(heap)
        if node in done:
            continue
        done[node] = Way(first, cost)
        for link in topology.links_of(node):
            other = link.other(node)
            if other not in done:
                heapq.heappush(heap, (cost + link.cost, other, first or other))
    del done[source]
    return done


def forwarding(topology: Topology, offers: Mapping[str, Iterable[str]]) -> dict[str, dict[str, dict[str, int]]]:
    """Static routes: node -> prefix -> next hop -> cost, for the prefixes that each node offers.

    A node that offers a prefix itself still gets routes to the others that do: its own applications may want them.
    """
    table: dict[str, dict[str, dict[str, int]]] = {node.name: {} for node in topology.nodes}
    for node, routes in table.items():
        for target, path in shortest_paths(topology, node).items():
            for prefix in offers.get(target, ()):
                hops = routes.setdefault(prefix, {})
                hops[path.next_hop] = min(path.cost, hops.get(path.next_hop, path.cost))
    return table
