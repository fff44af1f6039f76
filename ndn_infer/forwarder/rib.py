"""The RIB: routes that applications and operators registered, and the FIB entries that follow from them.

Pure: `now` is passed in. Must not know: who registered, or how. Source: NFD developer guide, section 7.3 (flags
child-inherit and capture, several origins a face).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ndn_infer.forwarder.fib import Fib
from ndn_infer.forwarder.name_order import NameOrder
from ndn_infer.name import Name, prefix_ends

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


class Rib:
    """Registers, withdraws and expires routes. The FIB forwards by a route when `register` returns."""

    def __init__(self, fib: Fib) -> None:
        self._fib = fib
        self._routes: dict[Name, dict[tuple[int, int], Route]] = {}
        self._installed: dict[Name, dict[int, int]] = {}
        self._order = NameOrder()  # of _routes
        self._next_expiry: float | None = None

    def items(self) -> Iterator[tuple[Name, Iterable[Route]]]:
        return ((prefix, routes.values()) for prefix, routes in self._routes.items())

    def register(self, prefix: Name, route: Route) -> None:
        """Add a route, or refresh it (new cost, flags and expiry)."""
        routes = self._routes.get(prefix)
        if routes is None:
            routes = self._routes[prefix] = {}
            self._order.add(prefix)
        routes[route.face_id, route.origin] = route
        if route.expires is not None and (self._next_expiry is None or route.expires < self._next_expiry):
            self._next_expiry = route.expires
        self._update(prefix)

    def unregister(self, prefix: Name, face_id: int, origin: int) -> bool:
        """Whether there was such a route."""
        routes = self._routes.get(prefix)
        if routes is None or routes.pop((face_id, origin), None) is None:
            return False
        if not routes:
            self._forget(prefix)
        self._update(prefix)
        return True

    def remove_face(self, face_id: int) -> None:
        self._remove(lambda route: route.face_id == face_id)

    def expire(self, now: float) -> None:
        """Drop routes that ran out."""
        if self._next_expiry is not None and self._next_expiry <= now:
            self._remove(lambda route: route.expires is not None and route.expires <= now)
            self._next_expiry = min(
                (route.expires for _, routes in self.items() for route in routes if route.expires is not None),
                default=None,
            )

    def next_expiry(self) -> float | None:
        """No route runs out before (it may be sooner than the first that does)."""
        return self._next_expiry

    def _remove(self, gone: Callable[[Route], bool]) -> None:
        for prefix in list(self._routes):
            routes = self._routes[prefix]
            keys = [key for key, route in routes.items() if gone(route)]
            for key in keys:
                del routes[key]
            if not routes:
                self._forget(prefix)
            if keys:
                self._update(prefix)

    def _forget(self, prefix: Name) -> None:
        del self._routes[prefix]
        self._order.remove(prefix)

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
