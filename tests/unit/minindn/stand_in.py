"""A stand-in of Mini-NDN's interface, and of the programs that its nodes run.

It has the behaviour that our classes rely on, as in Mini-NDN 0.7: Application makes <home>/log, `start` begins a log
file there anew, `stop` ends the process; getPopen runs in the node's home with HOME set.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ndn_infer.testbed import nfdc_text
from ndn_infer.testbed.topology import LinkSpec

ROOT = Path(__file__).resolve().parents[3]
CS_INFO = """CS information:
  capacity=65536
     admit=on
     serve=on
  nEntries=84
     nHits=14
   nMisses=205
"""
FACES = """faceid=1 remote=internal:// local=internal:// mtu=8800 counters={in={10i 90d 0n 1B} out={91i 9d 0n 2B}} flags={local permanent point-to-point}
faceid=262 remote=udp4://10.0.0.2:6363 local=udp4://10.0.0.1:6363 congestion={base-marking-interval=100ms default-threshold=64KiB} mtu=8800 counters={in={0i 14d 0n 9B} out={17i 1d 2n 8B}} flags={non-local persistent point-to-point congestion-marking}
faceid=263 remote=udp4://10.0.0.20:6363 local=udp4://10.0.0.1:6363 mtu=8800 counters={in={5i 5d 0n 9B} out={5i 5d 0n 8B}} flags={non-local persistent point-to-point}
faceid=264 remote=fd://22 local=unix:///run/nfd/edge.sock mtu=8800 counters={in={5i 5d 0n 9B} out={5i 5d 0n 8B}} flags={local on-demand point-to-point}
"""  # noqa: E501
ROUTES = """prefix=/localhost/nfd nexthop=1 origin=app cost=0 flags=child-inherit expires=never
prefix=/ndn-infer/testbed/lab/core/decode nexthop=270 origin=client cost=0 flags=child-inherit expires=239s
prefix=/ndn-infer/testbed/KEY nexthop=270 origin=client cost=0 flags=child-inherit expires=239s
prefix=/ndn-infer/testbed/KEY nexthop=271 origin=client cost=0 flags=child-inherit expires=239s
prefix=/ndn-infer/testbed/lab/compute/prefill nexthop=262 origin=static cost=5 flags=child-inherit expires=never
prefix=/ndn-infer/testbedding nexthop=270 origin=client cost=0 flags=child-inherit expires=239s
"""


# ---------------------------------------------------------------- a stand-in of Mini-NDN


class FakeNode:
    """A Mininet host: a home, links to others, `cmd` for nfdc."""

    def __init__(self, name: str, work: Path, parameters: dict[str, str]) -> None:
        self.name = name
        home = work / name
        home.mkdir(parents=True)
        self.params = {"params": {"homeDir": str(home), "workDir": str(work), **parameters}}
        self.neighbours: dict[str, str] = {}
        self.pid = os.getpid()

    def cmd(self, text: str) -> str:
        assert text.startswith("mkdir -p ")
        os.makedirs(shlex.split(text)[2], exist_ok=True)
        return ""

    def connectionsTo(self, other: FakeNode) -> list[tuple[Any, Any]]:
        return [(SimpleNamespace(name=f"{self.name}-eth0"), SimpleNamespace(name=f"{other.name}-eth0"))]


def fake_popen(host: FakeNode, cmd: list[str], envDict: dict[str, str] | None = None, **params: Any) -> Any:
    home = host.params["params"]["homeDir"]
    return subprocess.Popen(cmd, cwd=home, env={**os.environ, "HOME": home, **(envDict or {})}, **params)


class FakeApplication:
    def __init__(self, node: FakeNode) -> None:
        self.node, self.process, self.logfile = node, None, None
        self.homeDir = node.params["params"]["homeDir"]
        self.logDir = f"{self.homeDir}/log"
        self.node.cmd(f"mkdir -p {self.logDir}")

    def start(self, command: Any, logfile: str | None = None, envDict: dict[str, str] | None = None) -> None:
        if self.process is None:
            assert logfile is not None
            self.logfile = open(f"{self.logDir}/{logfile}", "w")
            self.process = fake_popen(self.node, command, envDict, stdout=self.logfile, stderr=self.logfile)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=5)
            self.process = None
        if self.logfile is not None:
            self.logfile.close()


class FakeNfd(FakeApplication):
    started: list[str] = []

    def __init__(self, node: FakeNode) -> None:
        super().__init__(node)
        self.confFile = f"{self.homeDir}/nfd.conf"

    def start(self, *_: Any) -> None:  # type: ignore[override]
        self.started.append(self.node.name)
        self.process = subprocess.Popen(["sleep", "60"])


class FakeNlsr(FakeApplication):
    ended: set[str] = set()

    def __init__(self, node: FakeNode, logLevel: str, security: bool) -> None:
        super().__init__(node)
        self.confFile = f"{self.homeDir}/nlsr.conf"

    def start(self, *_: Any) -> None:  # type: ignore[override]
        name, ended = self.node.name, self.ended
        self.process = SimpleNamespace(poll=lambda: 1 if name in ended else None)  # type: ignore[assignment]

    def stop(self) -> None:
        self.process = None


class FakeRouting:
    origins: dict[str, list[str]] = {}
    again: list[str] = []
    failures = 0

    def __init__(self, net: Any, face: str, kind: str, permanent: bool) -> None:
        assert (face, kind, permanent) == ("udp", "link-state", True)

    def addOrigin(self, nodes: list[FakeNode], prefixes: list[str]) -> None:
        for node in nodes:
            self.origins[node.name] = prefixes

    def calculateRoutes(self) -> None:
        self.again.clear()
        if self.failures:
            FakeRouting.failures -= 1
            raise ValueError(-1)

    def addNodeRoutes(self, node: FakeNode) -> None:
        self.again.append(node.name)

    @staticmethod
    def getNeighborIP(node: FakeNode) -> dict[str, str]:
        return node.neighbours


FAKE_INFER = """#!/bin/sh
# stands in for `python -m ndn_infer ...`; says what it was called with
shift 2
echo "$PYTHONPATH|$NDN_CLIENT_TRANSPORT|$NODE_SETTING|$*" >> "$HOME/calls"
case "$1" in
  produce) [ -n "$BROKEN" ] && { echo "ndn-infer: no keys here" >&2; exit 4; }
           echo "loading"; [ -n "$MUTE" ] || echo "READY $3"; exec cat ;;
  ask) [ "$5" = "sleep" ] && exec sleep 60
       [ "$5" = "fail" ] && { echo "ndn-infer: nobody answered" >&2; exit 3; }
       echo '{"text": "Paris", "token_ids": [1]}' ;;
  status) [ -f silent ] && { echo "ndn-infer: nobody answered" >&2; exit 3; }
          [ -f babble ] && { echo "what?"; exit 0; }
          echo '{"producers": [{"identity": "/n/lab/core/decode", "counters": {"calls": 1}},
          {"identity": "/n/lab/compute/prefill", "counters": {"calls": 7}},
          {"identity": "/n/lab/core/tokenize", "error": "no answer"}]}' ;;
esac
"""


def calls(node: FakeNode) -> list[str]:
    return (Path(node.params["params"]["homeDir"]) / "calls").read_text().splitlines()


# ---------------------------------------------------------------- the network


class FakeNet(dict[str, FakeNode]):
    @property
    def hosts(self) -> list[FakeNode]:
        return list(self.values())


def did(network: Any, node: str) -> list[str]:
    return (Path(network.ndn.net[node].params["params"]["homeDir"]) / "did").read_text().splitlines()


def write_lsdb(network: Any, but: str = "", cut: Collection[LinkSpec] = ()) -> None:
    """What nlsrc says on every node: all routers, or all but one; all links, or all but those that are cut."""
    lines: list[str] = []
    for name in set(network.ndn.net) - {but}:
        linked = [link.other(name) for link in network.topology.links_of(name) if link not in cut]
        lines += [f"  OriginRouter: /r/{name}", *(f"    Adjacent 0: (name=/r/{n}, uri=x, cost=1)" for n in linked)]
        lines += [f"    Name 0: {prefix}" for prefix in nfdc_text.registered(ROUTES, "/ndn-infer/testbed")]
    for host in network.ndn.net.values():
        (Path(host.params["params"]["homeDir"]) / "lsdb").write_text("\n".join(lines))
