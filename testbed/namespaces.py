"""Network namespaces and the links between them: the machines and cables of a testbed on one Linux machine.

Owns: making, cutting, healing and removing them, the shape of links, bytes that went over them. Needs root and `ip`
(iproute2). Must not know: what runs in them (network.py). Whatever it makes carries a name of its own; what a killed
runner left is removed by the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer.errors import UsageError
from ndn_infer.testbed.delay_link import QUEUE_PACKETS, TUN_DEVICE
from ndn_infer.testbed.topology import LinkSpec, Topology, shortest_paths
from ndn_infer.testbed.world import LinkBytes

PREFIX: Final = "ndni"
UDP_PORT: Final = 6363
COMMAND_TIMEOUT_S: Final = 20.0


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
        cores = next((item.cores for item in self.topology.nodes if item.name == node), "")
        return ["ip", "netns", "exec", self.name(node), *(["taskset", "-c", cores] if cores else [])]

    def create(self) -> None:
        """Raises NoTestbed; `remove` takes away what was made until then."""
        remove_orphans()
        for node in self.topology.nodes:
            _ip("netns", "add", self.name(node.name))
            self._made.append(self.name(node.name))
            _ip("-n", self.name(node.name), "link", "set", "lo", "up")
        shaped = [link for link in self.topology.links if link.shaped]
        if shaped and not has_netem(self.name(self.topology.nodes[0].name)):
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

    def switch(self, link: LinkSpec, *, up: bool) -> None:
        """Set a link down or up, at both ends; addresses stay."""
        for node in (link.first, link.second):
            _ip("-n", self.name(node), "link", "set", self.device(link), "up" if up else "down")

    def sent(self, link: LinkSpec) -> LinkBytes:
        """Bytes that both ends sent since the link was made, Ethernet and IP headers counted."""
        forth, back = (self._sent_by(node, link) for node in (link.first, link.second))
        return LinkBytes(link.first, link.second, forth, back)

    def _sent_by(self, node: str, link: LinkSpec) -> int:
        shown = json.loads(_ip("-n", self.name(node), "-s", "-j", "link", "show", "dev", self.device(link)))
        return int(shown[0]["stats64"]["tx"]["bytes"])

    def address(self, node: str) -> str:
        """One of its addresses."""
        link = self.topology.links_of(node)[0]
        return str(self.topology.addresses(link)[0 if link.first == node else 1])

    def route_ip(self) -> None:
        """Let IP packets pass between all nodes, as NDN packets do: for programs of others that know IP alone."""
        for node in self.topology.nodes:
            path = "/proc/sys/net/ipv4/ip_forward"
            _ip("netns", "exec", self.name(node.name), "sh", "-c", f"echo 1 > {path}")
            for target, way in shortest_paths(self.topology, node.name).items():
                near = self.topology.link_between(node.name, way.next_hop)
                gateway = self.topology.addresses(near)[0 if near.first == way.next_hop else 1]
                for link in self.topology.links_of(target):
                    if link not in self.topology.links_of(node.name):
                        base = self.topology.addresses(link)[0] - 1
                        _ip("-n", self.name(node.name), "route", "replace", f"{base}/30", "via", str(gateway))

    def remove(self) -> None:
        """Devices inside go with their namespace."""
        while self._made:
            with contextlib.suppress(NoTestbed, subprocess.TimeoutExpired):
                _ip("netns", "del", self._made.pop())


def has_netem(namespace: str) -> bool:
    """Whether this kernel can delay packets; tried in a namespace, by its name."""
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
