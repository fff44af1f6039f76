"""The Mini-NDN classes against a small stand-in of Mini-NDN's interface, and (marked) in Mini-NDN itself.

The stand-in has the behaviour the classes rely on, as in Mini-NDN 0.7: Application makes <home>/log, `start` begins a
log file there anew, `stop` ends the process; getPopen runs in the node's home with HOME set.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ndn_infer.errors import ChildFailed, NetworkError, UsageError
from ndn_infer.testbed import evidence, minindn_run, nfdc_text, scenario, topology_file
from ndn_infer.testbed.evidence import AskEvidence, NodeCounters, Snapshot
from ndn_infer.testbed.process_network import FORWARDER
from ndn_infer.testbed.topology import LinkSpec
from ndn_infer.testbed.topology_file import FOLDER

ROOT = Path(__file__).resolve().parents[2]

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


# ---------------------------------------------------------------- what nfdc prints


def test_nfdc_content_store() -> None:
    assert nfdc_text.content_store(CS_INFO) == (84, 14, 205)
    with pytest.raises(ValueError, match="no 'nfdc cs info'"):
        nfdc_text.content_store("ERROR: error while connecting to the forwarder")


def test_nfdc_faces_are_those_of_the_neighbours() -> None:
    found = nfdc_text.faces(FACES, {"10.0.0.2": "core"})
    assert found == {"core": {"in_interests": 0, "in_data": 14, "out_interests": 17, "out_data": 1}}


def test_nfdc_faces_to_one_neighbour_add_up() -> None:
    found = nfdc_text.faces(FACES, {"10.0.0.2": "core", "10.0.0.20": "core"})
    assert found["core"] == {"in_interests": 5, "in_data": 19, "out_interests": 22, "out_data": 6}


def test_nfdc_routes_that_applications_registered() -> None:
    assert nfdc_text.registered(ROUTES, "/ndn-infer/testbed") == [
        "/ndn-infer/testbed/KEY",
        "/ndn-infer/testbed/lab/core/decode",
    ]


# ---------------------------------------------------------------- the verdict


def _snapshot(hits: int = 0, data: int = 0, **producers: dict[str, float]) -> Snapshot:
    face = {"in_interests": 0, "in_data": data, "out_interests": data, "out_data": 0}
    nodes = {"edge": NodeCounters(0, hits, 0, {"core": face}), "core": NodeCounters(0, 0, 0, {"compute": face})}
    return Snapshot(nodes, {key.replace("_", "/"): value for key, value in producers.items()})


def _story(**changes: Any) -> list[evidence.Check]:
    """The verdict on a good run, with some numbers changed."""
    made = {"calls": 1.0, "prefill_blocks_computed": changes.get("computed", 2.0)}
    used = {"calls": 1.0, "kv_blocks_fetched": changes.get("fetched", 2.0)}
    used["prefill_blocks_computed"] = changes.get("own", 0.0)
    start = _snapshot(core_decode={}, compute_prefill={})
    middle = _snapshot(data=changes.get("data", 94), core_decode=used, compute_prefill=made)
    later = {**used, "calls": changes.get("calls", 1.0)}
    end = _snapshot(hits=changes.get("hits", 14), data=94, core_decode=later, compute_prefill=made)
    text = changes.get("text", "It is Paris.")
    first = AskEvidence({"text": text, "token_ids": [1, 2]}, start, middle)
    second = AskEvidence({"text": text, "token_ids": changes.get("again", [1, 2])}, middle, end)
    return evidence.judge(first, second, expect="Paris", roles={"decode": "core", "prefill": "compute"})


def test_a_good_run_holds() -> None:
    checks = _story()
    assert len(checks) == 7 and all(check.holds for check in checks)


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"text": "It is Rome."}, "the first answer is right"),
        ({"text": ""}, "the first answer is right"),
        ({"computed": 0.0, "fetched": 0.0}, "KV cache was computed at compute"),
        ({"fetched": 1.0}, "core fetched it by name"),
        ({"own": 2.0}, "core fetched it by name"),
        ({"data": 1}, "it came to core over the network"),
        ({"again": [1, 3]}, "the second answer is the same"),
        ({"calls": 2.0}, "no producer worked for the second answer"),
        ({"hits": 0}, "Content Stores gave the second answer"),
    ],
)
def test_each_claim_can_fail(change: dict[str, Any], claim: str) -> None:
    checks = _story(**change)
    assert claim in [check.claim for check in checks if not check.holds]


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


def _fake_popen(host: FakeNode, cmd: list[str], envDict: dict[str, str] | None = None, **params: Any) -> Any:
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
            self.process = _fake_popen(self.node, command, envDict, stdout=self.logfile, stderr=self.logfile)

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


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """minindn_apps, imported over the stand-in."""
    parts: dict[str, dict[str, Any]] = {
        "minindn": {},
        "minindn.apps": {},
        "minindn.apps.application": {"Application": FakeApplication},
        "minindn.apps.nfd": {"Nfd": FakeNfd},
        "minindn.apps.nlsr": {"Nlsr": FakeNlsr},
        "minindn.helpers": {},
        "minindn.helpers.ndn_routing_helper": {"NdnRoutingHelper": FakeRouting},
        "minindn.util": {"getPopen": _fake_popen},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    ours = [f"ndn_infer.testbed.minindn_{part}" for part in ("apps", "routing", "network")]
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import ndn_infer.testbed.minindn_apps as module

    yield module
    for name in ours:
        sys.modules.pop(name, None)


@pytest.fixture
def python(tmp_path: Path) -> str:
    path = tmp_path / "infer"
    path.write_text(FAKE_INFER)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def core(tmp_path: Path) -> FakeNode:
    return FakeNode("core", tmp_path / "work", {"functions": "tokenize,decode"})


def _calls(node: FakeNode) -> list[str]:
    return (Path(node.params["params"]["homeDir"]) / "calls").read_text().splitlines()


def test_producer_starts_in_its_nodes_environment(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={"NODE_SETTING": "core"})
    producer.start()
    try:
        producer.wait_ready(20.0)
        assert producer.process.poll() is None
        # no PYTHONPATH of Mini-NDN's, and the forwarder is the one that client.conf names
        assert _calls(core) == ["||core|produce --functions decode --exit-with-parent"]
    finally:
        process = producer.process
        producer.stop()
    assert process.poll() is not None


def test_producer_that_fails_says_why(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={"BROKEN": "1"})
    producer.start()
    with pytest.raises(apps.InferFailed, match="core: produce decode ended: .*no keys here"):
        producer.wait_ready(20.0)
    producer.stop()


def test_producer_that_never_gets_ready_is_given_up(apps: Any, core: FakeNode, tmp_path: Path) -> None:
    script = tmp_path / "mute"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    producer = apps.InferProducer(core, python=str(script), functions="decode", settings={})
    producer.start()
    with pytest.raises(apps.InferFailed, match="was not ready in time"):
        producer.wait_ready(0.3)
    producer.stop()


def test_an_old_ready_does_not_count(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={})
    producer.start()
    producer.wait_ready(20.0)
    producer.kill()
    assert not producer.running
    producer.environment["MUTE"] = "1"
    producer.start()
    with pytest.raises(apps.InferFailed, match="was not ready in time"):
        producer.wait_ready(0.3)
    producer.stop()


def test_a_producer_ends_when_we_do(apps: Any, python: str, core: FakeNode) -> None:
    """Whatever ends us closes the pipe."""
    producer = apps.InferProducer(core, python=python, functions="decode", settings={})
    producer.start()
    producer.wait_ready(20.0)
    process = producer.process
    process.stdin.close()
    process.wait(20.0)
    producer.stop()


def test_counters_are_those_of_its_own_node(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={})
    assert producer.counters() == {"core/decode": {"calls": 1}}


def test_consumer_asks(apps: Any, python: str, core: FakeNode) -> None:
    consumer = apps.InferConsumer(core, python=python, settings={})
    consumer.start()
    assert consumer.ask("Where?")["text"] == "Paris"
    assert _calls(core)[-1].endswith("|ask --json --no-embedded -- Where?")
    with pytest.raises(apps.InferFailed, match="core: ask failed: .*nobody answered"):
        consumer.ask("fail")
    with pytest.raises(apps.InferFailed, match="took more than"):
        consumer.run("ask", "--json", "--no-embedded", "--", "sleep", timeout=0.3)


# ---------------------------------------------------------------- the network


class FakeNet(dict[str, FakeNode]):
    @property
    def hosts(self) -> list[FakeNode]:
        return list(self.values())


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that stand in for Mininet's, NFD's and NLSR's, first on PATH. They print files of the node's home."""
    folder = tmp_path / "tools"
    folder.mkdir()
    scripts = {
        "mnexec": 'shift 2; exec "$@"',
        "nfdc": 'echo "nfdc $*" >> did; [ -f "$1-$2" ] && cat "$1-$2" || echo done',
        "nlsrc": "cat lsdb",
        "infoedit": 'echo "infoedit ${2##*/} $4 $6" >> did',
        "ip": """echo "ip $*" >> did; [ -f babble ] && { echo what; exit; }; [ -f silent ] && exit 1
                 echo '[{"stats64": {"tx": {"bytes": 1234}}}]'""",
    }  # fmt: skip
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def network(
    apps: Any, python: str, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:  # fmt: skip
    """Makes a MiniNdnNetwork of the packaged three nodes over the stand-in."""
    topology = topology_file.load("three_nodes")
    hosts = FakeNet({node.name: FakeNode(node.name, tmp_path / "net", {}) for node in topology.nodes})
    for link in topology.links:
        hosts[link.first].neighbours[link.second] = hosts[link.second].neighbours[link.first] = "10.0.0.2"
    for host in hosts.values():
        home = Path(host.params["params"]["homeDir"])
        for name, text in (("cs-info", CS_INFO), ("face-list", FACES), ("route-list", ROUTES), ("lsdb", "")):
            (home / name).write_text(text)
    from ndn_infer.testbed import minindn_network

    monkeypatch.setattr(minindn_network, "DATASET_KEPT_S", 0.0)
    settings = {name: {"NODE_SETTING": name} for name in hosts}
    monkeypatch.setattr(minindn_network.MiniNdnNetwork, "_provision", lambda self: setattr(self, "_settings", settings))
    ndn = SimpleNamespace(net=hosts, workDir=str(tmp_path / "net"))

    def make(routing: str = "static", **more: Any) -> Any:
        setup = minindn_network.MiniNdnSetup(python, ROOT, routing, **more)
        return minindn_network.MiniNdnNetwork(ndn, topology, setup, lambda _: None)

    FakeNfd.started.clear()
    FakeRouting.origins.clear()
    return make


def _did(network: Any, node: str) -> list[str]:
    return (Path(network.ndn.net[node].params["params"]["homeDir"]) / "did").read_text().splitlines()


async def test_a_network_with_static_routes(network: Callable[..., Any]) -> None:
    found = network(settings=("engine.threads=1",), strategy="asf")
    try:
        await found.start()
        assert sorted(FakeNfd.started) == ["compute", "core", "edge"]
        assert FakeRouting.origins["core"] == [
            "/ndn-infer/testbed/KEY", "/ndn-infer/testbed/lab/core", "/ndn-infer/testbed/lab/core/decode",
        ]  # fmt: skip
        for below, strategy in (("", "asf"), ("/sync/offers", "multicast")):
            words = f"prefix /ndn-infer/testbed{below} strategy /localhost/nfd/strategy/{strategy}"
            assert f"nfdc strategy set {words}" in _did(found, "edge")
        assert any(line.endswith("produce --set=engine.threads=1 --functions prefill --exit-with-parent") for line in
                   _calls(found.ndn.net["compute"]))  # fmt: skip
        shot = await found.snapshot()
        assert shot.nodes["edge"].faces["core"]["out_interests"] == 17
        assert shot.nodes["edge"].applications["in_data"] == 5
        assert shot.producers == {"core/decode": {"calls": 1}, "compute/prefill": {"calls": 7}}
        link = found.topology.links[0]
        assert [(row.first, row.forth, row.back) for row in await found.link_bytes()][0] == (link.first, 1234, 1234)
    finally:
        await found.stop()


async def test_a_face_that_mini_ndn_did_not_make_is_tried_again(network: Callable[..., Any]) -> None:
    for failures, holds in ((2, True), (3, False)):
        FakeRouting.failures = failures
        found = network()
        try:
            if holds:
                await found.start()
            else:
                with pytest.raises(NetworkError, match="could not make faces"):
                    await found.start()
        finally:
            await found.stop()
    assert FakeRouting.failures == 0


async def test_what_is_killed_cut_and_started_again(network: Callable[..., Any]) -> None:
    found = network()
    try:
        await found.start()
        await found.kill("core", "decode")
        assert not found.running("core", "decode") and found.running("core", "tokenize")
        await found.start_producer("core", "decode")
        assert found.running("core", "decode")
        await found.terminate("core", "decode")
        assert not found.running("core", "decode")
        link = found.topology.links[0]
        await found.switch(link, up=False)
        assert f"ip link set {link.first}-eth0 down" in _did(found, link.first)
        await found.route()  # they stay as they are
        with pytest.raises(UsageError, match="static routes"):
            await found.route(moved=True)
        await found.switch(link, up=True)
        await found.route()
        FakeNfd.started.clear()
        await found.start_forwarder("core")  # it runs
        assert FakeNfd.started == []
        await found.kill("core", FORWARDER)
        await found.start_forwarder("core")
        assert FakeNfd.started == ["core"] and FakeRouting.again == ["core"]
    finally:
        await found.stop()


async def test_what_cannot_be_read_is_left_out_or_said(network: Callable[..., Any]) -> None:
    found = network()
    try:
        await found.start()
        home = Path(found.ndn.net["core"].params["params"]["homeDir"])
        link = next(link for link in found.topology.links if "core" in (link.first, link.second))
        for broken in ("silent", "babble"):
            (home / broken).touch()
            assert (await found.snapshot()).producers == {"compute/prefill": {"calls": 7}}
            with pytest.raises(NetworkError, match="core: ip -s -j link show dev core-eth0"):
                await found.link_bytes()
            (home / broken).unlink()
        (home / "silent").touch()
        with pytest.raises(NetworkError, match="core: ip link set core-eth0 down failed"):
            await found.switch(link, up=False)
        assert found.cut == set()
    finally:
        await found.stop()


async def test_orders_may_come_twice(network: Callable[..., Any]) -> None:
    """As in namespaces: what does not run is not ended, what runs is not started."""
    found = network()
    try:
        await found.start()
        for node, title in (("core", FORWARDER), ("core", FORWARDER), ("core", "decode"), ("core", "decode"),
                            ("edge", "decode")):  # fmt: skip
            await found.kill(node, title)
            await found.terminate(node, title)
        assert not found.running("core", "decode")
        FakeNfd.started.clear()
        for _ in range(2):
            await found.start_forwarder("core")
            await found.start_producer("core", "decode")
        assert FakeNfd.started == ["core"] and found.running("core", "decode")
        found._nfd["core"].process.kill()  # ended by itself
        found._nfd["core"].process.wait()
        await found.start_forwarder("core")
        assert FakeNfd.started == ["core", "core"]
    finally:
        await found.stop()


def _wait_for(state: Callable[[], bool]) -> None:
    while not state():
        time.sleep(0.01)


async def test_a_run_that_is_cancelled_does_not_wait_for_a_producer(network: Callable[..., Any]) -> None:
    found = network()
    try:
        await found.start()
        await found.terminate("core", "decode")
        found._producers["core", "decode"].environment["MUTE"] = "1"
        starting = asyncio.ensure_future(found.start_producer("core", "decode"))
        await asyncio.to_thread(_wait_for, lambda: found.running("core", "decode"))
        starting.cancel()
        async with asyncio.timeout(60):  # not the two minutes that a producer has
            with pytest.raises(asyncio.CancelledError):
                await starting
    finally:
        await found.stop()


def _write_lsdb(network: Any, but: str = "", cut: Collection[LinkSpec] = ()) -> None:
    """What nlsrc says on every node: all routers, or all but one; all links, or all but those that are cut."""
    lines: list[str] = []
    for name in set(network.ndn.net) - {but}:
        linked = [link.other(name) for link in network.topology.links_of(name) if link not in cut]
        lines += [f"  OriginRouter: /r/{name}", *(f"    Adjacent 0: (name=/r/{n}, uri=x, cost=1)" for n in linked)]
        lines += [f"    Name 0: {prefix}" for prefix in nfdc_text.registered(ROUTES, "/ndn-infer/testbed")]
    for host in network.ndn.net.values():
        (Path(host.params["params"]["homeDir"]) / "lsdb").write_text("\n".join(lines))


async def test_nlsr_is_waited_for_and_its_end_is_said(
    network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ndn_infer.testbed import minindn_routing

    monkeypatch.setattr(minindn_routing, "CONVERGENCE_S", 0.1)
    monkeypatch.setattr(minindn_routing, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr(minindn_routing, "SAY_AGAIN_S", 0.0)
    said: list[str] = []
    found = network("nlsr")
    found.routing.say = said.append
    with pytest.raises(NetworkError, match=r"NLSR has not converged after \d+ s: edge has not heard that the link"):
        await found.start()
    assert any(re.search(r"not converged after \d+ s: edge has not heard that the link", line) for line in said)
    await found.stop()
    _write_lsdb(found)
    again = network("nlsr")
    await again.start()
    changed = {"infoedit nfd.conf rib.readvertise_nlsr yes", "infoedit nlsr.conf neighbors.hello-interval 30"}
    assert changed <= set(_did(again, "core"))
    FakeNlsr.ended.add("core")
    _write_lsdb(again, but="compute")
    with pytest.raises(NetworkError, match="NLSR ended on core"):
        await again.route()
    await again.stop()
    FakeNlsr.ended.clear()


async def test_a_forwarder_that_is_back_does_not_wait_for_what_is_cut(
    network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """compute is cut off, and NLSR has noticed; core is started again."""
    from ndn_infer.testbed import minindn_routing

    monkeypatch.setattr(minindn_routing, "CONVERGENCE_S", 0.0)
    found = network("nlsr")
    _write_lsdb(found)
    await found.start()
    try:
        for link in found.topology.links_of("compute"):
            await found.switch(link, up=False)
        await found.kill("core", FORWARDER)
        _write_lsdb(found, cut=found.topology.links_of("compute"))
        await found.start_forwarder("core")
        await found.kill("core", FORWARDER)
        _write_lsdb(found)  # NLSR has not noticed
        with pytest.raises(NetworkError, match="link core - compute is there, or is not"):
            await found.start_forwarder("core")
    finally:
        await found.stop()


def test_provision_without_ndn_infer_says_what_to_do(apps: Any, tmp_path: Path) -> None:
    from ndn_infer.testbed import minindn_network

    ndn = SimpleNamespace(net=FakeNet(), workDir=str(tmp_path))
    setup = minindn_network.MiniNdnSetup("/bin/false", ROOT, "static")
    network = minindn_network.MiniNdnNetwork(ndn, topology_file.load("three_nodes"), setup)
    with pytest.raises(ChildFailed) as caught:
        network._provision()
    assert "--python" in caught.value.hint


# ---------------------------------------------------------------- the script


def test_a_scenario_and_its_topology_are_chosen_before_mini_ndn_reads_anything(tmp_path: Path) -> None:
    chosen, topology, path = minindn_run.choose("cut_link", "", "static")
    assert (chosen.name, topology.name, Path(path)) == ("cut_link", "two_decoders", FOLDER / "two_decoders.conf")
    with pytest.raises(UsageError, match="thousand_nodes does not run in Mini-NDN"):
        minindn_run.choose("thousand_nodes", "", "nlsr")
    file = tmp_path / "x.conf"
    file.write_text("[nodes]\na: function=decode\nb\n[links]\na:b delay=1ms")
    with pytest.raises(UsageError, match="x.conf:2: unknown node parameter 'function'; did you mean 'functions'"):
        minindn_run.choose("three_nodes", str(file), "static")
    file.write_text("[nodes]\na: functions=decode\nb: _\n[links]\na:b delay=1ms")
    with pytest.raises(UsageError, match="no node has functions=prefill,tokenize"):
        minindn_run.choose("three_nodes", str(file), "static")


@pytest.mark.parametrize("name", ["mobile_consumer", "mobile_producer", "way_round"])
def test_what_needs_new_routes_is_refused_with_static_ones_before_anything_is_built(name: str) -> None:
    assert minindn_run.choose(name, "", "nlsr")[0].name == name
    with pytest.raises(UsageError, match=f"{name} does not run in Mini-NDN with static routes") as caught:
        minindn_run.choose(name, "", "static")
    assert "--routing nlsr" in caught.value.hint


def test_every_scenario_that_moves_a_node_says_so() -> None:
    for name, item in scenario.all_scenarios().items():
        if ".move(" in inspect.getsource(item.play):
            assert scenario.MININDN not in item.worlds, name


def test_the_script_needs_nothing_but_the_standard_library() -> None:
    """As Mini-NDN's interpreter has it: no site-packages."""
    code = "from ndn_infer.testbed import minindn_run; print(minindn_run.choose('fifty_readers', '', 'static')[0].name)"
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "fifty_readers\n", done.stderr[-500:]


STAND_IN = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
from types import ModuleType, SimpleNamespace

def module(name, **content):
    made = ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made

def here(what):
    print(what, flush=True)

class Minindn:
    def __init__(self, **_):
        self.net = {}
    parseArgs = staticmethod(lambda ours: ours.add_argument("topoFile", nargs="?") and ours)
    def start(self):
        if WHERE == "nodes":
            here("HERE")
            time.sleep(60)
    def stop(self):
        here("nodes are gone")

class Network:
    def __init__(self, ndn, topology, *_):
        self.topology = topology
    async def start(self):
        await in_thread(self.step)
        time.sleep(60)
    def step(self):
        here("HERE")
        time.sleep(0.3)
        here("the step is done")
    async def stop(self):
        here("processes are gone")

module("minindn.minindn", Minindn=Minindn)
module("minindn.util", MiniNDNCLI=None)
module("mininet.log", setLogLevel=lambda level: None)
module("ndn_infer.testbed.minindn_network", MiniNdnNetwork=Network, MiniNdnSetup=lambda *_: None)
from ndn_infer.testbed import minindn_run
from ndn_infer.testbed.process_network import in_thread
sys.argv = ["minindn_run", "three_nodes", "--link=types:SimpleNamespace"]
sys.exit(minindn_run.main())
"""


@pytest.mark.parametrize("where", ["nodes", "network"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(where: str, number: signal.Signals) -> None:
    """In the middle of Mini-NDN's own start, and of ours, whose step is over before what it made is removed."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); WHERE = {where!r}\n{STAND_IN}"
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "HERE\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    gone = ["the step is done", "processes are gone"] * (where == "network") + ["nodes are gone"]
    assert (process.returncode, output.splitlines()) == (128 + number, gone)


# ---------------------------------------------------------------- Mini-NDN itself


def _mininet_python() -> str:
    """An interpreter (or a wrapper that takes the same arguments) under which Mini-NDN can be imported, or ""."""
    python = os.environ.get("MININDN_PYTHON", "python3")
    if os.geteuid() != 0 or shutil.which(python) is None:
        return ""
    probe = [python, "-c", "import minindn.apps.nfd, minindn.helpers.ndn_routing_helper"]
    done = subprocess.run(probe, capture_output=True, timeout=60, check=False)
    return python if done.returncode == 0 else ""


@pytest.mark.minindn
@pytest.mark.root
@pytest.mark.model
@pytest.mark.parametrize("routing", ["static", "nlsr"])
def test_three_nodes_in_mini_ndn(
    request: pytest.FixtureRequest, model_cache: Path, tmp_path: Path, routing: str
) -> None:  # fmt: skip
    """The script as a user runs it: NFD in every node, the verdict holds."""
    python = _mininet_python()
    if not python:
        pytest.skip("Mini-NDN cannot be imported (set MININDN_PYTHON), or this is not root")
    request.getfixturevalue("smollm2")
    request.getfixturevalue("minilm")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "NDN_"))}
    command = [python, str(ROOT / "testbed" / "minindn_run.py"), "three_nodes", f"--routing={routing}"]
    done = subprocess.run(
        [*command, f"--python={sys.executable}", f"--work-dir={tmp_path}"],
        env={**kept, "NDN_INFER_PATHS_CACHE_DIR": str(model_cache)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    document = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert document["holds"] and document["world"] == "Mini-NDN" and document["forwarder"] == "nfd"
    assert len(document["asked"]) == 2 and len(document["claims"]) == 8
