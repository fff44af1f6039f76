"""python-ndn, unmodified, and our own endpoint through one running forwarder: our objects read by its stock fetcher,
its Data read by us, and the forwarder managed by its encoders."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ndn import app as app_v1
from ndn import appv2
from ndn.app_support import nfd_mgmt
from ndn.app_support.segment_fetcher import segment_fetcher
from ndn.encoding import Name as PythonName
from ndn.security import DigestSha256Signer, KeychainDigest, sha256_digest_checker
from ndn.transport.nfd_registerer import NfdRegister

from ndn_infer import ndn
from ndn_infer.config import FetchConfig
from ndn_infer.errors import Nacked
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.namespace import Result
from ndn_infer.ndn import tlv
from ndn_infer.ndn.packet import decode_data, digest_signer, encode_data
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.harness import NET, keychain_in, role
from tests.integration.test_forwarder_clients import (
    CONTENT,
    accept,
    accept_v1,
    command,
    face_to,
    fetch_v1,
    fetch_v2,
    forwarder,
    producer_v1,
    producer_v2,
    running,
)

OBJECT = random.Random(7).randbytes(100_000)
BLOCK = Result("model", "ab" * 32, "tokenize", "cd" * 32).to_name(NET)


@asynccontextmanager
async def endpoint_to(daemon: ForwarderDaemon, kind: str = "unix") -> AsyncIterator[tuple[Endpoint, Registrar]]:
    """Our application end at a running forwarder."""
    if kind == "unix":
        uri = f"unix://{daemon.options.unix_path}"
    else:
        assert daemon.tcp_address is not None
        uri = "tcp://{}:{}".format(*daemon.tcp_address)
    endpoint = Endpoint(lambda: connect(uri, 3.0))
    await endpoint.open()
    registrar = Registrar(endpoint)
    try:
        yield endpoint, registrar
    finally:
        await registrar.close()
        await endpoint.close()


@asynccontextmanager
async def object_server(daemon: ForwarderDaemon, directory: Path) -> AsyncIterator[Any]:
    """OBJECT published under a name of our namespace, signed by a producer's key."""
    keychain = keychain_in(directory, "tokenize")
    signer = keychain.signer_for(role("tokenize"))
    async with endpoint_to(daemon) as (endpoint, registrar):
        server = Server(endpoint, ObjectStore(1 << 30))
        server.serve(BLOCK, signer)
        server.answer_certificates(role("tokenize"), keychain.certificates)
        packets = server.publish(BLOCK, OBJECT, signer)
        await registrar.register(BLOCK)
        await registrar.register(role("tokenize"))
        yield packets, keychain


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_stock_segment_fetcher_reads_our_object(tmp_path: Path, kind: str) -> None:
    """Every segment is DigestSha256-signed Data with FinalBlockId: python-ndn's own checker and loop take it."""
    async with forwarder(tmp_path) as daemon, object_server(daemon, tmp_path / "keys") as (packets, _):
        async with running(app_v1.NDNApp(face=face_to(daemon, kind), keychain=KeychainDigest())) as application:
            name = PythonName.from_bytes(ndn.encode_name(packets.manifest.name))
            pieces = [
                bytes(piece)
                async for piece in segment_fetcher(
                    application, name, validator=sha256_digest_checker, must_be_fresh=False
                )
            ]
        assert b"".join(pieces) == OBJECT and len(pieces) == 13
        hits = daemon.core.cs.hits
        async with running(app_v1.NDNApp(face=face_to(daemon, kind), keychain=KeychainDigest())) as application:
            again = [bytes(p) async for p in segment_fetcher(application, name, validator=accept_v1)]
        assert again == pieces and daemon.core.cs.hits == hits + 13  # from the Content Store


async def test_discovery_as_rdr_asks(tmp_path: Path) -> None:
    """<name>/32=metadata, CanBePrefix and MustBeFresh, gives Data whose content begins with the versioned Name."""
    async with forwarder(tmp_path) as daemon, object_server(daemon, tmp_path / "keys") as (packets, _):
        async with running(appv2.NDNApp(face=face_to(daemon, "unix"), registerer=NfdRegister())) as application:
            name = PythonName.from_bytes(ndn.encode_name(BLOCK + ndn.METADATA))
            found, content, _ = await application.express(
                name, accept, can_be_prefix=True, must_be_fresh=True, lifetime=4000
            )
        assert bytes(content).startswith(ndn.encode_name(packets.manifest.name))
        assert [bytes(part) for part in found][-1] == ndn.segment(0)


