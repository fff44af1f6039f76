"""A Mini-NDN network that is broken and mended, over the stand-in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ndn_infer.errors import ChildFailed, NetworkError, UsageError
from ndn_infer.testbed import topology_file
from ndn_infer.testbed.process_network import FORWARDER
from tests.unit.minindn.stand_in import ROOT, FakeNet, FakeNfd, FakeRouting, did


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
        assert f"ip link set {link.first}-eth0 down" in did(found, link.first)
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


def test_provision_without_ndn_infer_says_what_to_do(apps: Any, tmp_path: Path) -> None:
    from ndn_infer.testbed import minindn_network

    ndn = SimpleNamespace(net=FakeNet(), workDir=str(tmp_path))
    setup = minindn_network.MiniNdnSetup("/bin/false", ROOT, "static")
    network = minindn_network.MiniNdnNetwork(ndn, topology_file.load("three_nodes"), setup)
    with pytest.raises(ChildFailed) as caught:
        network._provision()
    assert "--python" in caught.value.hint
