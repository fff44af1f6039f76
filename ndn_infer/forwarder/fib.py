"""The FIB: next hops by prefix. Pure. Source: NFD developer guide, section 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndn_infer.forwarder.tables import PrefixTable
from ndn_infer.name import Name, prefix_ends


@dataclass(frozen=True, slots=True)
class NextHop:
    face_id: int
    cost: int


class Fib(PrefixTable[tuple[NextHop, ...]]):
    """Next hops by prefix, cheapest first."""

    def lookup(self, name: Name, ends: Sequence[int] | None = None) -> tuple[NextHop, ...]:
        """Next hops of the longest prefix of `name`; () when there is none."""
        return self.longest(name, prefix_ends(name) if ends is None else ends) or ()

    def add(self, prefix: Name, face_id: int, cost: int) -> None:
        """Add a next hop, or change its cost."""
        self._set(prefix, [*self._others(prefix, face_id), NextHop(face_id, cost)])

    def remove(self, prefix: Name, face_id: int) -> None:
        self._set(prefix, self._others(prefix, face_id))

    def remove_face(self, face_id: int) -> None:
        for prefix in [key for key, hops in self.items() if any(hop.face_id == face_id for hop in hops)]:
            self.remove(prefix, face_id)

    def _others(self, prefix: Name, face_id: int) -> list[NextHop]:
        return [hop for hop in self.get(prefix) or () if hop.face_id != face_id]

    def _set(self, prefix: Name, hops: list[NextHop]) -> None:
        if hops:
            self.put(prefix, tuple(sorted(hops, key=lambda hop: (hop.cost, hop.face_id))))
        else:
            self.delete(prefix)