async def test_our_fetcher_reads_it_verified(tmp_path: Path) -> None:
    async with forwarder(tmp_path) as daemon, object_server(daemon, tmp_path / "keys") as (_, keychain):
        async with endpoint_to(daemon, "tcp") as (endpoint, _):

            async def certificate(name: ndn.Name) -> bytes:
                data, _ = await endpoint.express(name, can_be_prefix=True)
                return data.wire

            validator = Validator(TrustSchema.load(NET), keychain.anchor, certificate)
            fetched = await Fetcher(endpoint, validator, FetchConfig()).fetch(BLOCK, most=MAX_OBJECT_BYTES)
            await validator.aclose()
        assert fetched.content == OBJECT


@pytest.mark.parametrize("producer", [producer_v1, producer_v2])
async def test_we_read_what_python_ndn_serves(tmp_path: Path, producer: Any) -> None:
    async with forwarder(tmp_path) as daemon, producer(daemon, "unix", "/py/app"):
        async with endpoint_to(daemon, "tcp") as (endpoint, _):
            data, arrival = await endpoint.express(ndn.from_uri("/py/app/x"))
            assert data.content == CONTENT and not arrival.from_content_store
            with pytest.raises(Nacked):
                await endpoint.express(ndn.from_uri("/nobody/x"))


@pytest.mark.parametrize("consumer", [fetch_v1, fetch_v2])
async def test_python_ndn_reads_what_we_serve(tmp_path: Path, consumer: Any) -> None:
    async with forwarder(tmp_path) as daemon, endpoint_to(daemon) as (endpoint, registrar):
        endpoint.attach(ndn.from_uri("/ours"), lambda request: request.reply(encode_data(request.interest.name, b"us")))
        await registrar.register(ndn.from_uri("/ours"))
        assert await consumer(daemon, "unix", "/ours/x") == b"us"
        await registrar.unregister(ndn.from_uri("/ours"))
        assert ndn.from_uri("/ours") not in daemon.core.fib


async def _dataset(daemon: ForwarderDaemon, name: str) -> bytes:
    async with running(appv2.NDNApp(face=face_to(daemon, "unix"), registerer=NfdRegister())) as application:
        _, content, _ = await application.express(
            f"/localhost/nfd/{name}", accept, can_be_prefix=True, must_be_fresh=True, lifetime=4000
        )
        return bytes(content)


async def test_pynfdc_reads_every_dataset(tmp_path: Path) -> None:
    """python-ndn's own models decode what our management answers."""
    async with forwarder(tmp_path) as daemon, producer_v2(daemon, "unix", "/py/app"):
        status = nfd_mgmt.GeneralStatus.parse(await _dataset(daemon, "status/general"))
        assert status.n_fib_entries == 2 and b"24" in bytes(status.nfd_version.encode())
        faces = nfd_mgmt.FaceStatusMsg.parse(await _dataset(daemon, "faces/list")).face_status
        assert {face.uri.split(":")[0] for face in faces} >= {"internal", "fd"}
        routes = nfd_mgmt.RibStatus.parse(await _dataset(daemon, "rib/list")).entries
        assert [PythonName.to_str(entry.name) for entry in routes] == ["/py/app"]
        hops = nfd_mgmt.FibStatus.parse(await _dataset(daemon, "fib/list")).entries
        assert {PythonName.to_str(entry.name) for entry in hops} == {"/localhost/nfd", "/py/app"}
        choices = nfd_mgmt.StrategyChoiceMsg.parse(await _dataset(daemon, "strategy-choice/list")).strategy_choices
        assert {PythonName.to_str(choice.name) for choice in choices} >= {"/", "/localhost"}
        [(kind, value, end)] = tlv.iterate(info := await _dataset(daemon, "cs/info"))
        store = nfd_mgmt.CsInfo.parse(info[value:end])
        assert kind == 0x80 and store.capacity == 65536 and store.flags == 3


async def test_pynfdc_commands(tmp_path: Path) -> None:
    async with forwarder(tmp_path) as daemon:
        config = await command(daemon, "cs", "config", capacity=77)
        assert config["status_code"] == 200 and daemon.core.cs.capacity_packets == 77
        strategy = await command(
            daemon, "strategy-choice", "set", name="/m", strategy="/localhost/nfd/strategy/multicast"
        )
        assert strategy["status_code"] == 200
        unknown = await command(daemon, "strategy-choice", "set", name="/m", strategy="/localhost/nfd/strategy/none")
        assert unknown["status_code"] == 404
        missing = await command(daemon, "rib", "register", name="/x", face_id=9999)
        assert missing["status_code"] == 410
        assert (await command(daemon, "rib", "nonsense", name="/x"))["status_code"] == 501


async def test_python_ndn_producer_signs_what_we_can_check(tmp_path: Path) -> None:
    """A DigestSha256 signature made by python-ndn is the one we compute."""
    wire = bytes(appv2.NDNApp.make_data("/a/b", b"x", signer=DigestSha256Signer()))
    data = decode_data(wire)
    assert digest_signer(data.signed_portion) == data.signature
