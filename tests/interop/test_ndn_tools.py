"""ndn-tools (C++, ndn-cxx) as applications of our forwarder, over Unix and TCP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.config import FetchConfig
from ndn_infer.namespace import Result
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.foreign import fetch_foreign
from ndn_infer.transport.objects.serve import Server
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.harness import NET, keychain_in, role
from tests.interop.peers import Peer, needs, our_forwarder

pytestmark = needs("nfdc", "ndnpeek", "ndnpoke", "ndnping", "ndnpingserver", "ndnget", "ndnserve")

KINDS = ("unix", "tcp")
MB = 1_000_000
TIMEOUT, NACK = 3, 4  # exit codes of ndnpeek
PIPELINES = {
    "cubic": ("-p", "cubic"),
    "aimd": ("-p", "aimd"),
    "fixed-1": ("-p", "fixed"),
    "fixed-64": ("-p", "fixed", "-s", "64"),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with our_forwarder(tmp_path_factory.mktemp("ours")) as peer:
        yield peer


def _blob(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


# ---------------------------------------------------------------- one packet


@pytest.mark.parametrize("kind", KINDS)
def test_ndnpeek_gets_what_ndnpoke_gives(ours: Peer, kind: str) -> None:
    """The payload, and the whole Data packet as one TLV."""
    name = f"/poke/{kind}"
    with ours.serving("ndnpoke", name, prefix=name, text=b"hello", kind=kind):
        assert ours.good("ndnpeek", "-p", name, kind=kind).out.rstrip(b"\n") == b"hello"
    packet = ours.good("ndnpeek", name, kind=kind).out  # again, now from the Content Store
    assert decode_data(packet).content == b"hello"


def test_ndnpeek_prefix_and_fresh(ours: Peer) -> None:
    """CanBePrefix finds what lies below; MustBeFresh does not take what has no FreshnessPeriod."""
    with ours.serving("ndnpoke", "-f", "60000", "/fresh/a/b", prefix="/fresh/a/b", text=b"new"):
        assert ours.good("ndnpeek", "-p", "-f", "/fresh/a/b").out.rstrip(b"\n") == b"new"
    assert ours.good("ndnpeek", "-p", "-f", "-P", "/fresh").out.rstrip(b"\n") == b"new"
    with ours.serving("ndnpoke", "/stale/a", prefix="/stale/a", text=b"old"):
        assert ours.good("ndnpeek", "-p", "/stale/a").out.rstrip(b"\n") == b"old"
    assert ours.good("ndnpeek", "-p", "-P", "/stale").out.rstrip(b"\n") == b"old"
    assert ours.run("ndnpeek", "-f", "/stale/a").code == NACK  # nobody is there to make a fresh one


def test_ndnpeek_without_a_route_gets_a_nack(ours: Peer) -> None:
    done = ours.run("ndnpeek", "-v", "/nobody/home")
    assert done.code == NACK and "NoRoute" in done.error


def test_hop_limit(ours: Peer) -> None:
    """1 is enough for an application of the same forwarder; 0 goes nowhere, not even to the Content Store."""
    with ours.serving("ndnpoke", "/hops/a", prefix="/hops/a", text=b"here"):
        assert ours.run("ndnpeek", "-H", "0", "-w", "500", "/hops/a").code == TIMEOUT
        assert ours.good("ndnpeek", "-p", "-H", "1", "/hops/a").out.rstrip(b"\n") == b"here"
    assert ours.run("ndnpeek", "-H", "0", "-w", "500", "/hops/a").code == TIMEOUT


def test_forwarding_hint_finds_a_producer_without_a_route_of_its_own(ours: Peer) -> None:
    """An Interest for a name that is routed nowhere follows its hint."""
    assert ours.run("ndnpeek", "/hinted/ping/7").code == NACK
    with ours.serving("ndnpoke", "/hinted/ping/7", prefix="/hinted/ping/7", text=b"hinted"):
        face = re.search(r"/hinted/ping/7 nexthops=\{faceid=(\d+)", ours.nfdc("fib", "list"))
        assert face is not None
        ours.nfdc("route", "add", "/delegation", "nexthop", face[1])
        ours.nfdc("route", "remove", "/hinted/ping/7", "nexthop", face[1], "origin", "app")
        assert ours.run("ndnpeek", "/hinted/ping/7").code == NACK
        out = ours.good("ndnpeek", "-p", "-F", "/delegation", "/hinted/ping/7").out
    assert out.rstrip(b"\n") == b"hinted"


def test_application_parameters_are_carried(ours: Peer) -> None:
    """The Interest's name ends with the digest of its parameters; it is a question about /localhost here: a command
    of no known kind, answered with 501 inside of a Data packet."""
    parameters = base64.b64encode(b"0123456789").decode()
    done = ours.good("ndnpeek", "-p", "-A", parameters, "/localhost/nfd/rib/nonsense/h")
    assert b"\x66\x02\x01\xf5" in done.out  # StatusCode 501


def test_unsolicited_data_is_not_kept(ours: Peer) -> None:
    ours.good("ndnpoke", "-u", "/unsolicited/x", text=b"nobody asked")
    assert ours.run("ndnpeek", "/unsolicited/x").code == NACK


# ---------------------------------------------------------------- ping


@pytest.mark.parametrize("kind", KINDS)
def test_ndnping(ours: Peer, kind: str) -> None:
    prefix = f"/ping/{kind}"
    with ours.serving("ndnpingserver", "-s", "1000", prefix, prefix=f"{prefix}/ping", kind=kind):
        out = ours.good("ndnping", "-c", "50", "-i", "5", prefix, kind=kind).text
    assert "50 packets transmitted, 50 received, 0 nacked, 0% lost" in out


def test_ndnping_says_that_there_is_no_route(ours: Peer) -> None:
    done = ours.run("ndnping", "-c", "2", "-i", "10", "/nowhere")
    assert done.code == 1 and "nack from /nowhere" in done.text and "2 nacked" in done.text


# ---------------------------------------------------------------- whole files


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("megabytes", [1, 10])
def test_ndnget_gets_what_ndnserve_gives(ours: Peer, kind: str, megabytes: int) -> None:
    """Byte for byte with every pipeline; each once from the producer and once from the Content Store."""
    blob, prefix = _blob(megabytes * MB, megabytes), f"/file/{kind}/{megabytes}"
    with ours.serving("ndnserve", "-q", prefix, prefix=prefix, text=blob, kind=kind):
        for title, options in PIPELINES.items():
            ours.nfdc("cs", "erase", prefix)
            for source in ("producer", "Content Store"):
                fetched = ours.fetch(prefix, *options, kind=kind)
                assert fetched.content == blob, (title, source, fetched.report)


@pytest.mark.parametrize("size", [1, 100, 8000])
def test_ndnget_of_other_chunk_sizes(ours: Peer, size: int) -> None:
    blob = _blob(min(size * 300 + 1, 300_001), size)
    with ours.serving("ndnserve", "-q", "-s", str(size), f"/chunk/{size}", prefix=f"/chunk/{size}", text=blob):
        assert ours.fetch(f"/chunk/{size}").content == blob


async def test_we_fetch_what_ndnserve_gives_and_say_that_nothing_is_verified(ours: Peer) -> None:
    blob, prefix = _blob(1_000_003, 5), "/file/foreign"
    with ours.serving("ndnserve", "-q", prefix, prefix=prefix, text=blob):
        endpoint = Endpoint(lambda: connect(ours.uri("unix"), 3.0))
        await endpoint.open()
        found = await fetch_foreign(endpoint, ndn.from_uri(prefix))
        again = await fetch_foreign(endpoint, ndn.from_uri(prefix), version=ndn.split_version(found.name)[1])
        await endpoint.close()
    assert found.content == again.content == blob and found.segments > 100
    assert found.claims or found.digests == found.segments


# ---------------------------------------------------------------- objects of ours


@pytest.mark.parametrize("kind", KINDS)
async def test_stock_ndnget_downloads_an_object_of_ours(ours: Peer, tmp_path: Path, kind: str) -> None:
    """A public token block, signed by a producer's key and published by our Server: found by 32=metadata, then
    fetched segment by segment with every pipeline. Our own verified fetch gives the same bytes."""
    blob, block = (
        _blob(2 * MB, 3),
        Result("model", "ab" * 32, "tokenize", kind.encode().hex().ljust(64, "0")).to_name(NET),
    )
    keychain = keychain_in(tmp_path / "keys", "tokenize")
    signer = keychain.signer_for(role("tokenize"))
    async with _endpoint(ours) as producer, _endpoint(ours) as consumer:
        server, registrar = Server(producer, ObjectStore(1 << 30)), Registrar(producer)
        server.serve(block, signer)
        server.publish(block, blob, signer)
        await registrar.register(block)
        for options in PIPELINES.values():
            fetched = await asyncio.to_thread(ours.fetch, ndn.to_uri(block), *options, kind=kind)
            assert fetched.content == blob, fetched.report
        validator = Validator(TrustSchema.load(NET), keychain.anchor, _no_certificate)
        validator.add_certificates(*keychain.certificates())
        assert (await Fetcher(consumer, validator, FetchConfig()).fetch(block, most=MAX_OBJECT_BYTES)).content == blob
        await validator.aclose()
        await registrar.close()


@contextlib.asynccontextmanager
async def _endpoint(peer: Peer) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(lambda: connect(peer.uri("unix"), 3.0))
    await endpoint.open()
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def _no_certificate(name: ndn.Name) -> bytes:
    raise AssertionError(f"no certificate is missing here: {ndn.to_uri(name)}")
