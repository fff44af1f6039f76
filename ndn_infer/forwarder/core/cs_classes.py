"""Classes of Content Store entries: what is protected from eviction, and what is counted apart.

Owns: the class of a name (its longest configured prefix) and the counters of each class. Pure. Must not know: packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ndn_infer.forwarder.core.tables import PrefixTable
from ndn_infer.ndn.name import ROOT, Name, prefix_ends


@dataclass(slots=True, eq=False)
class CsClass:
    """Names below `prefix` that no longer prefix claims. `misses` counts Interests that the store did not answer,
    `disk_hits` those of the hits that came from the second tier."""

    prefix: Name
    protected: bool = False
    hits: int = 0
    misses: int = 0
    disk_hits: int = 0
    inserted: int = 0
    evicted: int = 0
    packets: int = 0
    used_bytes: int = 0


class CsClasses:
    """Always has the class of /, which is not protected."""

    def __init__(self, protected: Iterable[Name] = (), counted: Iterable[Name] = ()) -> None:
        self.root = CsClass(ROOT)
        self.table: PrefixTable[CsClass] = PrefixTable()
        self.table.put(ROOT, self.root)
        for prefix in counted:
            self._put(CsClass(prefix))
        for prefix in protected:
            self._put(CsClass(prefix, protected=True))

    def _put(self, kind: CsClass) -> None:
        if kind.prefix:
            self.table.put(kind.prefix, kind)
        elif kind.protected:
            self.root.protected = True

    def of(self, name: Name, ends: Sequence[int] | None = None) -> CsClass:
        """The class of a name; `ends` are `prefix_ends(name)` where they are at hand."""
        if len(self.table) == 1:
            return self.root
        return self.table.longest(name, prefix_ends(name) if ends is None else ends) or self.root

    def all(self) -> list[CsClass]:
        return [kind for _, kind in self.table.items()]

    def keep_counts(self, old: CsClasses) -> None:
        """Take over the counters of classes that stay, when the configuration changes."""
        known = {kind.prefix: kind for kind in old.all()}
        for kind in self.all():
            before = known.get(kind.prefix)
            if before is not None:
                kind.hits, kind.misses, kind.disk_hits = before.hits, before.misses, before.disk_hits
                kind.inserted, kind.evicted = before.inserted, before.evicted
