"""Topologies that no file holds: networks of any size, made from a seed.

Owns: where nodes lie, who is linked to whom, where producers are. Pure. Must not know: scenarios, worlds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from ndn_infer.testbed.topology import LinkSpec, NodeSpec, Topology

KM_A_MS: Final = 200.0
"""Light in glass."""
WIDTH_KM: Final = 4000.0
ACCESS_DELAY_US: Final = (500, 8000)
ACCESS_MBIT: Final = (50.0, 1000.0)
BACKBONE_MBIT: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """`cities` on a backbone, and nodes at each, `nodes` together; so many of them have producers of each kind."""

    nodes: int = 1000
    cities: int = 40
    decode: int = 60
    prefill: int = 30
    tokenize: int = 10
    parameters: tuple[tuple[str, str], ...] = ()
    """Further parameters of nodes with producers."""


def wide_area(shape: Shape, seed: int = 0) -> Topology:
    """Cities at random places, each linked to its two nearest and along a ring, so that no single link parts them;
    every other node at one of them. Producers are at random nodes; no node has two. Costs are delays."""
    rng = random.Random(f"wide area {seed}")
    cities = [f"city{number}" for number in range(shape.cities)]
    places = {city: (rng.uniform(0, WIDTH_KM), rng.uniform(0, WIDTH_KM)) for city in cities}
    links = [_backbone(places, pair) for pair in _pairs(places)]
    others = [f"node{number}" for number in range(shape.nodes - shape.cities)]
    for node in others:
        delay = rng.randint(*ACCESS_DELAY_US)
        bandwidth = round(math.exp(rng.uniform(*map(math.log, ACCESS_MBIT))))
        links.append(LinkSpec(node, rng.choice(cities), delay, bandwidth, cost=max(1, delay // 100)))
    roles = ["decode"] * shape.decode + ["prefill"] * shape.prefill + ["tokenize"] * shape.tokenize
    chosen = dict(zip(rng.sample([*cities, *others], len(roles)), roles, strict=True))
    nodes = tuple(NodeSpec(name, _parameters(chosen.get(name, ""), shape)) for name in (*cities, *others))
    return Topology(f"wide-area-{shape.nodes}", nodes, tuple(links))


def _parameters(role: str, shape: Shape) -> dict[str, str]:
    return {"functions": role, **dict(shape.parameters)} if role else {}


def _pairs(places: dict[str, tuple[float, float]]) -> list[tuple[str, str]]:
    """The ring (by angle around the middle), and each city's two nearest."""
    middle = WIDTH_KM / 2
    ring = sorted(places, key=lambda city: math.atan2(places[city][1] - middle, places[city][0] - middle))
    found = {tuple(sorted((one, ring[at - 1]))) for at, one in enumerate(ring)}
    for city in places:
        near = sorted((other for other in places if other != city), key=lambda other: _km(places, city, other))
        found |= {tuple(sorted((city, other))) for other in near[:2]}
    return sorted((first, second) for first, second in found if first != second)


def _km(places: dict[str, tuple[float, float]], one: str, other: str) -> float:
    return math.dist(places[one], places[other])


def _backbone(places: dict[str, tuple[float, float]], pair: tuple[str, str]) -> LinkSpec:
    delay = max(100, round(_km(places, *pair) / KM_A_MS * 1000))
    return LinkSpec(*pair, delay, BACKBONE_MBIT, cost=max(1, delay // 100))


def consumers(topology: Topology) -> list[str]:
    """Nodes without producers, cities left out."""
    return [node.name for node in topology.nodes if not node.functions and node.name.startswith("node")]
