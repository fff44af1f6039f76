"""A scenario's world in virtual time: the product's own code on nodes in one process.

Owns: the nodes, the wires between them, static routes; what a scenario does to them (testbed/world.py says what each
method means). Must not know: how an answer is read (asking.py), what a scenario is after, its result document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.config import Config, PathsConfig
from ndn_infer.errors import UsageError
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.shell.wire import Wire, WireShape
from ndn_infer.namespace import Role
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import USER
from ndn_infer.testbed.evidence import FACE_COUNTERS, NodeCounters, Snapshot
from ndn_infer.testbed.process_network import NET, SITE
from ndn_infer.testbed.result import RunRecord, Value
from ndn_infer.testbed.topology import LinkSpec, NodeSpec, Topology
from ndn_infer.testbed.virtual.asking import read_answer
from ndn_infer.testbed.virtual.functions import ROLES
from ndn_infer.testbed.virtual.keys import Operator
from ndn_infer.testbed.virtual.machine import VirtualNode
from ndn_infer.testbed.virtual.model import Speed, model_record
from ndn_infer.testbed.virtual.routes import Offered, Place, Routes, nearest, routes
from ndn_infer.testbed.world import AnswerProgress, LinkBytes, Prompt, PromptOutcome

SETTINGS: Final = ("trust.revocations=off",)
"""There is no operator's machine that offers a deny list."""
MOST_LISTED: Final = 8
"""Producers of each role that a node's operator lists in offers.pull: the nearest."""
MOST_ROUTED: Final = 64
"""Nodes of a network in which routes lead to every one of them, and not to producers alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build. `settings` are --set options of all nodes, `speed` that of engines whose node says nothing else,
    `folder` a scratch folder, `strategy` that of all forwarders ("": best-route)."""

    topology: Topology
    folder: Path
    seed: int = 0
    settings: Sequence[str] = ()
    speed: Speed | None = None
    strategy: str = ""


