"""A network of several nodes on one Linux machine, without Mini-NDN: namespaces, veth pairs, our forwarder in each.

Owns: making and removing namespaces, what runs in them, the order of a run. Needs root and `ip` (iproute2). Must not
know: what the counters prove (evidence.py), how keys are made (provision.py). Whatever it makes carries a name of its
own and is removed at the end, also on Ctrl-C and on failure; processes are ended by pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import NdnInferError, UsageError
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed.delay_link import QUEUE_PACKETS, TUN_DEVICE
from ndn_infer.testbed.evidence import Question, Snapshot
from ndn_infer.testbed.managed import STATUS_KEPT_S, ManagedNode
from ndn_infer.testbed.node_process import NodeProcess
from ndn_infer.testbed.provision import OPERATOR, Grounds, provision
from ndn_infer.testbed.topology import LinkSpec, Topology, forwarding

PREFIX: Final = "ndni"
UDP_PORT: Final = 6363
COMMAND_TIMEOUT_S: Final = 20.0
READY_TIMEOUT_S: Final = 120.0
ASK_TIMEOUT_S: Final = 90.0

Say = Callable[[str], None]


class NoTestbed(UsageError):
    """This machine cannot run it; the hint says what is missing."""


def check_machine() -> None:
    """Raises NoTestbed when namespaces cannot be made here."""
    if shutil.which("ip") is None:
        raise NoTestbed("the testbed needs the 'ip' command", hint="install iproute2 (apt-get install iproute2)")
    if os.geteuid() != 0:
        raise NoTestbed(
            "the testbed makes network namespaces, which takes root",
            hint=f"sudo {sys.argv[0]} testbed run ...; without root 'ndn-infer up' runs all on one node",
        )
    probe = f"{PREFIX}-{os.getpid()}-probe"
    _ip("netns", "add", probe)
    _ip("netns", "del", probe)


def _ip(*arguments: str) -> str:
    """Raises NoTestbed with what `ip` said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise NoTestbed(
            f"ip {' '.join(arguments)}: {words[0]}",
            hint="a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN for network namespaces",
        )
    return done.stdout


# ---------------------------------------------------------------- namespaces and links


@dataclass(slots=True)
class Namespaces:
    """The namespaces of one run, "ndni-<our pid>-<node>". `notes` says what of the topology is had otherwise here, or
    not at all; `relayed` are the links that a process of ours must carry (delay_link.py)."""

    topology: Topology
    notes: list[str] = field(default_factory=list)
    relayed: list[LinkSpec] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)

    def name(self, node: str) -> str:
        return f"{PREFIX}-{os.getpid()}-{node}"

    def enter(self, node: str) -> list[str]:
        """The command that runs another one inside a node; it execs, so the pid is the same."""
        return ["ip", "netns", "exec", self.name(node)]

    def create(self) -> None:
        """Raises NoTestbed; `remove` takes away what was made until then."""
        remove_orphans()
        for node in self.topology.nodes:
            _ip("netns", "add", self.name(node.name))
            self._made.append(self.name(node.name))
            _ip("-n", self.name(node.name), "link", "set", "lo", "up")
        shaped = [link for link in self.topology.links if link.shaped]
        if shaped and not _has_netem(self.name(self.topology.nodes[0].name)):
            if TUN_DEVICE.exists():
                self.relayed = shaped
                self._note("this kernel has no netem: processes of ours delay the links")
            else:
                self._note("this kernel has neither netem nor TAP devices: of the links only bandwidth is applied")
        for link in self.topology.links:
            if link not in self.relayed:
                self._connect(link)

    def device(self, link: LinkSpec) -> str:
        """Its name at both ends; it is made inside the namespaces: the machine's own network never sees it."""
        return f"link{self.topology.links.index(link)}"

    def _connect(self, link: LinkSpec) -> None:
        """A veth pair."""
        device, first, second = self.device(link), self.name(link.first), self.name(link.second)
        _ip("link", "add", device, "netns", first, "type", "veth", "peer", "name", device, "netns", second)
        self.bring_up(link)
        for namespace in (first, second):
            self._shape(namespace, device, link)

    def bring_up(self, link: LinkSpec) -> None:
        """Addresses for a link whose devices are there."""
        for node, address in zip((link.first, link.second), self.topology.addresses(link), strict=True):
            _ip("-n", self.name(node), "address", "add", f"{address}/30", "dev", self.device(link))
            _ip("-n", self.name(node), "link", "set", self.device(link), "up")

    def _shape(self, namespace: str, device: str, link: LinkSpec) -> None:
        """Delay, loss and bandwidth by netem, where there is netem; else the bandwidth by tbf."""
        netem = ["delay", f"{link.delay_us}us", f"{link.jitter_us}us", "loss", f"{link.loss_percent}%"]
        rate = ["rate", f"{link.bandwidth_mbit:g}mbit"] if link.bandwidth_mbit else []
        limit = ["limit", str(link.queue_packets or QUEUE_PACKETS)]
        if _tc(namespace, device, "netem", *limit, *netem, *rate) or not rate:
            return
        if not _tc(namespace, device, "tbf", *rate, "burst", "256kb", "latency", "100ms"):
            self._note("this kernel has neither netem nor tbf: bandwidth of the links is not applied")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def neighbours(self, node: str) -> dict[str, str]:
        """Face URI -> name of every neighbour."""
        found = {}
        for link in self.topology.links_of(node):
            first, second = self.topology.addresses(link)
            found[f"udp4://{second if link.first == node else first}:{UDP_PORT}"] = link.other(node)
        return found

    def remove(self) -> None:
        """Devices inside go with their namespace."""
        while self._made:
            with contextlib.suppress(NoTestbed, subprocess.TimeoutExpired):
                _ip("netns", "del", self._made.pop())


