"""Unmodified NDN clients against a running ForwarderDaemon: python-ndn's two application interfaces over Unix, TCP and
UDP, and two daemons linked over UDP and TCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ndn import app as app_v1
from ndn import appv2
from ndn.app_support import nfd_mgmt
from ndn.security import DigestSha256Signer, KeychainDigest
from ndn.transport.nfd_registerer import NfdRegister
from ndn.transport.stream_face import TcpFace, UnixFace
from ndn.transport.udp_face import UdpFace
from ndn.types import InterestNack

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from ndn_infer.errors import AddressTaken
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from tests.forwarder_world import interest

CONTENT = bytes(range(256)) * 31
CONNECTED_S = 10.0


@asynccontextmanager
async def forwarder(directory: Path, name: str = "nfd", **options: Any) -> AsyncIterator[ForwarderDaemon]:
    settings = {"tcp_bind": ("127.0.0.1:0",), "udp_bind": ("127.0.0.1:0",), "loopback_commands": "any", **options}
    daemon = ForwarderDaemon(ForwarderConfig(unix_path=str(directory / f"{name}.sock"), **settings))
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.close()


def face_to(daemon: ForwarderDaemon, kind: str) -> Any:
    if kind == "unix":
        return UnixFace(daemon.options.unix_path)
    assert daemon.tcp_address is not None and daemon.udp_address is not None
    if kind == "tcp":
        return TcpFace(*daemon.tcp_address)
    return UdpFace(*daemon.udp_address)


@asynccontextmanager
async def running(application: Any) -> AsyncIterator[Any]:
    """An application's main loop as a task, until it is connected and what it serves is registered."""
    up = asyncio.Event()

    async def after_start() -> None:
        up.set()

    task = asyncio.ensure_future(application.main_loop(after_start()))
    try:
        await asyncio.wait_for(up.wait(), CONNECTED_S)
        yield application
    finally:
        application.shutdown()
        await asyncio.wait_for(task, CONNECTED_S)


async def accept(*_: Any) -> appv2.ValidResult:
    return appv2.ValidResult.PASS


async def accept_v1(*_: Any) -> bool:
    return True


@asynccontextmanager
async def producer_v2(daemon: ForwarderDaemon, kind: str, prefix: str) -> AsyncIterator[Any]:
    face = face_to(daemon, kind)
    application = appv2.NDNApp(face=face, registerer=NfdRegister())

    def on_interest(name: Any, _: Any, reply: Any, __: Any) -> None:
        reply(appv2.NDNApp.make_data(name, CONTENT, signer=DigestSha256Signer()))

    async with running(application):
        application.attach_handler(prefix, on_interest)
        assert await application.register(prefix)
        yield application


@asynccontextmanager
async def producer_v1(daemon: ForwarderDaemon, kind: str, prefix: str) -> AsyncIterator[Any]:
    application = app_v1.NDNApp(face=face_to(daemon, kind), keychain=KeychainDigest())

    def on_interest(name: Any, *_: Any) -> None:
        application.put_data(name, CONTENT, freshness_period=0)

    async with running(application):
        assert await application.register(prefix, on_interest)
        yield application


async def fetch_v2(daemon: ForwarderDaemon, kind: str, name: str) -> bytes:
    async with running(appv2.NDNApp(face=face_to(daemon, kind), registerer=NfdRegister())) as application:
        _, content, _ = await application.express(name, accept, lifetime=4000)
        return bytes(content)


async def fetch_v1(daemon: ForwarderDaemon, kind: str, name: str) -> bytes:
    async with running(app_v1.NDNApp(face=face_to(daemon, kind), keychain=KeychainDigest())) as application:
        _, _, content = await application.express_interest(name, validator=accept_v1, lifetime=4000)
        return bytes(content)


PRODUCERS: dict[str, Callable[..., Any]] = {"v1": producer_v1, "v2": producer_v2}
CONSUMERS: dict[str, Callable[..., Awaitable[bytes]]] = {"v1": fetch_v1, "v2": fetch_v2}


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("producer", PRODUCERS)
async def test_python_ndn_registers_and_exchanges(tmp_path: Path, kind: str, producer: str, consumer: str) -> None:
    async with forwarder(tmp_path) as daemon, PRODUCERS[producer](daemon, kind, "/py/app"):
        assert await CONSUMERS[consumer](daemon, kind, "/py/app/x") == CONTENT


async def test_udp_clients_count_as_local(tmp_path: Path) -> None:
    async with forwarder(tmp_path, udp_mtu_bytes=8800) as daemon, producer_v2(daemon, "udp", "/py/udp"):
        assert await fetch_v2(daemon, "unix", "/py/udp/x") == CONTENT


async def test_no_route_and_withdrawn_route(tmp_path: Path) -> None:
    async with forwarder(tmp_path) as daemon:
        with pytest.raises(InterestNack):
            await fetch_v2(daemon, "unix", "/nobody/x")
        async with producer_v2(daemon, "unix", "/py/gone") as application:
            assert await application.unregister("/py/gone")
            with pytest.raises(InterestNack):
                await fetch_v2(daemon, "unix", "/py/gone/x")


async def test_routes_go_with_the_application(tmp_path: Path) -> None:
    async with forwarder(tmp_path) as daemon:
        async with producer_v1(daemon, "unix", "/py/short"):
            assert ndn.from_uri("/py/short") in daemon.core.fib
        for _ in range(200):
            if ndn.from_uri("/py/short") not in daemon.core.fib:
                break
            await asyncio.sleep(0.01)
        assert ndn.from_uri("/py/short") not in daemon.core.fib
        with pytest.raises(InterestNack):
            await fetch_v1(daemon, "unix", "/py/short/x")


