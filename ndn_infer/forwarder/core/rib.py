"""The RIB: routes that applications and operators registered, and the FIB entries that follow from them.

Pure: `now` is passed in. Must not know: who registered, or how. Source: NFD developer guide, section 7.3 (flags
child-inherit and capture, several origins a face).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ndn_infer.forwarder.core.fib import Fib
from ndn_infer.forwarder.core.name_order import NameOrder
from ndn_infer.ndn.name import Name, prefix_ends

CHILD_INHERIT: Final = 1
CAPTURE: Final = 2


@dataclass(frozen=True, slots=True)
class Route:
    """One route, by (prefix, face, origin); `expires` is None for one that stays until withdrawn."""

    face_id: int
    origin: int
    cost: int
    flags: int
    expires: float | None = None


MAX_ROUTES: Final = 65536

_Key = tuple[Name, int, int]


class Rib:
    """Registers, withdraws and expires routes. The FIB forwards by a route when `register` returns."""

    def __init__(self, fib: Fib, capacity: int = MAX_ROUTES) -> None:
        self._fib = fib
        self._capacity = capacity
        self._size = 0
        self._of_face: dict[int, set[_Key]] = {}
        self._expiries: list[tuple[float, _Key]] = []  # a heap; some are of routes that were refreshed since
        self._routes: dict[Name, dict[tuple[int, int], Route]] = {}
        self._installed: dict[Name, dict[int, int]] = {}
        self._order = NameOrder()  # of _routes

    def items(self) -> Iterator[tuple[Name, Iterable[Route]]]:
        return ((prefix, routes.values()) for prefix, routes in self._routes.items())

    def __len__(self) -> int:
        """Routes, all prefixes together."""
        return self._size

    def has_room(self, prefix: Name, face_id: int, origin: int) -> bool:
        """Whether a route can be added: unless its face has as many as there is room left (as in Pit.has_room). One
        that is there can always be refreshed."""
        held = self._of_face.get(face_id, set())
        return (prefix, face_id, origin) in held or len(held) < self._capacity - self._size

    def register(self, prefix: Name, route: Route) -> None:
        """Add a route, or refresh it (new cost, flags and expiry)."""
        key = (prefix, route.face_id, route.origin)
        routes = self._routes.get(prefix)
        if routes is None:
            routes = self._routes[prefix] = {}
            self._order.add(prefix)
        if (route.face_id, route.origin) not in routes:
            self._size += 1
            self._of_face.setdefault(route.face_id, set()).add(key)
        routes[route.face_id, route.origin] = route
        if route.expires is not None:
            heapq.heappush(self._expiries, (route.expires, key))
            if len(self._expiries) > 2 * self._size + 64:
                self._expiries = [entry for entry in self._expiries if self._is_due_then(*entry)]
                heapq.heapify(self._expiries)
        self._update(prefix)

    def unregister(self, prefix: Name, face_id: int, origin: int) -> bool:
        """Whether there was such a route."""
        routes = self._routes.get(prefix)
        if routes is None or routes.pop((face_id, origin), None) is None:
            return False
        self._size -= 1
        held = self._of_face[face_id]
        held.discard((prefix, face_id, origin))
        if not held:
            del self._of_face[face_id]
        if not routes:
            del self._routes[prefix]
            self._order.remove(prefix)
        self._update(prefix)
        return True

    def remove_face(self, face_id: int) -> None:
        for key in list(self._of_face.get(face_id, ())):
            self.unregister(*key)

    def expire(self, now: float) -> None:
        """Drop routes that ran out."""
        while self._expiries and self._expiries[0][0] <= now:
            expires, key = heapq.heappop(self._expiries)
            if self._is_due_then(expires, key):
                self.unregister(*key)

    def next_expiry(self) -> float | None:
        """No route runs out before (it may be sooner than the first that does)."""
        return self._expiries[0][0] if self._expiries else None

    def _is_due_then(self, expires: float, key: _Key) -> bool:
        """Whether this is still when the route runs out."""
        route = self._routes.get(key[0], {}).get(key[1:])
        return route is not None and route.expires == expires

    def _update(self, changed: Name) -> None:
        """Recompute the FIB entries of `changed` and of every longer prefix, which may inherit from it."""
        below = [prefix for prefix in self._order.below(changed) if prefix != changed]
        for prefix in (changed, *below):
            old, new = self._installed.pop(prefix, {}), self._next_hops(prefix)
            for face_id in old.keys() - new.keys():
                self._fib.remove(prefix, face_id)
            for face_id, cost in new.items():
                if old.get(face_id) != cost:
                    self._fib.add(prefix, face_id, cost)
            if new:
                self._installed[prefix] = new

    def _next_hops(self, prefix: Name) -> dict[int, int]:
        own = self._routes.get(prefix)
        if not own:
            return {}
        hops = _cheapest(own.values())
        if any(route.flags & CAPTURE for route in own.values()):
            return hops
        for end in reversed(prefix_ends(prefix)[:-1]):
            routes = self._routes.get(prefix[:end], {}).values()
            for face_id, cost in _cheapest(route for route in routes if route.flags & CHILD_INHERIT).items():
                hops.setdefault(face_id, cost)
            if any(route.flags & CAPTURE for route in routes):
                break
        return hops


def _cheapest(routes: Iterable[Route]) -> dict[int, int]:
    hops: dict[int, int] = {}
    for route in routes:
        hops[route.face_id] = min(route.cost, hops.get(route.face_id, route.cost))
    return hops