def _has_netem(namespace: str) -> bool:
    found = _tc(namespace, "lo", "netem", "delay", "1us")
    if found:
        _ip("netns", "exec", namespace, "tc", "qdisc", "del", "dev", "lo", "root")
    return found


def _tc(namespace: str, device: str, *discipline: str) -> bool:
    if shutil.which("tc") is None:
        return False
    command = ["tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *discipline]
    done = subprocess.run(command, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    return done.returncode == 0


def remove_orphans() -> None:
    """Namespaces and folders of a runner that was killed and could not clean up: their names hold its pid."""

    def of_the_dead(name: str) -> bool:
        match = re.match(rf"{PREFIX}-([0-9]+)-", name)
        return match is not None and not Path(f"/proc/{match[1]}").exists()

    for line in _ip("netns", "list").splitlines():
        name = line.partition(" ")[0]
        if of_the_dead(name):
            with contextlib.suppress(NoTestbed):
                _ip("netns", "del", name)
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if folder.is_dir() and folder.stat().st_uid == os.geteuid() and of_the_dead(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- a run


@dataclass(slots=True)
class Testbed:
    """A topology brought to life: `start`, `ask` as often as you like, `stop`. `say` hears of every step."""

    topology: Topology
    models: Path
    settings: Sequence[str] = ()
    say: Say = print
    namespaces: Namespaces = field(init=False)
    grounds: Grounds = field(init=False)
    managed: dict[str, ManagedNode] = field(default_factory=dict)
    offers: dict[str, list[str]] = field(default_factory=dict)
    _processes: list[NodeProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namespaces = Namespaces(self.topology)
        self.grounds = Grounds(Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-")), self.models)

    def socket(self, node: str) -> Path:
        return self.grounds.home(node) / "f.sock"

    def command(self, node: str, title: str, subcommand: str, *arguments: str) -> NodeProcess:
        """A process of a node, not started: in its namespace, with its home, keys and forwarder."""
        environment = {
            **self.grounds.environment(node),
            "NDN_CLIENT_TRANSPORT": f"unix://{self.socket(node)}",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        settings = [f"--set={text}" for text in self.settings]
        process = NodeProcess(
            f"{title} on {node}", self.namespaces.enter(node), [subcommand, *settings, *arguments], environment,
            self.grounds.home(node) / f"{title}.log",
        )  # fmt: skip
        self._processes.append(process)
        return process

    async def start(self) -> None:
        """Everything up to the first question. Raises an NdnInferError; call `stop` in any case."""
        roles = {node.name: [*node.functions, "user"] for node in self.topology.nodes}
        self.say("keys and catalogue, as an operator issues them")
        await _in_thread(lambda: provision(self.grounds, roles))
        self.say(f"{len(self.topology.nodes)} namespaces, {len(self.topology.links)} links, a forwarder in each node")
        await _in_thread(self.namespaces.create)
        for note in self.namespaces.notes:
            self.say(f"note: {note}")
        await _all(self._relay(link) for link in self.namespaces.relayed)
        await _all(self._start_forwarder(node.name) for node in self.topology.nodes)
        await _all(self._manage(node.name) for node in self.topology.nodes)
        functions = [(node.name, function) for node in self.topology.nodes for function in node.functions]
        self.say("producers: " + ", ".join(f"{function} on {node}" for node, function in functions))
        await _all(
            self.command(node, function, "produce", "--functions", function).start(READY_TIMEOUT_S)
            for node, function in functions
        )
        await self._route()

    async def _relay(self, link: LinkSpec) -> None:
        """A process that carries this link; its devices are there when it is ready."""
        first, second = self.namespaces.name(link.first), self.namespaces.name(link.second)
        arguments = [
            first, second, self.namespaces.device(link), f"--delay-us={link.delay_us}",
            f"--mbit={link.bandwidth_mbit}", f"--loss={link.loss_percent}", f"--jitter-us={link.jitter_us}",
            f"--queue={link.queue_packets or QUEUE_PACKETS}",
        ]  # fmt: skip
        title = f"link-{link.first}-{link.second}"
        process = NodeProcess(
            title, (), arguments, dict(os.environ), self.grounds.directory / f"{title}.log",
            module="ndn_infer.testbed.delay_link",
        )  # fmt: skip
        self._processes.append(process)
        await process.start(READY_TIMEOUT_S)
        await _in_thread(lambda: self.namespaces.bring_up(link))

    async def _start_forwarder(self, node: str) -> None:
        arguments = (f"--unix={self.socket(node)}", f"--udp=0.0.0.0:{UDP_PORT}")
        await self.command(node, "forwarder", "forwarder", *arguments).start(READY_TIMEOUT_S)

    async def _manage(self, node: str) -> None:
        """A Unix socket reaches into a namespace: files are shared, so one process manages all nodes."""
        keychain = Keychain.open(self.grounds.config(OPERATOR).keys_dir)
        self.managed[node] = await ManagedNode.open(
            node, self.grounds.config(node), keychain, socket=self.socket(node),
            neighbours=self.namespaces.neighbours(node),
        )  # fmt: skip
        await self.managed[node].link()

    async def _route(self) -> None:
        """Every prefix that a node's applications registered, told to all others along shortest paths."""
        for node, managed in self.managed.items():
            self.offers[node] = await managed.offers()
        table = forwarding(self.topology, self.offers)
        counts = [f"{node} {await managed.add_routes(table[node])}" for node, managed in self.managed.items()]
        self.say(f"static routes along shortest paths: {', '.join(counts)}")

    async def question(self, prompt: str) -> Question:
        """Ask at the consumer, with counters read before and after. Raises ChildFailed."""
        before = await self._snapshot(forwarders_first=False)
        answer = await self.ask(prompt)
        return Question(answer, before, await self._snapshot(forwarders_first=True))

    async def ask(self, prompt: str) -> dict[str, Any]:
        command = self.command(self.topology.consumer, "ask", "ask", "--json", "--no-embedded", "--", prompt)
        document: dict[str, Any] = json.loads(await command.finish(ASK_TIMEOUT_S))
        return document

    async def _snapshot(self, *, forwarders_first: bool) -> Snapshot:
        """Forwarders are read next to the question, so that reading producers' status is outside of what it counts."""
        nodes = await self._nodes() if forwarders_first else {}
        await asyncio.sleep(STATUS_KEPT_S)
        producers = {}
        for node, managed in self.managed.items():
            producers.update(await managed.producers(self.offers[node]))
        return Snapshot(nodes or await self._nodes(), producers)

    async def _nodes(self) -> dict[str, Any]:
        return {node: await managed.counters() for node, managed in self.managed.items()}

    async def stop(self) -> None:
        """Remove everything: sessions, processes by pid, namespaces with their devices, files."""
        for managed in self.managed.values():
            with contextlib.suppress(NdnInferError, OSError):
                await managed.close()
        applications = [process for process in self._processes if not process.title.startswith(("forwarder", "link"))]
        await asyncio.gather(*(process.stop() for process in applications), return_exceptions=True)
        await asyncio.gather(*(process.stop() for process in self._processes), return_exceptions=True)
        await asyncio.to_thread(self.namespaces.remove)
        await asyncio.to_thread(shutil.rmtree, self.grounds.directory, ignore_errors=True)


async def _in_thread(step: Callable[[], None]) -> None:
    """Off the loop; when we are cancelled the step is waited for, so that it makes nothing after the clean-up."""
    running = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


async def _all(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Side by side; when one fails the others are waited for, so that nothing starts after the clean-up."""
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
