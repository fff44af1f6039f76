"""What an operator does with a running forwarder: reload, metrics, trace, logs, a lasting store, signed commands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.errors import RegistrationRefused
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import Machine, operator_identity
from ndn_infer.ndn import lp, packet
from ndn_infer.ndn.tlv import Framer
from ndn_infer.node.keys import ensure_keys
from ndn_infer.security.crypto import ECDSA, PrivateKey, Signer
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.datasets import Datasets
from tests.daemons import own_address
from tests.forwarder_world import data, interest

WAIT_S = 20.0


class Running:
    """An `ndn-infer forwarder` process."""

    def __init__(self, directory: Path, process: asyncio.subprocess.Process) -> None:
        self.directory = directory
        self.process = process
        self.socket = directory / "f.sock"

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), WAIT_S)).decode().rstrip()

    async def reload(self) -> str:
        self.process.send_signal(signal.SIGHUP)
        return await self.line()

    async def stop(self) -> str:
        """SIGTERM; what it wrote to standard error."""
        if self.process.returncode is None:
            self.process.terminate()
        _, errors = await asyncio.wait_for(self.process.communicate(), WAIT_S)
        return errors.decode()


def environment(directory: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NDN_", "XDG_"))}
    return {**kept, "HOME": str(directory), "NDN_INFER_FORWARDER_UNIX_PATH": str(directory / "f.sock")}


@asynccontextmanager
async def running(directory: Path, *arguments: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ndn_infer", "forwarder", *arguments, env=environment(directory),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    forwarder = Running(directory, process)
    try:
        ready = await forwarder.line()
        assert ready.startswith("READY"), (ready, (await process.communicate())[1].decode())
        yield forwarder
    finally:
        await forwarder.stop()


class Application:
    """A socket to the forwarder that speaks packets."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(WAIT_S)
        self._socket.connect(str(path))
        self._framer = Framer()
        self._arrived: deque[bytes] = deque()

    def send(self, *packets: bytes) -> None:
        self._socket.sendall(b"".join(packets))

    def receive(self) -> packet.Data | int:
        """The next Data, or the reason of a Nack."""
        while not self._arrived:
            self._arrived.extend(self._framer.feed(self._socket.recv(65536)))
        link = lp.decode_lp(self._arrived.popleft())
        return packet.decode_data(link.fragment) if link.nack_reason is None else link.nack_reason

    def close(self) -> None:
        self._socket.close()


# ---------------------------------------------------------------- reload


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_reload_applies_changes_and_keeps_faces(tmp_path: Path) -> None:
    file, port = tmp_path / "config.toml", free_port()
    file.write_text("[forwarder]\ncs_capacity_packets = 10\n")
    async with running(tmp_path, "--config", str(file)) as forwarder:
        application = Application(forwarder.socket)
        application.send(interest("/nobody"))
        assert application.receive() == lp.REASON_NO_ROUTE
        file.write_text(f'[forwarder]\ncs_capacity_packets = 20\ntcp_bind = ["127.0.0.1:{port}"]\n')
        assert await forwarder.reload() == "RELOADED tcp_bind, cs_capacity_packets"
        application.send(interest("/nobody", 2))
        assert application.receive() == lp.REASON_NO_ROUTE, "the face is still there"
        with socket.create_connection(("127.0.0.1", port), WAIT_S):
            pass
        assert (await dataset(forwarder.socket, "cs/info")).find(b"\x83\x01\x14") > 0
        file.write_text("[forwarder]\n")
        assert "tcp_bind" in await forwarder.reload()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), WAIT_S)
        assert await forwarder.reload() == "RELOADED nothing to change in the forwarder"
        application.close()


async def test_a_mistake_in_the_configuration_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[forwarder]\n")
    async with running(tmp_path, "--config", str(file)) as forwarder:
        mistakes = (
            "[forwarder]\ncs_capacity_pakets = 1\n",
            '[forwarder]\ntcp_bind = ["nowhere"]\ncs_capacity_packets = 1\n',
            '[forwarder]\ngrants = "/a"\n',
            '[forwarder]\nlocal_commands = "everybody"\n',
            '[log]\nformat = "xml"\n',
            "no toml",
        )
        assert forwarder.process.stderr is not None
        for mistake in mistakes:
            file.write_text(mistake)
            forwarder.process.send_signal(signal.SIGHUP)
            line = (await asyncio.wait_for(forwarder.process.stderr.readline(), WAIT_S)).decode()
            assert line.startswith("ndn-infer: configuration not applied:"), line
        assert (await dataset(forwarder.socket, "cs/info")).find(b"\x83\x04\x00\x01\x00\x00") > 0