async def command(
    daemon: ForwarderDaemon, module: str, verb: str, kind: str = "unix", **fields: Any
) -> nfd_mgmt.ControlResponse:
    """A command by python-ndn's own encoder (v0.3), answered as its own decoder reads it."""
    async with running(appv2.NDNApp(face=face_to(daemon, kind), registerer=NfdRegister())) as application:
        name = nfd_mgmt.make_command_v2(module, verb, **fields)
        _, content, _ = await application.express(
            name, accept, app_param=b"", signer=DigestSha256Signer(for_interest=True), lifetime=4000
        )
        return nfd_mgmt.parse_response(content)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_two_linked_forwarders(tmp_path: Path, kind: str) -> None:
    """An 8 kB Data crosses a link of small datagrams (fragments) or a TCP connection; the second answer is cached."""
    async with forwarder(tmp_path, "a") as near, forwarder(tmp_path, "b") as far, producer_v2(far, "unix", "/far"):
        address = far.udp_address if kind == "udp" else far.tcp_address
        assert address is not None
        uri = f"{kind}4://{address[0]}:{address[1]}"
        created = await command(near, "faces", "create", uri=uri)
        assert created["status_code"] == 200 and created["uri"] == uri and created["face_id"] >= 256, created
        again = await command(near, "faces", "create", uri=uri)
        assert again["status_code"] == 409 and again["face_id"] == created["face_id"]
        routed = await command(near, "rib", "register", name="/far", face_id=created["face_id"], origin=255, cost=5)
        assert routed["status_code"] == 200 and routed["face_id"] == created["face_id"]
        assert await fetch_v2(near, "unix", "/far/x") == CONTENT
        assert await fetch_v1(near, "unix", "/far/x") == CONTENT
        face = near.core.faces[created["face_id"]]
        assert face.counters.out_interests == 1 and face.counters.in_data == 1
        destroyed = await command(near, "faces", "destroy", face_id=created["face_id"])
        assert destroyed["status_code"] == 200
        with pytest.raises(InterestNack):
            await fetch_v2(near, "unix", "/far/y")


async def test_addresses(tmp_path: Path) -> None:
    """A live socket and a taken port are refused by name; a dead process's socket file is replaced; ours is removed."""
    path = tmp_path / "nfd.sock"
    async with forwarder(tmp_path) as daemon:
        assert path.stat().st_mode & 0o777 == 0o600
        assert daemon.tcp_address is not None and daemon.udp_address is not None
        with pytest.raises(AddressTaken, match=str(path)):
            await ForwarderDaemon(ForwarderConfig(unix_path=str(path))).start()
        for option, port in (("tcp_bind", daemon.tcp_address[1]), ("udp_bind", daemon.udp_address[1])):
            with pytest.raises(AddressTaken, match=str(port)):
                await ForwarderDaemon(ForwarderConfig(**{option: (f"127.0.0.1:{port}",)})).start()
        assert path.exists()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with forwarder(tmp_path, unix_mode="660") as daemon, producer_v2(daemon, "unix", "/again"):
        assert path.stat().st_mode & 0o777 == 0o660


async def test_idle_udp_faces_go_and_wanted_ones_stay(tmp_path: Path) -> None:
    """On-demand faces end after silence; one that was asked for does not, nor one that is made persistent later."""
    async with forwarder(tmp_path, udp_idle_timeout_s=0.05) as daemon:
        assert daemon.udp_address is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            port = stranger.getsockname()[1]
            stranger.sendto(interest("/x", 1), daemon.udp_address)
            kept = await command(daemon, "faces", "create", uri="udp4://127.0.0.1:9")
            for _ in range(500):
                uris = {face.uri for face in daemon.core.faces.values()}
                if daemon.core.counters.in_interests > 1 and f"udp4://127.0.0.1:{port}" not in uris:
                    break
                await asyncio.sleep(0.01)
            assert f"udp4://127.0.0.1:{port}" not in uris and "udp4://127.0.0.1:9" in uris
            wanted = await command(daemon, "faces", "create", uri=f"udp4://127.0.0.1:{port}")
            assert wanted["status_code"] == 200 and wanted["face_id"] > kept["face_id"]


async def test_the_number_of_udp_faces_is_bounded(tmp_path: Path) -> None:
    async with forwarder(tmp_path, max_udp_faces=3) as daemon:
        assert daemon.udp_address is not None
        for _ in range(10):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(interest("/x", 1), daemon.udp_address)
        assert (await command(daemon, "cs", "config"))["status_code"] == 200
        assert sum(face.uri.startswith("udp4:") for face in daemon.core.faces.values()) == 3


async def test_unreachable_hosts_are_told(tmp_path: Path) -> None:
    async with forwarder(tmp_path, udp_bind=(), tcp_bind=()) as daemon:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            refused = await command(daemon, "faces", "create", uri=f"tcp4://127.0.0.1:{closed.getsockname()[1]}")
        assert refused["status_code"] == 504
        made = await command(daemon, "faces", "create", uri="udp4://127.0.0.1:9")  # without a listener
        assert made["status_code"] == 200
        if socket.has_ipv6:
            made = await command(daemon, "faces", "create", uri="udp6://[::1]:9")
            assert made["status_code"] == 200 and made["uri"] == "udp6://[::1]:9"
