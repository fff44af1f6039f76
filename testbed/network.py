"""A network of real processes on one Linux machine: a forwarder and producers in every namespace, static routes.

Owns: which process runs on which node, its start and its end, who manages which forwarder, the order of building and of
removing. Must not know: scenarios, what counters prove (evidence.py), how keys are made (provision.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import NdnInferError
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed import delay_link, nfd
from ndn_infer.testbed.evidence import NodeCounters, Snapshot
from ndn_infer.testbed.managed import STATUS_KEPT_S, ManagedNode
from ndn_infer.testbed.namespaces import PREFIX, UDP_PORT, Namespaces
from ndn_infer.testbed.node_process import NodeProcess, our_module
from ndn_infer.testbed.process_network import (
    FORWARDER,
    SYNC_GROUPS,
    Say,
    in_thread,
    machine_prefix,
    roles_of,
    side_by_side,
)
from ndn_infer.testbed.provision import OPERATOR, Grounds, provision, zero_trust
from ndn_infer.testbed.topology import LinkSpec, Topology, forwarding
from ndn_infer.testbed.world import LinkBytes

READY_TIMEOUT_S: Final = 120.0
OURS: Final = "ndn-infer"
NFD: Final = "nfd"
FORWARDERS: Final = (OURS, NFD)


@dataclass(frozen=True, slots=True)
class Setup:
    """What runs in the nodes: which forwarder, where prepared models are, --set options of all nodes. With `zero_trust`
    a forwarder grants an application routes below its own certificate and no others."""

    models: Path
    settings: Sequence[str] = ()
    forwarder: str = OURS
    zero_trust: bool = False


@dataclass(slots=True)
class TopologyNetwork:
    """A topology brought to life. `start`, then as you like, `stop` in any case. `say` hears of every step."""

    topology: Topology
    setup: Setup
    say: Say = print
    namespaces: Namespaces = field(init=False)
    grounds: Grounds = field(init=False)
    managed: dict[str, ManagedNode] = field(default_factory=dict)
    offers: dict[str, list[str]] = field(default_factory=dict)
    """What is routed to each node: what its applications registered when the network was built, and its own prefix."""
    cut: set[LinkSpec] = field(default_factory=set)
    _processes: dict[str, NodeProcess] = field(default_factory=dict)
    """By "node/title"; links by their two nodes."""

    def __post_init__(self) -> None:
        self.namespaces = Namespaces(self.topology)
        self.grounds = Grounds(Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-")), self.setup.models)

    def socket(self, node: str) -> Path:
        return self.grounds.home(node) / "f.sock"

    def environment(self, node: str) -> dict[str, str]:
        """What makes a process one of this node: its home, keys and forwarder."""
        return {
            **self.grounds.environment(node),
            "NDN_CLIENT_TRANSPORT": f"unix://{self.socket(node)}",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }

    def process(self, node: str, title: str, command: Sequence[str], **options: Any) -> NodeProcess:
        """A process in a node's namespace, not started; it ends with the network. `options` as of NodeProcess."""
        made = NodeProcess(
            f"{title} on {node}", [*self.namespaces.enter(node), *command], self.environment(node),
            self.grounds.home(node) / f"{title}.log", **options,
        )  # fmt: skip
        self._processes[f"{node}/{title}"] = made
        return made

    def module(self, module: str, *arguments: str) -> list[str]:
        return our_module(module, *self.set_options(), *arguments)

    def running(self, node: str, title: str) -> NodeProcess | None:
        """The process, if it was started and lives."""
        found = self._processes.get(f"{node}/{title}")
        return found if found is not None and found.running else None

    def set_options(self) -> list[str]:
        """Of every process of a node."""
        settings = [*self.setup.settings]
        if self.setup.zero_trust:
            settings += zero_trust(self.topology)
        return [f"--set={text}" for text in settings]

    def _each(self) -> Iterator[tuple[str, ManagedNode]]:
        """The managers of nodes; of one that is killed meanwhile no more."""
        for node, managed in [*self.managed.items()]:
            if self.managed.get(node) is managed:
                yield node, managed

    # ------------------------------------------------------------ building

    async def start(self) -> None:
        """Everything up to the first question. Raises an NdnInferError."""
        nodes = [node.name for node in self.topology.nodes]
        self.say("keys and catalogue, as an operator issues them")
        roles = {node.name: [*roles_of(node.functions), "user"] for node in self.topology.nodes}
        await in_thread(lambda: provision(self.grounds, roles))
        self.say(f"{len(nodes)} namespaces, {len(self.topology.links)} links, {self.setup.forwarder} in each node")
        await in_thread(self.namespaces.create)
        for note in self.namespaces.notes:
            self.say(f"note: {note}")
        await side_by_side(self._relay(link) for link in self.namespaces.relayed)
        await side_by_side(self._forward(node) for node in nodes)
        await side_by_side(self._manage(node) for node in nodes)
        functions = [(node.name, function) for node in self.topology.nodes for function in node.functions]
        self.say("producers: " + ", ".join(f"{function} on {node}" for node, function in functions))
        await side_by_side(self.start_producer(node, function) for node, function in functions)
        for node, managed in self._each():
            self.offers[node] = sorted({machine_prefix(node), *await managed.offers()})
        await self.route()

    async def _relay(self, link: LinkSpec) -> None:
        """A process that carries this link; its devices are there when it is ready."""
        first, second = self.namespaces.name(link.first), self.namespaces.name(link.second)
        ends = (first, second, self.namespaces.device(link))
        command = our_module("ndn_infer.testbed.delay_link", *ends, *delay_link.shape_options(link))
        title = f"link-{link.first}-{link.second}"
        made = NodeProcess(title, command, dict(os.environ), self.grounds.directory / f"{title}.log")
        self._processes[title] = made
        await made.start(READY_TIMEOUT_S)
        await in_thread(lambda: self.namespaces.bring_up(link))

    async def _forward(self, node: str) -> None:
        socket = self.socket(node)
        if self.setup.forwarder == NFD:
            configuration = nfd.write_configuration(self.grounds.home(node), socket, nfd.NfdSettings(UDP_PORT))
            command = [nfd.program(), "--config", str(configuration)]
            await self.process(node, FORWARDER, command, ready=lambda: nfd.answers(socket)).start(READY_TIMEOUT_S)
            return
        arguments = (FORWARDER, *self.set_options(), f"--unix={socket}", f"--udp=0.0.0.0:{UDP_PORT}")
        await self.process(node, FORWARDER, our_module("ndn_infer", *arguments)).start(READY_TIMEOUT_S)

    async def _manage(self, node: str) -> None:
        """A Unix socket reaches into a namespace: files are shared, so one process manages all nodes."""
        keychain = Keychain.open(self.grounds.config(OPERATOR).keys_dir)
        self.managed[node] = managed = await ManagedNode.open(
            node, self.grounds.config(node), keychain, socket=self.socket(node),
            neighbours=self.namespaces.neighbours(node),
        )  # fmt: skip
        await managed.link(self._reachable(node))
        for group in SYNC_GROUPS:
            await managed.multicast(group)

    def _reachable(self, node: str) -> list[str]:
        return [link.other(node) for link in self.topology.links_of(node) if link not in self.cut]

    async def route(self, *, moved: bool = False) -> None:
        """A node's own prefix and what its applications registered, told to all others along shortest paths over links
        that are not cut; whatever was routed otherwise before is no more."""
        whole = replace(self.topology, links=tuple(link for link in self.topology.links if link not in self.cut))
        table = forwarding(whole, self.offers)
        counts = []
        for node, managed in self._each():
            groups = {group: dict.fromkeys(self._reachable(node), 0) for group in SYNC_GROUPS}
            counts.append(f"{node} {await managed.set_routes({**table[node], **groups})}")
        self.say(f"static routes along shortest paths: {', '.join(counts)}")

    # ------------------------------------------------------------ breaking and mending

    async def start_producer(self, node: str, function: str) -> None:
        """Returns when it answers calls; one that runs already stays."""
        if self.running(node, function) is None:
            command = our_module("ndn_infer", "produce", *self.set_options(), "--functions", function)
            await self.process(node, function, command).start(READY_TIMEOUT_S)

    async def kill(self, node: str, title: str) -> None:
        """SIGKILL to a producer, or to the forwarder of a node."""
        if title == FORWARDER and node in self.managed:
            await _close(self.managed.pop(node))
        found = self.running(node, title)
        if found is not None:
            await found.kill()

    async def terminate(self, node: str, title: str) -> None:
        """SIGTERM, as an operator ends it."""
        found = self.running(node, title)
        if found is not None:
            await found.stop()

    async def start_forwarder(self, node: str) -> None:
        """With faces, and the routes that the others have too."""
        if self.running(node, FORWARDER) is None:
            await self._forward(node)
            await self._manage(node)
            for neighbour in self._reachable(node):  # NFD closes a face whose far end answers no more
                if neighbour in self.managed:
                    await self.managed[neighbour].link(self._reachable(neighbour))
            await self.route()

    async def switch(self, link: LinkSpec, *, up: bool) -> None:
        """Set a link down, or up again: then a forwarder that closed its face gets a new one, with its routes."""
        (self.cut.discard if up else self.cut.add)(link)
        await in_thread(lambda: self.namespaces.switch(link, up=up))
        if up:
            for node in (link.first, link.second):
                if node in self.managed:
                    await self.managed[node].link(self._reachable(node))

    # ------------------------------------------------------------ looking

    async def snapshot(self) -> Snapshot:
        """Counters of the forwarders and producers that answer. Forwarders are read first, so that reading producers'
        status is outside of what was counted."""
        await asyncio.sleep(nfd.DATASET_KEPT_S if self.setup.forwarder == NFD else STATUS_KEPT_S)
        nodes: dict[str, NodeCounters] = {}
        producers: dict[str, dict[str, float]] = {}
        for node, managed in self._each():
            nodes[node] = await managed.counters()
        for node, managed in self._each():
            roles = [function for function in self.topology.node(node).functions if self.running(node, function)]
            producers.update(await managed.producers(self.offers[node], roles_of(roles)))
        return Snapshot(nodes, producers)

    async def link_bytes(self) -> list[LinkBytes]:
        found: list[LinkBytes] = []
        await in_thread(lambda: found.extend(self.namespaces.sent(link) for link in self.topology.links))
        return found

    # ------------------------------------------------------------ removing

    async def stop(self) -> None:
        """Remove everything: sessions, processes by pid, namespaces with their devices, files."""
        for _, managed in self._each():
            await _close(managed)
        last = ("/" + FORWARDER, "link-")
        applications = [item for key, item in self._processes.items() if not any(part in key for part in last)]
        await asyncio.gather(*(process.stop() for process in applications), return_exceptions=True)
        await asyncio.gather(*(process.stop() for process in self._processes.values()), return_exceptions=True)
        await asyncio.to_thread(self.namespaces.remove)
        await asyncio.to_thread(shutil.rmtree, self.grounds.directory, ignore_errors=True)


async def _close(managed: ManagedNode) -> None:
    with contextlib.suppress(NdnInferError, OSError):
        await managed.close()
