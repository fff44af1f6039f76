"""Topologies: nodes, links and what runs where, in Mini-NDN's file format; shortest paths and routes over them.

Owns: the file format (a subset of Mini-NDN's, so one file serves both runners), Dijkstra, which node forwards which
prefix where. Pure. Must not know: namespaces, forwarders, how a route is installed.

    [nodes]
    core: functions=tokenize,decode        `name: key=value ...`; `_` stands for "nothing to say"
    [links]
    edge:core delay=10ms bw=100            delay in us, ms or s; bw in Mbit/s; loss in percent; cost for routing
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from ndn_infer.errors import UsageError

FOLDER: Final = Path(__file__).resolve().parent / "topologies"
SUFFIX: Final = ".conf"
MAX_FILE_BYTES: Final = 1 << 20

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,9}")  # Mininet makes interfaces "<name>-eth0": 15 characters at most
_DELAY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s)")
_MICROSECONDS: Final = {"us": 1, "ms": 1_000, "s": 1_000_000}
_ADDRESSES: Final = IPv4Network("10.0.0.0/16")


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


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One link. `delay_us` is one way, microseconds; `bandwidth_mbit` 0 is unlimited; `loss_percent` 0 to 100.

    `cost` is what routing adds up: as written, else the delay in milliseconds, at least 1.
    """

    first: str
    second: str
    delay_us: int = 0
    bandwidth_mbit: float = 0.0
    loss_percent: float = 0.0
    cost: int = 1

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

    @property
    def consumer(self) -> str:
        """The first node without functions. Raises TopologyError when every node has some."""
        for node in self.nodes:
            if not node.functions:
                return node.name
        raise TopologyError(f"{self.name}: no node is left to ask: every node has functions")

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


# ---------------------------------------------------------------- files


def available() -> dict[str, Path]:
    """The topologies that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def load(name: str) -> Topology:
    """A topology by the name of a packaged one, or by path. Raises TopologyError."""
    path = available().get(name, Path(name))
    if not path.is_file():
        raise TopologyError(f"no topology {name!r}", hint=f"known: {', '.join(available())}; or give a file")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TopologyError(f"{path} is too large for a topology")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(f"cannot read {path}: {error}") from error
    return parse(text, str(path), name=path.stem)


def parse(text: str, source: str = "topology", *, name: str = "") -> Topology:
    """Raises TopologyError, naming `source` and the line."""
    nodes: dict[str, NodeSpec] = {}
    links: list[LinkSpec] = []
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        where = f"{source}:{number}"
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = _section(line, where)
        elif section == "nodes":
            node = _parse_node(line, where)
            if node.name in nodes:
                raise TopologyError(f"{where}: node {node.name!r} is there twice")
            nodes[node.name] = node
        elif section == "links":
            links.append(_parse_link(line, where, nodes, links))
        else:
            raise TopologyError(f"{where}: {line!r} stands before [nodes]")
    topology = Topology(name or source, tuple(nodes.values()), tuple(links))
    _check_connected(topology, source)
    return topology


def _section(line: str, where: str) -> str:
    if line not in ("[nodes]", "[links]"):
        raise TopologyError(f"{where}: sections are [nodes] and [links], not {line}")
    return line[1:-1]


def _parse_node(line: str, where: str) -> NodeSpec:
    head, *rest = line.split()
    name = head.removesuffix(":")
    if not _NAME.fullmatch(name):
        raise TopologyError(f"{where}: a node's name is up to 10 of a-z 0-9 -, starting with a letter, not {name!r}")
    return NodeSpec(name, _parameters(rest, where))


def _parse_link(line: str, where: str, nodes: Mapping[str, NodeSpec], links: Iterable[LinkSpec]) -> LinkSpec:
    head, *rest = line.split()
    ends = head.split(":")
    if len(ends) != 2:
        raise TopologyError(f"{where}: a link is written first:second, not {head!r}")
    for end in ends:
        if end not in nodes:
            raise TopologyError(f"{where}: no node {end!r} in [nodes]")
    first, second = ends
    if first == second:
        raise TopologyError(f"{where}: {first} is linked to itself")
    if any({first, second} == {link.first, link.second} for link in links):
        raise TopologyError(f"{where}: {first} and {second} are linked already")
    given = _parameters(rest, where)
    delay_us = _delay(given.get("delay", "0ms"), where)
    return LinkSpec(
        first,
        second,
        delay_us=delay_us,
        bandwidth_mbit=_number(given, "bw", where, 100_000.0),
        loss_percent=_number(given, "loss", where, 100.0),
        cost=int(_number(given, "cost", where, 1e9)) or max(1, round(delay_us / 1000)),
    )


def _parameters(words: list[str], where: str) -> dict[str, str]:
    """key=value words; `_` is Mini-NDN's way to say that there are none."""
    found = {}
    for word in words:
        if word == "_":
            continue
        key, separator, value = word.partition("=")
        if not separator or not key or not value:
            raise TopologyError(f"{where}: expected key=value, not {word!r}")
        found[key] = value
    return found


def _delay(text: str, where: str) -> int:
    match = _DELAY.fullmatch(text)
    if not match:
        raise TopologyError(f"{where}: a delay is a number with us, ms or s, not {text!r}")
    return round(float(match[1]) * _MICROSECONDS[match[2]])


def _number(given: Mapping[str, str], key: str, where: str, limit: float) -> float:
    try:
        value = float(given.get(key, "0"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= limit:
        raise TopologyError(f"{where}: {key} is a number between 0 and {limit:g}, not {given[key]!r}")
    return value


def _check_connected(topology: Topology, source: str) -> None:
    if len(topology.nodes) < 2:
        raise TopologyError(f"{source}: a topology has two nodes at least")
    if len(topology.links) > _ADDRESSES.num_addresses // 4:
        raise TopologyError(f"{source}: more links than addresses")
    reached = {topology.nodes[0].name, *shortest_paths(topology, topology.nodes[0].name)}
    lost = [node.name for node in topology.nodes if node.name not in reached]
    if lost:
        raise TopologyError(f"{source}: no path from {topology.nodes[0].name} to {', '.join(lost)}")
