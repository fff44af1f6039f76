"""Static routes of a virtual network: shortest paths from every node to every producer; and which producers are near.

Owns: next hops and their costs. Pure. Must not know: forwarders. One Dijkstra for each producing node, outwards: links
cost the same in both directions. What only one node answers for has one route, that of the node's own prefix.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ndn_infer.ndn.name import Name
from ndn_infer.testbed.topology import LinkSpec


@dataclass(frozen=True, slots=True)
class Offered:
    """What one node answers for: alone (`own`), and beside others (`shared`)."""

    own: Name
    shared: frozenset[Name]


Routes = dict[str, dict[Name, dict[str, int]]]
"""node -> prefix -> next hop -> cost."""


def neighbours(links: Iterable[LinkSpec]) -> dict[str, list[tuple[str, int]]]:
    """node -> (neighbour, cost of the link), in the order of the links."""
    found: dict[str, list[tuple[str, int]]] = {}
    for link in links:
        found.setdefault(link.first, []).append((link.second, link.cost))
        found.setdefault(link.second, []).append((link.first, link.cost))
    return found


def towards(target: str, near: Mapping[str, list[tuple[str, int]]]) -> dict[str, tuple[str, int]]:
    """node -> (next hop to `target`, cost of the whole way). Ties go to the lower name."""
    found: dict[str, tuple[str, int]] = {}
    heap = [(0, target, "")]
    while heap:
        cost, node, via = heapq.heappop(heap)
        if node in found:
            continue
        found[node] = (via, cost)
        for other, more in near.get(node, ()):
            if other not in found:
                heapq.heappush(heap, (cost + more, other, node))
    del found[target]
    return found


def routes(links: Iterable[LinkSpec], offered: Mapping[str, Offered]) -> Routes:
    """Every next hop towards a prefix that several answer for, at the cost of the nearest of those behind it."""
    near = neighbours(links)
    table: Routes = {}
    for target, what in offered.items():
        ways = towards(target, near)
        for node, (hop, cost) in ways.items():
            rows = table.setdefault(node, {})
            for prefix in (what.own, *sorted(what.shared)):
                hops = rows.setdefault(prefix, {})
                if cost < hops.get(hop, cost + 1):
                    hops[hop] = cost
    return table


Place = tuple[str, str]
"""A producer: its node, its role."""


def nearest(links: Iterable[LinkSpec], places: Iterable[Place], most: int) -> dict[str, list[Place]]:
    """node -> producers at other nodes, nearest first, `most` of each role."""
    near, roles = neighbours(links), dict[str, list[str]]()
    for node, role in places:
        roles.setdefault(role, []).append(node)
    table: dict[str, list[Place]] = {}
    for role, nodes in roles.items():
        costs: dict[str, list[tuple[int, str]]] = {}
        for target in nodes:
            for node, (_, cost) in towards(target, near).items():
                costs.setdefault(node, []).append((cost, target))
        for node, found in costs.items():
            table.setdefault(node, []).extend((target, role) for _, target in sorted(found)[:most])
    return table