@dataclass(slots=True)
class VirtualWorld:
    """`await build()` it inside a VirtualLoop, and play."""

    plan: Plan
    topology: Topology
    seed: int
    kind: str = "virtual time"
    record: RunRecord = field(default_factory=RunRecord)
    nodes: dict[str, VirtualNode] = field(default_factory=dict)
    wires: dict[LinkSpec, Wire] = field(default_factory=dict)
    _left: set[LinkSpec] = field(default_factory=set)
    """Links that a node has left: no route leads over them."""
    _offered: dict[str, Offered] = field(default_factory=dict)
    _static: dict[str, list[tuple[Name, int]]] = field(default_factory=dict)
    """Routes that were installed: prefix, face."""
    _began: float = 0.0

    @classmethod
    async def build(cls, plan: Plan) -> VirtualWorld:
        """Everything up to the first question."""
        world = cls(plan, plan.topology, plan.seed)
        config = configuration.load(file=_nothing(plan.folder), flags=[*SETTINGS, *plan.settings])
        _config_of(config, "", plan.folder).keys_dir.mkdir(parents=True, mode=0o700)
        operator = Operator(ndn.from_uri(NET), SITE)
        catalogue = operator.catalogue(model_record(config.ask.model))
        places = [(node.name, role) for node in plan.topology.nodes for role in node.functions if role in ROLES]
        listed = nearest(plan.topology.links, places, MOST_LISTED)
        for node in plan.topology.nodes:
            roles = [role for role in node.functions if role in ROLES]
            keychain = operator.keychain(node.name, [*roles, USER])
            world.nodes[node.name] = VirtualNode(
                node.name, _listing(_config_of(config, node.name, plan.folder), listed.get(node.name, ())), keychain,
                catalogue,
                _speed(plan.speed, config, node), plan.seed, plan.strategy,
            )  # fmt: skip
        for link in plan.topology.links:
            world.wires[link] = Wire(_shape(link), (link.first, link.second), seed=str(plan.seed))
            for end in range(2):
                world._join(link, end)
        for node in plan.topology.nodes:
            for role in node.functions:
                if role in ROLES:
                    await world.nodes[node.name].start(role)
                else:
                    world.note(f"no {role} in virtual time")
        world._note_offers()
        world._route()
        world.begin()
        return world

    # ------------------------------------------------------------ time

    def begin(self) -> None:
        """The scenario's time begins now."""
        self._began = asyncio.get_running_loop().time()

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # ------------------------------------------------------------ asking

    async def join(self, *nodes: str) -> None:
        """Nothing: a consumer starts within no time."""
        for node in nodes:
            self._node(node)

    async def ask(self, node: str, what: Prompt, progress: AnswerProgress | None = None) -> PromptOutcome:
        row = await read_answer(self._node(node), what, progress, self.now)
        self.record.asked.append(row)
        return row

    # ------------------------------------------------------------ what breaks and is mended

    async def kill(self, node: str, role: str) -> None:
        self._role(node, role).kill(role)
        self._event(f"kill {node}/{role}")

    async def start(self, node: str, role: str) -> None:
        await self._role(node, role).start(role)
        self._event(f"start {node}/{role}")

    async def stop(self, node: str, role: str) -> None:
        await self._role(node, role).stop(role)
        self._event(f"stop {node}/{role}")

    async def kill_forwarder(self, node: str) -> None:
        found = self._node(node)
        if not found.network.closed:
            found.kill_forwarder()
            for link, end in self._ends(node):
                self.wires[link].leave(end)
        self._event(f"kill {node}/forwarder")

    async def start_forwarder(self, node: str) -> None:
        found = self._node(node)
        if found.network.closed:
            found.start_forwarder()
            self._static.pop(node, None)
            for link, end in self._ends(node):
                self._join(link, end)
            self._install({node: self._routes().get(node, {})})
        self._event(f"start {node}/forwarder")

    async def cut(self, first: str, second: str) -> None:
        self.wires[self.topology.link_between(first, second)].cut()
        self._event(f"cut {first}-{second}")

    async def heal(self, first: str, second: str) -> None:
        self.wires[self.topology.link_between(first, second)].heal()
        self._event(f"heal {first}-{second}")

    async def move(self, node: str, old: str, new: str) -> None:
        left, joined = self.topology.link_between(node, old), self.topology.link_between(node, new)
        self._left = (self._left | {left}) - {joined}
        self.wires[left].cut()
        self.wires[joined].heal()
        self._route()
        self._event(f"move {node} from {old} to {new}")

    # ------------------------------------------------------------ what is seen

    async def counters(self) -> Snapshot:
        nodes = {name: self._counted(node) for name, node in self.nodes.items() if not node.network.closed}
        producers = {
            f"{name}/{role}": running.counters()
            for name, node in self.nodes.items()
            for role, running in node.producers.items()
        }
        return Snapshot(nodes, producers)

    def _counted(self, node: VirtualNode) -> NodeCounters:
        core = node.network.core
        faces: dict[str, dict[str, int]] = {}
        applications = dict.fromkeys(FACE_COUNTERS, 0)
        for face in core.faces.values():
            row = {key: int(getattr(face.counters, key)) for key in FACE_COUNTERS}
            if face.uri.startswith("wire://"):
                faces[face.uri.removeprefix("wire://")] = row
            elif face.local:
                applications = {key: applications[key] + row[key] for key in row}
        return NodeCounters(len(core.cs), core.cs.hits, core.cs.misses, faces, applications)

    async def link_bytes(self) -> list[LinkBytes]:
        """Since the network was built."""
        return [
            LinkBytes(link.first, link.second, wire.counters[0].bytes, wire.counters[1].bytes)
            for link, wire in self.wires.items()
        ]

    def claim(self, name: str, holds: bool, value: Value) -> None:
        self.record.claim(name, holds, value)

    def note(self, text: str) -> None:
        self.record.note(text)

    def close(self) -> None:
        """Everything ends at once."""
        for node in self.nodes.values():
            for role in list(node.producers):
                node.kill(role)
            node.kill_forwarder()

    # ------------------------------------------------------------ inside

    def _event(self, what: str) -> None:
        self.record.events.append((self.now(), what))

    def _node(self, name: str) -> VirtualNode:
        found = self.nodes.get(name)
        if found is None:
            raise UsageError(f"{self.topology.name} has no node {name!r}")
        return found

    def _role(self, name: str, role: str) -> VirtualNode:
        found = self._node(name)
        if role not in self.topology.node(name).functions:
            raise UsageError(f"{name} of {self.topology.name} has no producer {role!r}")
        return found

    def _ends(self, node: str) -> Iterable[tuple[LinkSpec, int]]:
        for link in self.topology.links_of(node):
            yield link, 0 if link.first == node else 1

    def _join(self, link: LinkSpec, end: int) -> Face:
        node = self.nodes[(link.first, link.second)[end]]
        return self.wires[link].join(end, node.network, reliable=link.loss_percent > 0)

    def _note_offers(self) -> None:
        """What every node answers for when all of it runs: static routes lead there also while it does not. In small
        networks to consumers too, who publish requests that fit no Interest."""
        for name, node in self.nodes.items():
            prefixes, own = node.registered(), node.own_prefix()
            if prefixes or len(self.nodes) <= MOST_ROUTED:
                shared = frozenset(prefix for prefix in prefixes if not prefix.startswith(own))
                self._offered[name] = Offered(own, shared)

    def _routes(self) -> Routes:
        return routes([link for link in self.topology.links if link not in self._left], self._offered)

    def _route(self) -> None:
        """Static routes everywhere, instead of those that there were."""
        table = self._routes()
        self._install({name: table.get(name, {}) for name in self.nodes if not self.nodes[name].network.closed})

    def _install(self, table: Mapping[str, Mapping[Name, Mapping[str, int]]]) -> None:
        """Straight into the FIBs, as a router's operator could: a thousand nodes have a hundred thousand routes."""
        now = asyncio.get_running_loop().time()
        for name, rows in table.items():
            core = self.nodes[name].network.core
            hops = {face.uri.removeprefix("wire://"): face.id for face in core.faces.values()}
            for prefix, face_id in self._static.pop(name, ()):
                core.fib.remove(prefix, face_id)
            ways = [(prefix, hops[hop], cost) for prefix, found in rows.items() for hop, cost in found.items()]
            for prefix, face_id, cost in ways:
                core.add_next_hop(prefix, face_id, cost, now)
            self._static[name] = [(prefix, face_id) for prefix, face_id, _ in ways]