async def dataset(path: Path, what: str) -> bytes:
    endpoint = Endpoint(lambda: connect(f"unix://{path}", 3.0))
    await endpoint.open()
    try:
        data_packet, _ = await endpoint.express(
            ndn.from_uri(f"/localhost/nfd/{what}"), can_be_prefix=True, must_be_fresh=True, lifetime_ms=4000
        )
        return data_packet.content
    finally:
        await endpoint.close()


# ---------------------------------------------------------------- metrics, trace, logs


async def test_metrics_in_prometheus_format(tmp_path: Path) -> None:
    port = free_port()
    arguments = ("--metrics", f"127.0.0.1:{port}", "--set", "forwarder.cs_counted=/counted")
    async with running(tmp_path, *arguments) as forwarder, aiohttp.ClientSession() as session:
        application = Application(forwarder.socket)
        application.send(interest("/counted/a"), interest("/b", 2))
        assert [application.receive(), application.receive()] == [lp.REASON_NO_ROUTE] * 2
        async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
            assert response.status == 200 and response.content_type == "text/plain"
            lines = (await response.text()).splitlines()
        for host, status in (("rebound.example", 421), ("localhost:1", 200), ("127.0.0.1.evil.example", 421)):
            async with session.get(f"http://127.0.0.1:{port}/metrics", headers={"Host": host}) as response:
                assert response.status == status
        assert 'ndn_infer_forwarder_drops_total{reason="no_route"} 2.0' in lines
        assert 'ndn_infer_forwarder_cs_misses_total{prefix="/counted"} 1.0' in lines
        assert 'ndn_infer_forwarder_packets_total{direction="in",type="interest"} 2.0' in lines
        assert any(line.startswith("process_resident_memory_bytes") for line in lines)
        nacks = [
            line for line in lines if line.startswith("ndn_infer_forwarder_face_packets_total{") and '"nack"' in line
        ]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in nacks) == 2
        application.close()


