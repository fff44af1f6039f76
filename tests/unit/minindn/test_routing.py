"""Routes in Mini-NDN, static ones and NLSR's, over the stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ndn_infer.errors import NetworkError
from ndn_infer.testbed.process_network import FORWARDER
from tests.unit.minindn.stand_in import FakeNfd, FakeNlsr, FakeRouting, calls, did, write_lsdb


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
            assert f"nfdc strategy set {words}" in did(found, "edge")
        assert any(line.endswith("produce --set=engine.threads=1 --functions prefill --exit-with-parent") for line in
                   calls(found.ndn.net["compute"]))  # fmt: skip
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
    write_lsdb(found)
    again = network("nlsr")
    await again.start()
    changed = {"infoedit nfd.conf rib.readvertise_nlsr yes", "infoedit nlsr.conf neighbors.hello-interval 30"}
    assert changed <= set(did(again, "core"))
    FakeNlsr.ended.add("core")
    write_lsdb(again, but="compute")
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
    write_lsdb(found)
    await found.start()
    try:
        for link in found.topology.links_of("compute"):
            await found.switch(link, up=False)
        await found.kill("core", FORWARDER)
        write_lsdb(found, cut=found.topology.links_of("compute"))
        await found.start_forwarder("core")
        await found.kill("core", FORWARDER)
        write_lsdb(found)  # NLSR has not noticed
        with pytest.raises(NetworkError, match="link core - compute is there, or is not"):
            await found.start_forwarder("core")
    finally:
        await found.stop()
