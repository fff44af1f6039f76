"""The FIB: next hops by prefix. Pure. Source: NFD developer guide, section 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer.forwarder.core.tables import PrefixTable
from ndn_infer.ndn.name import Name, prefix_ends


@dataclass(frozen=True, slots=True)
class NextHop:
    face_id: int
    cost: int


MAX_PREFIXES: Final = 65536


class Fib(PrefixTable[tuple[NextHop, ...]]):
    """Next hops by prefix, cheapest first. Bounded by the commands that add to it (`has_room`, Rib.has_room)."""

    def __init__(self) -> None:
        super().__init__()
        self._of_face: dict[int, set[Name]] = {}

    def has_room(self, prefix: Name) -> bool:
        return len(self) < MAX_PREFIXES or prefix in self

    def lookup(self, name: Name, ends: Sequence[int] | None = None) -> tuple[NextHop, ...]:
        """Next hops of the longest prefix of `name`; () when there is none."""
        return self.longest(name, prefix_ends(name) if ends is None else ends) or ()

    def add(self, prefix: Name, face_id: int, cost: int) -> None:
        """Add a next hop, or change its cost."""
        self._of_face.setdefault(face_id, set()).add(prefix)
        self._set(prefix, [*self._others(prefix, face_id), NextHop(face_id, cost)])

    def remove(self, prefix: Name, face_id: int) -> None:
        prefixes = self._of_face.get(face_id)
        if prefixes is None or prefix not in prefixes:
            return
        prefixes.discard(prefix)
        if not prefixes:
            del self._of_face[face_id]
        self._set(prefix, self._others(prefix, face_id))

    def remove_face(self, face_id: int) -> None:
        for prefix in list(self._of_face.get(face_id, ())):
            self.remove(prefix, face_id)

    def _others(self, prefix: Name, face_id: int) -> list[NextHop]:
        return [hop for hop in self.get(prefix) or () if hop.face_id != face_id]

    def _set(self, prefix: Name, hops: list[NextHop]) -> None:
        if hops:
            self.put(prefix, tuple(sorted(hops, key=lambda hop: (hop.cost, hop.face_id))))
        else:
            self.delete(prefix)
