"""FIB, RIB, PIT entries, dead nonces: the forwarder's tables.

Owns: their records and look-ups. Pure: `now` is passed in. Must not know: packets' bytes beyond names and nonces, what
a strategy does with them. Semantics: NFD developer guide, sections 3.1, 3.4 to 3.6 and 7.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.name import Name, prefix_ends

CHILD_INHERIT: Final = 1
CAPTURE: Final = 2
DEAD_NONCE_LIFETIME_S: Final = 6.0
DEAD_NONCE_CAPACITY: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class NextHop:
    face_id: int
    cost: int


class PrefixTable:
    """Values by name prefix, with longest-prefix match."""

    def __init__(self) -> None:
        self.entries: dict[Name, Any] = {}

    def longest(self, name: Name) -> tuple[Name, Any] | None:
        """The entry with the longest prefix of `name`."""
        entries = self.entries
        for end in reversed(prefix_ends(name)):
            value = entries.get(name[:end])
            if value is not None:
                return name[:end], value
        return None


class Fib(PrefixTable):
    """Next hops by prefix, cheapest first."""

    entries: dict[Name, tuple[NextHop, ...]]

    def lookup(self, name: Name) -> tuple[NextHop, ...]:
        found = self.longest(name)
        return found[1] if found is not None else ()

    def add(self, prefix: Name, face_id: int, cost: int) -> None:
        others = [hop for hop in self.entries.get(prefix, ()) if hop.face_id != face_id]
        self._set(prefix, [*others, NextHop(face_id, cost)])

    def remove(self, prefix: Name, face_id: int) -> None:
        self._set(prefix, [hop for hop in self.entries.get(prefix, ()) if hop.face_id != face_id])

    def remove_face(self, face_id: int) -> None:
        for prefix in [key for key, hops in self.entries.items() if any(hop.face_id == face_id for hop in hops)]:
            self.remove(prefix, face_id)

    def _set(self, prefix: Name, hops: list[NextHop]) -> None:
        if hops:
            self.entries[prefix] = tuple(sorted(hops, key=lambda hop: (hop.cost, hop.face_id)))
        else:
            self.entries.pop(prefix, None)


@dataclass(frozen=True, slots=True)
class Route:
    """One RIB route; `expires` is None for one that stays until withdrawn."""

    face_id: int
    origin: int
    cost: int
    flags: int
    expires: float | None = None


class Rib:
    """Routes by prefix, from registrations; writes the FIB entries that follow from them (NFD guide, section 7.3)."""

    def __init__(self, fib: Fib) -> None:
        self._fib = fib
        self.routes: dict[Name, dict[tuple[int, int], Route]] = {}

    def register(self, prefix: Name, route: Route) -> None:
        """Add or refresh a route: the FIB forwards by it when this returns."""
        self.routes.setdefault(prefix, {})[route.face_id, route.origin] = route
        self._update(prefix)

    def unregister(self, prefix: Name, face_id: int, origin: int) -> bool:
        """Whether there was such a route."""
        routes = self.routes.get(prefix, {})
        gone = routes.pop((face_id, origin), None)
        if gone is not None:
            self._drop_empty(prefix)
            self._update(prefix)
        return gone is not None

    def remove_face(self, face_id: int) -> None:
        self._remove(lambda route: route.face_id == face_id)

    def expire(self, now: float) -> None:
        self._remove(lambda route: route.expires is not None and route.expires <= now)

    def next_expiry(self) -> float | None:
        times = [
            route.expires for routes in self.routes.values() for route in routes.values() if route.expires is not None
        ]
        return min(times, default=None)

    def _remove(self, gone: Any) -> None:
        for prefix in list(self.routes):
            keys = [key for key, route in self.routes[prefix].items() if gone(route)]
            for key in keys:
                del self.routes[prefix][key]
            if keys:
                self._drop_empty(prefix)
                self._update(prefix)

    def _drop_empty(self, prefix: Name) -> None:
        if not self.routes[prefix]:
            del self.routes[prefix]

    def _update(self, changed: Name) -> None:
        """Recompute FIB entries of `changed` and of every longer prefix, which may inherit from it."""
        affected = [changed, *(prefix for prefix in self.routes if prefix != changed and prefix.startswith(changed))]
        for prefix in affected:
            hops = self._next_hops(prefix)
            for hop in self._fib.entries.get(prefix, ()):
                if hop.face_id not in hops:
                    self._fib.remove(prefix, hop.face_id)
            for face_id, cost in hops.items():
                self._fib.add(prefix, face_id, cost)

    def _next_hops(self, prefix: Name) -> dict[int, int]:
        own = self.routes.get(prefix)
        if not own:
            return {}
        hops = _cheapest(own.values())
        if any(route.flags & CAPTURE for route in own.values()):
            return hops
        for end in reversed(prefix_ends(prefix)[:-1]):
            routes = self.routes.get(prefix[:end], {}).values()
            for face_id, cost in _cheapest(route for route in routes if route.flags & CHILD_INHERIT).items():
                hops.setdefault(face_id, cost)
            if any(route.flags & CAPTURE for route in routes):
                break
        return hops


def _cheapest(routes: Any) -> dict[int, int]:
    hops: dict[int, int] = {}
    for route in routes:
        hops[route.face_id] = min(route.cost, hops.get(route.face_id, route.cost))
    return hops


@dataclass(slots=True)
class InRecord:
    """Who asked: the Interest as it will be forwarded, and the PIT token to give back."""

    nonce: bytes
    token: bytes
    expires: float
    renewed: float


@dataclass(slots=True)
class OutRecord:
    """Whom we asked."""

    nonce: bytes
    expires: float
    sent: float
    nack_reason: int | None = None


PitKey = tuple[Name, bool, bool, tuple[Name, ...]]


@dataclass(slots=True)
class PitEntry:
    """One pending Interest: (name, CanBePrefix, MustBeFresh, hints), who wants it and who was asked."""

    key: PitKey
    ins: dict[int, InRecord] = field(default_factory=dict)
    outs: dict[int, OutRecord] = field(default_factory=dict)
    expires: float = 0.0
    suppress_until: float = 0.0
    suppress_s: float = 0.0
    satisfied: bool = False
    freshness_ms: int = 0

    @property
    def name(self) -> Name:
        return self.key[0]

    def nonce_elsewhere(self, nonce: bytes, face_id: int) -> bool:
        """Whether another face sent us, or we sent anybody, this nonce: a loop. The same face may retransmit."""
        return any(record.nonce == nonce for face, record in self.ins.items() if face != face_id) or any(
            record.nonce == nonce for record in self.outs.values() if record.nack_reason is None
        )


class DeadNonces:
    """(name, nonce) pairs of Interests that left the PIT: what still loops is recognised (NFD guide, section 3.5)."""

    def __init__(self, lifetime_s: float = DEAD_NONCE_LIFETIME_S, capacity: int = DEAD_NONCE_CAPACITY) -> None:
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._seen: OrderedDict[int, float] = OrderedDict()

    def add(self, name: Name, nonce: bytes, now: float) -> None:
        key = hash((name, nonce))
        self._seen.pop(key, None)
        self._seen[key] = now
        while self._seen and (
            len(self._seen) > self._capacity or next(iter(self._seen.values())) < now - self._lifetime_s
        ):
            self._seen.popitem(last=False)

    def has(self, name: Name, nonce: bytes, now: float) -> bool:
        seen = self._seen.get(hash((name, nonce)))
        return seen is not None and seen >= now - self._lifetime_s
