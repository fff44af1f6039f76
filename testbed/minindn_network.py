"""A Mini-NDN network as a world of real processes has it: NFD in every node, our producers as Mini-NDN applications.

Owns: which process runs on which node, what is cut, reading counters. Runs under Mini-NDN's interpreter, which needs
nothing of ndn-infer: our own processes run under `python`. Must not know: scenarios, how routes are found
(minindn_routing.py), keys (provision.py, a process of its own).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from minindn.apps.nfd import Nfd
from minindn.helpers.ndn_routing_helper import NdnRoutingHelper

from ndn_infer.errors import ChildFailed, NetworkError
from ndn_infer.testbed import nfdc_text
from ndn_infer.testbed.evidence import NodeCounters, Snapshot
from ndn_infer.testbed.minindn_apps import READY_TIMEOUT_S, InferApplication, InferFailed, InferProducer
from ndn_infer.testbed.minindn_routing import NFD_CHANGES, NLSR, NlsrRoutes, Routing, StaticRoutes, edit
from ndn_infer.testbed.nfd import DATASET_KEPT_S
from ndn_infer.testbed.node_process import NodeProcess
from ndn_infer.testbed.process_network import (
    FORWARDER,
    NET,
    SYNC_GROUPS,
    Say,
    in_thread,
    roles_of,
    side_by_side,
)
from ndn_infer.testbed.topology import LinkSpec, Topology
from ndn_infer.testbed.world import LinkBytes

PROVISION_TIMEOUT_S: Final = 300.0
COMMAND_TIMEOUT_S: Final = 20.0
FORWARDER_TIMEOUT_S: Final = 20.0
LOOK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class MiniNdnSetup:
    """`python` has ndn-infer; `routing` is one of minindn_routing's; `strategy` forwards below our network's name ("":
    NFD's best-route); `settings` are --set options of all nodes; with `nlsr_security` NLSR signs and verifies."""

    python: str
    root: Path
    routing: str
    strategy: str = ""
    settings: Sequence[str] = ()
    nlsr_security: bool = False


@dataclass(slots=True)
class MiniNdnNetwork:
    """ProcessNetwork over a started Mini-NDN (`ndn`). `start`, then as you like, `stop` in any case."""

    ndn: Any
    topology: Topology
    setup: MiniNdnSetup
    say: Say = print
    routing: Routing = field(init=False)
    cut: set[LinkSpec] = field(default_factory=set)
    _settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _nfd: dict[str, Any] = field(default_factory=dict)
    _producers: dict[tuple[str, str], Any] = field(default_factory=dict)
    _processes: list[NodeProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.setup.routing == NLSR:
            self.routing = NlsrRoutes(self.ndn.net, self.execute, self.say, self.setup.nlsr_security)
        else:
            self.routing = StaticRoutes(self.ndn.net, self.execute, self.say)

    # ------------------------------------------------------------ processes of a node

    def enter(self, node: str) -> list[str]:
        """The command that runs another one inside a node; it execs, so the pid is the same."""
        return ["mnexec", "-a", str(self.ndn.net[node].pid)]

    def _environment(self, node: str) -> dict[str, str]:
        ours = InferApplication(self.ndn.net[node], python=self.setup.python, settings=self._settings[node])
        return {**os.environ, "HOME": ours.homeDir, **ours.environment}

    async def execute(self, node: str, *command: str) -> str:
        """Run a program of NDN's on a node; returns what it printed, "" when it failed."""
        status, output = await self._run(node, command)
        return output if status == 0 else ""

    async def insist(self, node: str, *command: str) -> str:
        """As `execute`. Raises NetworkError when it failed."""
        status, output = await self._run(node, command)
        if status != 0:
            raise NetworkError(f"{node}: {' '.join(command)} failed (status {status})")
        return output

    async def _run(self, node: str, command: Sequence[str]) -> tuple[int, str]:
        """(exit status, what it printed); one that was too slow is ended."""
        home = self.ndn.net[node].params["params"]["homeDir"]
        process = await asyncio.create_subprocess_exec(
            *self.enter(node), *command, cwd=home, env={**os.environ, "HOME": home},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        output = b""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, output.decode("utf-8", "replace")

    def module(self, module: str, *arguments: str) -> list[str]:
        return [self.setup.python, "-m", module, *self._set_options(), *arguments, "--exit-with-parent"]

    def _set_options(self) -> list[str]:
        return [f"--set={text}" for text in self.setup.settings]

    def process(self, node: str, title: str, command: Sequence[str], **options: Any) -> NodeProcess:
        log = Path(self.ndn.net[node].params["params"]["homeDir"]) / "log" / f"{title}.log"
        made = NodeProcess(
            f"{title} on {node}", [*self.enter(node), *command], self._environment(node), log, **options
        )  # fmt: skip
        self._processes.append(made)
        return made

    # ------------------------------------------------------------ building

    async def start(self) -> None:
        """Everything up to the first question. Raises an NdnInferError."""
        self.say("keys and catalogue, as an operator issues them")
        await in_thread(self._provision)
        self.say(f"{len(self.topology.nodes)} nodes, {len(self.topology.links)} links, NFD in each node")
        for node in self.topology.nodes:
            self._nfd[node.name] = made = Nfd(self.ndn.net[node.name])
            await edit(self.execute, node.name, made.confFile, NFD_CHANGES[self.setup.routing])
        await side_by_side(self._start_nfd(node.name) for node in self.topology.nodes)
        await self.routing.begin()
        functions = [(node.name, function) for node in self.topology.nodes for function in node.functions]
        self.say("producers: " + ", ".join(f"{function} on {node}" for node, function in functions))
        await side_by_side(self.start_producer(node, function) for node, function in functions)
        self.say(f"routes: {self.setup.routing}")
        await self.routing.settle(self._neighbours())

    def _provision(self) -> None:
        """Keys and catalogue below each node's home. Raises ChildFailed."""
        nodes = [f"--node={n.name}:{','.join([*roles_of(n.functions), 'user'])}" for n in self.topology.nodes]
        done = subprocess.run(
            [self.setup.python, "-m", "ndn_infer.testbed.provision", self.ndn.workDir, *nodes],
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, cwd=self.setup.root,
            stdout=subprocess.PIPE, text=True, timeout=PROVISION_TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ChildFailed(
                "keys could not be made", status=done.returncode,
                hint=f"does {self.setup.python} have ndn-infer? (--python)",
            )  # fmt: skip
        self._settings = json.loads(done.stdout)

    async def _start_nfd(self, node: str) -> None:
        """Returns when it answers. Raises ChildFailed."""
        await in_thread(self._nfd[node].start)
        until = time.monotonic() + FORWARDER_TIMEOUT_S
        while not await self.execute(node, "nfdc", "cs", "info"):
            if time.monotonic() > until:
                raise ChildFailed(f"NFD does not answer on {node}", status=1)
            await asyncio.sleep(LOOK_AGAIN_S)
        strategies = {NET: self.setup.strategy} if self.setup.strategy else {}
        for prefix, strategy in {**strategies, **dict.fromkeys(SYNC_GROUPS, "multicast")}.items():
            full = f"/localhost/nfd/strategy/{strategy}"
            if not await self.execute(node, "nfdc", "strategy", "set", "prefix", prefix, "strategy", full):
                raise NetworkError(f"{node}: no strategy {strategy} at {prefix}")

    # ------------------------------------------------------------ breaking and mending

    def running(self, node: str, function: str) -> bool:
        producer = self._producers.get((node, function))
        return producer is not None and producer.running

    async def start_producer(self, node: str, function: str) -> None:
        producer = self._producers.get((node, function))
        if producer is None:
            producer = self._producers[node, function] = InferProducer(
                self.ndn.net[node], python=self.setup.python, functions=function, settings=self._settings[node],
                options=self._set_options(),
            )  # fmt: skip
        if producer.running:
            return
        await in_thread(producer.stop)
        await in_thread(producer.start)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await _until(producer.ready)
        except TimeoutError:
            await in_thread(producer.stop)
            raise ChildFailed(f"{function} on {node} was not ready after {READY_TIMEOUT_S:g} s", status=1) from None

    async def kill(self, node: str, title: str) -> None:
        if title == FORWARDER:
            if self.forwards(node):
                self._nfd[node].process.kill()
            await in_thread(self._nfd[node].stop)
        elif self.running(node, title):
            await in_thread(self._producers[node, title].kill)

    async def terminate(self, node: str, title: str) -> None:
        if self.running(node, title):
            await in_thread(self._producers[node, title].stop)

    def forwards(self, node: str) -> bool:
        process = self._nfd[node].process
        return process is not None and process.poll() is None

    async def start_forwarder(self, node: str) -> None:
        if not self.forwards(node):
            await in_thread(self._nfd[node].stop)
            await self._start_nfd(node)
            await self.routing.back(node, self._neighbours())

    async def switch(self, link: LinkSpec, *, up: bool) -> None:
        """Faces are permanent: they outlive a link that is down. Raises NetworkError."""
        for node, device in self._ends(link):
            await self.insist(node, "ip", "link", "set", device, "up" if up else "down")
        (self.cut.discard if up else self.cut.add)(link)

    async def route(self, *, moved: bool = False) -> None:
        if moved:
            self.routing.check_moving()
        elif not self.cut:
            await self.routing.restored(self._neighbours())

    def _neighbours(self) -> dict[str, frozenset[str]]:
        """Of every node that forwards: those that do too, over links that are up."""
        here = [node.name for node in self.topology.nodes if self.forwards(node.name)]
        links = {node: [link for link in self.topology.links_of(node) if link not in self.cut] for node in here}
        return {node: frozenset({link.other(node) for link in links[node]} & {*here}) for node in here}

    def _ends(self, link: LinkSpec) -> list[tuple[str, str]]:
        """The device at each end: first, second."""
        first, second = self.ndn.net[link.first], self.ndn.net[link.second]
        near, far = first.connectionsTo(second)[0]
        return [(link.first, near.name), (link.second, far.name)]

    # ------------------------------------------------------------ looking

    async def snapshot(self) -> Snapshot:
        """Forwarders are read first, so that reading producers' status is outside of what was counted."""
        await asyncio.sleep(DATASET_KEPT_S)
        nodes: dict[str, NodeCounters] = {}
        for node in self.topology.nodes:
            cs_info, face_list = await asyncio.gather(
                self.execute(node.name, "nfdc", "cs", "info"), self.execute(node.name, "nfdc", "face", "list")
            )
            if cs_info:  # a forwarder that was killed says nothing
                addresses = NdnRoutingHelper.getNeighborIP(self.ndn.net[node.name])
                by_address = {address: name for name, address in addresses.items()}
                nodes[node.name] = nfdc_text.node_counters(cs_info, face_list, by_address)
        return Snapshot(nodes, await asyncio.to_thread(self._counters))

    def _counters(self) -> dict[str, dict[str, float]]:
        """Of the producers that run; one that does not answer now is left out."""
        found: dict[str, dict[str, float]] = {}
        for (node, function), producer in [*self._producers.items()]:
            key = f"{node}/{roles_of([function])[0]}"
            if key not in found and producer.running:
                with contextlib.suppress(InferFailed):
                    found.update(producer.counters())
        return found

    async def link_bytes(self) -> list[LinkBytes]:
        """Raises NetworkError."""
        found = []
        for link in self.topology.links:
            sent = [await self._sent(node, device) for node, device in self._ends(link)]
            found.append(LinkBytes(link.first, link.second, *sent))
        return found

    async def _sent(self, node: str, device: str) -> int:
        """Bytes that a device sent since it was made. Raises NetworkError."""
        command = ("ip", "-s", "-j", "link", "show", "dev", device)
        said = await self.insist(node, *command)
        try:
            return int(json.loads(said)[0]["stats64"]["tx"]["bytes"])
        except (ValueError, LookupError, TypeError):
            raise NetworkError(f"{node}: {' '.join(command)} said {said[:200]!r}") from None

    # ------------------------------------------------------------ removing

    async def stop(self) -> None:
        """Our processes, routing, forwarders; nodes and links are Mini-NDN's."""
        await asyncio.gather(*(process.stop() for process in self._processes), return_exceptions=True)
        applications = [*self._producers.values(), self.routing, *self._nfd.values()]
        for application in applications:
            if hasattr(application, "stop"):
                await in_thread(application.stop)


async def _until(ready: Callable[[], bool]) -> None:
    """Not in a thread: whoever is cancelled need not wait for it."""
    while True:
        if ready():
            return
        await asyncio.sleep(LOOK_AGAIN_S)
