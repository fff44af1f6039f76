"""Whether routing has converged, read from what `nlsrc lsdb` and `nfdc route list` say on every node.

Owns: the text format of NLSR's status tool, and what is still missing. Pure, standard library alone. Must not know: how
commands are run, how long anybody waits.

Converged means: every node has heard of every router that it can reach which neighbours it has and which prefixes its
applications registered, and has a route to every such prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.testbed import nfdc_text

_ORIGIN: Final = re.compile(r"\s*OriginRouter:\s+(\S+)\s*")
_ADJACENT: Final = re.compile(r"\s*Adjacent \d+: \(name=(\S+), uri=.*\)\s*")
_NAME: Final = re.compile(r"\s*Name \d+: (\S+)(?: \| Cost: \d+)?\s*")


@dataclass(frozen=True, slots=True)
class RouterState:
    """What a node has heard of a router: its neighbours, by their routers' names, and its prefixes."""

    neighbours: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()


def link_state(text: str) -> dict[str, RouterState]:
    """By router name, of `nlsrc lsdb` or `nlsrc status`. Other text has none."""
    neighbours: dict[str, set[str]] = {}
    prefixes: dict[str, set[str]] = {}
    router = ""
    for line in text.splitlines():
        if (origin := _ORIGIN.fullmatch(line)) is not None:
            router = origin[1]
            neighbours.setdefault(router, set())
            prefixes.setdefault(router, set())
        elif router and (adjacent := _ADJACENT.fullmatch(line)) is not None:
            neighbours[router].add(adjacent[1])
        elif router and (name := _NAME.fullmatch(line)) is not None:
            prefixes[router].add(name[1])
    return {name: RouterState(frozenset(neighbours[name]), frozenset(prefixes[name])) for name in neighbours}


@dataclass(frozen=True, slots=True)
class NodeRouting:
    """What one node knows: prefixes that its own applications registered, prefixes that it has routes to, and by node
    what it has heard of it (neighbours by node too)."""

    registered: frozenset[str] = frozenset()
    routed: frozenset[str] = frozenset()
    heard: Mapping[str, RouterState] = field(default_factory=dict)

    @classmethod
    def read(cls, route_list: str, lsdb: str, net: str) -> NodeRouting:
        """Of the texts of `nfdc route list` and `nlsrc lsdb`; Mini-NDN's routers are named .../%C1.Router/cs/<node>."""
        routed = {entry.prefix for entry in nfdc_text.routes(route_list)}
        heard = {
            _node(router): RouterState(frozenset(map(_node, state.neighbours)), state.prefixes)
            for router, state in link_state(lsdb).items()
        }
        return cls(frozenset(nfdc_text.registered(route_list, net)), frozenset(routed), heard)


def _node(router: str) -> str:
    return router.rpartition("/")[2]


def missing(nodes: Mapping[str, NodeRouting], neighbours: Mapping[str, frozenset[str]]) -> list[str]:
    """A line for every thing that a node does not know yet, or has no way to; none: it has converged. `neighbours` are
    those over links that are up; what is beyond them all tells a node nothing, and nothing of it is missing."""
    lines = []
    for node, here in nodes.items():
        for other in sorted(_reached(node, neighbours)):
            there = nodes[other]
            heard = here.heard.get(other, RouterState())
            unmet = neighbours[other] ^ heard.neighbours
            unheard = there.registered - heard.prefixes
            unrouted = there.registered - here.routed
            if unmet:
                lines.append(f"{node} has not heard that the link {other} - {min(unmet)} is there, or is not")
            if unheard:
                lines.append(f"{node} has not heard that {other} has {min(unheard)} ({len(unheard)} missing)")
            if unrouted:
                lines.append(f"{node} has no route to {min(unrouted)} of {other} ({len(unrouted)} missing)")
    return lines


def _reached(node: str, neighbours: Mapping[str, frozenset[str]]) -> set[str]:
    """From a node over any number of links, itself among them."""
    found, new = {node}, {node}
    while new:
        new = {other for at in new for other in neighbours[at]} - found
        found |= new
    return found