def _nothing(folder: Path) -> Path:
    path = folder / "config.toml"
    path.touch()
    return path


def _config_of(config: Config, node: str, folder: Path) -> Config:
    network = replace(config.network, net=NET, site=SITE, node=node)
    return replace(config, network=network, paths=PathsConfig(*(str(folder),) * 3))


def _listing(config: Config, places: Iterable[Place]) -> Config:
    """Looks at the offers of these producers, unless the settings say whose."""
    if config.offers.pull or config.network.known:
        return config
    names = (ndn.to_uri(Role(SITE, node, role).to_name(ndn.from_uri(NET))) for node, role in places)
    return replace(config, offers=replace(config.offers, pull=tuple(names)))


def _speed(given: Speed | None, config: Config, node: NodeSpec) -> Speed:
    """As the node's parameters say (those of Speed, with '-' for '_'), else as given, else as configured."""
    speed = given or Speed(seats=config.engine.max_streams, queue=config.engine.queue_limit)
    said = {key: node.parameters.get(key.replace("_", "-")) for key in Speed.__slots__}
    known = {key: type(getattr(speed, key))(text) for key, text in said.items() if text is not None}
    return replace(speed, **known)


def _shape(link: LinkSpec) -> WireShape:
    shape = WireShape(
        link.delay_us / 1e6, link.jitter_us / 1e6, link.loss_percent / 100, link.bandwidth_mbit * 1e6 / 8
    )  # fmt: skip
    return replace(shape, queue=link.queue_packets) if link.queue_packets else shape