async def test_the_trace_says_why(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    async with running(tmp_path, "--trace", str(trace)) as forwarder:
        application = Application(forwarder.socket)
        application.send(interest("/nobody"), interest("/x", 2, hop_limit=0), data("/unasked"), b"\x05\x01\x00")
        assert application.receive() == lp.REASON_NO_ROUTE
        application.send(interest("/nobody", 3))
        assert application.receive() == lp.REASON_NO_ROUTE
        application.close()
    lines = [json.loads(line) for line in trace.read_text("utf-8").splitlines()]
    drops = [(line["packet"], line["name"], line["why"]) for line in lines if line["event"] == "drop"]
    assert ("Interest", "/nobody", "no route") in drops
    assert ("Interest", "/x", "HopLimit is 0") in drops
    assert ("Data", "/unasked", "unsolicited: no pending Interest") in drops
    assert any(why.startswith("malformed: ") for _, _, why in drops)
    assert {"in", "drop"} <= {line["event"] for line in lines}
    assert trace.stat().st_mode & 0o777 == 0o600


async def test_logs_for_machines(tmp_path: Path) -> None:
    arguments = ("--set", "log.format=json", "--set", "log.level=info")
    async with running(tmp_path, *arguments) as forwarder:
        Application(forwarder.socket).close()
        await dataset(forwarder.socket, "status/general")
        errors = await forwarder.stop()
    lines = [json.loads(line) for line in errors.splitlines()]
    assert any("up: fd://" in line["message"] and line["level"] == "info" for line in lines)


# ---------------------------------------------------------------- a store that survives


async def test_the_content_store_survives_a_restart(tmp_path: Path) -> None:
    arguments = ("--set", f"forwarder.cs_disk_path={tmp_path / 'cs.sqlite'}")
    async with running(tmp_path, *arguments) as forwarder:
        producer, consumer = Application(forwarder.socket), Application(forwarder.socket)
        endpoint = Endpoint(lambda: connect(f"unix://{forwarder.socket}", 3.0))
        await endpoint.open()
        faces = await face_ids(endpoint)
        registrar = Registrar(endpoint)
        parameters = ndn.encode_name(ndn.from_uri("/p")) + b"\x69\x02" + faces[0].to_bytes(2, "big")
        response = await registrar.command("rib", "register", b"\x68" + bytes((len(parameters),)) + parameters)
        assert response.code == 200
        wires = [data(f"/p/{index}", fresh_ms=3_600_000) for index in range(50)]
        consumer.send(*(interest(f"/p/{index}", index + 1) for index in range(50)))
        producer.send(*wires)
        for wire in wires:
            found = consumer.receive()
            assert isinstance(found, packet.Data) and found.wire == wire
        await endpoint.close()
    async with running(tmp_path, *arguments) as forwarder:
        consumer = Application(forwarder.socket)
        for index, wire in enumerate(wires):
            consumer.send(interest(f"/p/{index}", index + 100, must_be_fresh=True))
            found = consumer.receive()
            assert isinstance(found, packet.Data) and found.wire == wire
        consumer.close()


async def face_ids(endpoint: Endpoint) -> list[int]:
    """Of the Unix faces, oldest first."""
    return sorted(face["face_id"] for face in await Datasets(endpoint).faces() if face["uri"].startswith("fd://"))


# ---------------------------------------------------------------- signed commands


async def test_only_certified_keys_command_and_only_below_their_names(tmp_path: Path) -> None:
    arguments = (
        "--set", "forwarder.local_commands=signed",
        "--set", "forwarder.grants=/ndn-infer/local/home=/ndn-infer/local/model",
    )  # fmt: skip
    config = configuration.load(environment={})
    data_dir = tmp_path / ".local" / "share" / "ndn-infer"
    config = configuration.load(environment={}, flags=[f"paths.data_dir={data_dir}"])
    keychain = ensure_keys(config, ROLES)
    net = ndn.from_uri(config.network.net)
    node = Machine(config.network.site, config.network.node).to_name(net)
    async with running(tmp_path, *arguments) as forwarder:
        endpoint = Endpoint(lambda: connect(f"unix://{forwarder.socket}", 3.0))
        await endpoint.open()
        nobody, machine = Registrar(endpoint), Registrar(endpoint, keychain.signer_for(node))
        operator = Registrar(endpoint, keychain.signer_for(operator_identity(net)))
        await nobody.enable_local_fields()  # concerns its own face only
        with pytest.raises(RegistrationRefused, match="403"):
            await nobody.register(ndn.from_uri("/ndn-infer/local/home/n1/x"))
        await machine.register(ndn.from_uri("/ndn-infer/local/home/n1/x"))
        await machine.register(ndn.from_uri("/ndn-infer/local/model/m"))
        for refused in ("/ndn-infer/local/corpus", "/ndn-infer/local/home/n2", "/"):
            with pytest.raises(RegistrationRefused, match="may not register"):
                await machine.register(ndn.from_uri(refused))
        await operator.register(ndn.from_uri("/anything"))
        erase = b"\x68\x05\x07\x03\x08\x01a"
        codes = [(await who.command("cs", "erase", erase)).code for who in (nobody, machine, operator)]
        assert codes == [403, 403, 200]
        await endpoint.close()


async def test_an_application_of_another_host_registers_with_its_key(tmp_path: Path) -> None:
    address = own_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    port = free_port()
    data_dir = tmp_path / ".local" / "share" / "ndn-infer"
    config = configuration.load(environment={}, flags=[f"paths.data_dir={data_dir}"])
    keychain = ensure_keys(config, ROLES)
    net = ndn.from_uri(config.network.net)
    node = Machine(config.network.site, config.network.node).to_name(net)
    arguments = ("--set", "forwarder.remote_commands=signed", "--tcp", f"{address}:{port}")
    async with running(tmp_path, *arguments) as forwarder:
        endpoint = Endpoint(lambda: connect(f"tcp4://{address}:{port}", 3.0))
        await endpoint.open()
        machine, nobody = Registrar(endpoint, keychain.signer_for(node)), Registrar(endpoint)
        await machine.start()
        prefix = node + ndn.generic("x")
        await machine.register(prefix)
        local = Endpoint(lambda: connect(f"unix://{forwarder.socket}", 3.0))
        await local.open()
        assert ndn.to_uri(prefix) in {route["prefix"] for route in await Datasets(local).routes()}
        with pytest.raises(RegistrationRefused):
            await nobody.register(prefix)
        # A machine that came later: no route leads to its certificate, so it is asked for where the command came from.
        elsewhere, key = Machine(config.network.site, "elsewhere").to_name(net), PrivateKey.generate(ECDSA)
        key_name = elsewhere + ndn.generic("KEY") + ndn.generic("1")
        certificate = keychain.certify(elsewhere, key_name, key.public_der)
        endpoint.attach(key_name, lambda request: request.reply(certificate.wire))
        newcomer = Registrar(endpoint, Signer.of(key, elsewhere, certificate.name))
        await newcomer.register(elsewhere + ndn.generic("x"))
        with pytest.raises(RegistrationRefused, match="may not register"):
            await newcomer.register(prefix)
        await machine.close()
        await endpoint.close()
        await local.close()
