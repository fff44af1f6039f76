"""Scenarios: pages of readable Python over a World, found by name.

Owns: the decorator, the registry, one play of a scenario and its result document. Must not know: how a world is made,
what a scenario does.

    @scenario(topology="three_sites", about="one system prompt, many readers at once")
    async def flash_crowd(world: World) -> None: ...
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ndn_infer.errors import UsageError
from ndn_infer.testbed import scenarios, topology_file
from ndn_infer.testbed.evidence import Snapshot
from ndn_infer.testbed.result import FORMAT, figures
from ndn_infer.testbed.topology import Topology
from ndn_infer.testbed.world import LinkBytes, World, copies

Play = Callable[[World], Awaitable[None]]
MakeTopology = Callable[[], Topology]

NAMESPACES: Final = "namespaces"
MININDN: Final = "Mini-NDN"
VIRTUAL: Final = "virtual time"
WORLDS: Final = (NAMESPACES, MININDN, VIRTUAL)
MININDN_NLSR: Final = "Mini-NDN with NLSR"
"""In place of MININDN: routes have to change in the middle, and Mini-NDN's static ones stay as they are made."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`topology` is a packaged file's name, or makes one (for networks that no file holds). `settings` are --set
    options of all nodes. `limit_s` is the time after which it has failed, building the world not included; `worlds`
    where it can run."""

    name: str
    about: str
    topology: str | MakeTopology
    play: Play
    settings: tuple[str, ...] = ()
    limit_s: float = 240.0
    worlds: tuple[str, ...] = WORLDS

    def load_topology(self) -> Topology:
        return self.topology() if callable(self.topology) else topology_file.load(self.topology)


_REGISTRY: dict[str, Scenario] = {}


def scenario(
    *, topology: str | MakeTopology, about: str, settings: Sequence[str] = (), limit_s: float = 240.0,
    worlds: Sequence[str] = WORLDS,
) -> Callable[[Play], Play]:  # fmt: skip
    """Register an async function over a World under its own name."""

    def register(play: Play) -> Play:
        name = getattr(play, "__name__", "")
        if name in _REGISTRY:
            raise ValueError(f"two scenarios are called {name}")
        _REGISTRY[name] = Scenario(name, about, topology, play, tuple(settings), limit_s, tuple(worlds))
        return play

    return register


def all_scenarios(*, bare: bool = False) -> dict[str, Scenario]:
    """Those of testbed/scenarios/, by name. `bare`: this interpreter has the standard library alone (Mini-NDN's), and
    pages that need more, which are for virtual time, are left out."""
    for module in pkgutil.iter_modules(scenarios.__path__):
        try:
            importlib.import_module(f"{scenarios.__name__}.{module.name}")
        except ModuleNotFoundError:
            if not bare:
                raise
    return dict(sorted(_REGISTRY.items()))


def find(name: str, *, bare: bool = False) -> Scenario:
    """Raises UsageError, naming the nearest. `bare` as above."""
    known = all_scenarios(bare=bare)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        near = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"no scenario {name!r}{near}", hint=f"known: {', '.join(known)}")
    return known[name]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a world counted around a play."""

    before: Snapshot
    after: Snapshot
    links: Sequence[LinkBytes]

    @classmethod
    def between(
        cls, before: tuple[Snapshot, Sequence[LinkBytes]], after: tuple[Snapshot, Sequence[LinkBytes]]
    ) -> Measured:
        """From what a world said before and after; the links in the same order."""
        links = [
            LinkBytes(new.first, new.second, new.forth - old.forth, new.back - old.back)
            for old, new in zip(before[1], after[1], strict=True)
        ]
        return cls(before[0], after[0], links)


@dataclass(frozen=True, slots=True)
class Run:
    """The circumstances of a run: the revision of the source, the forwarder in the nodes, the policy, the length."""

    commit: str
    forwarder: str
    zero_trust: bool
    total_s: float


def document(played: Scenario, world: World, measured: Measured, run: Run) -> dict[str, Any]:
    """The whole result, ready for JSON."""
    record = world.record
    return {
        "format": FORMAT,
        "scenario": played.name,
        "about": played.about,
        "topology": world.topology.name,
        "world": world.kind,
        "forwarder": run.forwarder,
        "zero_trust": run.zero_trust,
        "seed": world.seed,
        "commit": run.commit,
        "total_s": round(run.total_s, 3),
        "holds": record.holds,
        "claims": [asdict(claim) for claim in record.claims],
        "figures": figures(record.asked),
        "notes": list(record.notes),
        "details": record.details,
        "events": [[round(when, 3), what] for when, what in record.events],
        "asked": [asdict(row) for row in record.asked],
        "links": [asdict(link) for link in measured.links],
        "copies": copies(measured.before, measured.after),
        "producers": {key: dict(counters) for key, counters in measured.after.producers.items()},
    }
