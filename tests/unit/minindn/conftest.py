"""Our Mini-NDN classes over the stand-in (stand_in.py)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ndn_infer.testbed import topology_file
from tests.unit.minindn.stand_in import (
    CS_INFO,
    FACES,
    FAKE_INFER,
    ROOT,
    ROUTES,
    FakeApplication,
    FakeNet,
    FakeNfd,
    FakeNlsr,
    FakeNode,
    FakeRouting,
    fake_popen,
)


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
        "minindn.util": {"getPopen": fake_popen},
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
