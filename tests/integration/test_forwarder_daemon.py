"""A running ForwarderDaemon: bad addresses, garbage on its sockets, and NFD's own tools as clients (marker `nfd`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from ndn_infer.errors import AddressTaken, ConfigError
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.ndn.lp import CONTENT_STORE_FACE_ID
from ndn_infer.ndn.packet import encode_data, encode_interest
from ndn_infer.ndn.tlv import Framer, encode_tlv
from tests.forwarder_world import data, interest
from tests.integration.test_forwarder_clients import CONTENT, command, fetch_v2, forwarder, producer_v2
from tests.integration.test_python_ndn import BLOCK, OBJECT, endpoint_to, object_server

TOOL_S = 30.0

# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"unix_path": "{tmp}/file"}, AddressTaken, "not a socket"),
        ({"unix_path": "{tmp}/file/below.sock"}, ConfigError, "cannot listen"),
        ({"unix_path": "{tmp}/" + "x" * 120}, ConfigError, "too long"),
        ({"tcp_bind": ("127.0.0.1",)}, ConfigError, "tcp_bind"),
        ({"udp_bind": ("127.0.0.1:99999",)}, ConfigError, "udp_bind"),
        ({"tcp_bind": ("192.0.2.1:0",)}, ConfigError, "cannot listen"),
    ],
)
async def test_addresses_that_cannot_be(
    tmp_path: Path, options: dict[str, str], error: type[Exception], words: str
) -> None:
    (tmp_path / "file").write_text("somebody's")
    settings = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(error, match=words):
        await ForwarderDaemon(ForwarderConfig(**settings)).start()
    assert (tmp_path / "file").read_text() == "somebody's"


@pytest.mark.parametrize("kind", ["tcp", "udp", "ws"])
async def test_ipv4_and_ipv6_are_listened_on(tmp_path: Path, kind: str) -> None:
    """No host is every address of both; several binds of a kind stand beside each other, and one of them can go."""
    found = asyncio.get_running_loop().getaddrinfo
    if not socket.has_ipv6 or not await found(None, 0, family=socket.AF_INET6, flags=socket.AI_PASSIVE):
        pytest.skip("no IPv6 here")
    options = ForwarderConfig(**{f"{kind}_bind": ("127.0.0.1:0", "[::1]:0")})
    daemon = ForwarderDaemon(options)
    await daemon.start()
    try:
        here = {uri.rpartition(":")[0] for uri in daemon._ports.uris()}
        scheme = {"tcp": ("tcp4", "tcp6"), "udp": ("udp4", "udp6"), "ws": ("ws", "ws")}[kind]
        assert here == {f"{scheme[0]}://127.0.0.1", f"{scheme[1]}://[::1]"}
        await daemon.reload(ForwarderConfig(**{f"{kind}_bind": ("[::1]:0",)}))
        assert {uri.rpartition(":")[0] for uri in daemon._ports.uris()} == {f"{scheme[1]}://[::1]"}
        await daemon.reload(ForwarderConfig(**{f"{kind}_bind": (":0",)}))
        assert {uri.rpartition(":")[0] for uri in daemon._ports.uris()} == {
            f"{scheme[0]}://0.0.0.0", f"{scheme[1]}://[::]",
        }  # fmt: skip
    finally:
        await daemon.close()


async def test_nothing_is_left_when_the_second_listener_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ForwarderConfig(unix_path=str(tmp_path / "a.sock"), tcp_bind=(f"127.0.0.1:{port}",))
        with pytest.raises(AddressTaken, match=str(port)):
            await ForwarderDaemon(options).start()
    assert not (tmp_path / "a.sock").exists()


async def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    async with forwarder(tmp_path):
        assert stat.S_IMODE((tmp_path / "nfd.sock").stat().st_mode) == 0o600


# ---------------------------------------------------------------- garbage


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def _closed(path: str, garbage: bytes, *, allowed: bytes = b"") -> None:
    """Send and wait until the forwarder hangs up; it says nothing but `allowed`."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(garbage)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        assert await asyncio.wait_for(reader.read(), 10) in (b"", allowed)
    writer.close()


async def test_garbage_closes_its_own_connection_and_no_other(tmp_path: Path) -> None:
    """A client that was there before is served afterwards, over the same connection."""
    async with forwarder(tmp_path) as daemon:
        prefix = ndn.from_uri("/served")
        async with endpoint_to(daemon) as (producer, registrar), endpoint_to(daemon) as (consumer, _):
            producer.attach(prefix, lambda request: request.reply(encode_data(request.interest.name, b"yes")))
            await registrar.register(prefix)
            faces = len(daemon.core.faces)
            assert daemon.options.unix_path is not None and daemon.udp_address is not None
            rng = random.Random(3)
            for garbage in (b"\0" * 64, b"\x06\xfe\xff\xff\xff\xff", b"\xff" * 99):
                await _closed(daemon.options.unix_path, garbage)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                for size in (0, 1, 2, 100, 9000, 60_000):
                    udp.sendto(rng.randbytes(size), daemon.udp_address)
            data, _ = await consumer.express(prefix + ndn.segment(1))
            assert data.content == b"yes"
            await _until(lambda: len(daemon.core.faces) == faces + 1)  # one for the UDP sender


async def test_strangers_have_so_many_connections_and_the_unix_socket_is_served(tmp_path: Path) -> None:
    """One address may have half of them; those that go make room."""
    async with forwarder(tmp_path, max_stream_faces=8) as daemon, producer_v2(daemon, "unix", "/py/unix"):
        assert daemon.tcp_address is not None
        open_ones = [await asyncio.open_connection(*daemon.tcp_address) for _ in range(20)]
        await _until(lambda: daemon.admission._inside == 4)
        assert await fetch_v2(daemon, "unix", "/py/unix/x") == CONTENT
        faces = [face for face in daemon.core.faces.values() if face.uri.startswith("tcp4:")]
        assert len(faces) == 4
        for _, writer in open_ones:
            writer.close()
        await _until(lambda: daemon.admission._inside == 0)
        assert await fetch_v2(daemon, "tcp", "/py/unix/x") == CONTENT


async def test_what_waits_for_all_slow_readers_together_is_bounded(tmp_path: Path) -> None:
    async with forwarder(tmp_path, all_queues_mib=4, face_queue_mib=3) as daemon:
        assert daemon.tcp_address is not None
        before, readers = daemon.queue_room, [await asyncio.open_connection(*daemon.tcp_address) for _ in range(6)]
        await _until(lambda: daemon.admission._inside == 6)
        faces = [face for face in daemon.core.faces.values() if face.uri.startswith("tcp4:")]
        for number in range(600):
            for face in faces:
                face.link.send(data(f"/a/{number}", content=bytes(8000)), 0.0)
        assert 0 < daemon.queue_room and sum(face.link.queued_bytes() for face in faces) <= 12 << 20
        assert all(face.counters.queue_drops for face in faces)
        for _, writer in readers:
            writer.close()
        await _until(lambda: daemon.queue_room == before)


def _commands() -> bytes:
    """A route and a Content Store without room, as anybody can write them."""
    wires = []
    for verb, fields in (
        ("rib/register", ndn.encode_name(ndn.from_uri("/stolen"))), ("cs/config", encode_tlv(0x83, b"\0")),
    ):  # fmt: skip
        name = ndn.from_uri(f"/localhost/nfd/{verb}") + ndn.generic(encode_tlv(0x68, fields))
        wires.append(encode_interest(name, nonce=b"abcd", must_be_fresh=True, parameters=b"")[0])
    return b"".join(wires)


@pytest.mark.parametrize(
    "request_line",
    [b"POST / HTTP/1.1\r\n", b"d~PzPzPzPz / HTTP/1.1\r\n" + b"x" * 105, b"d!R / HTTP/1.1\r\n" + b"y" * 40],
)
async def test_what_a_browser_posts_to_a_tcp_port_does_nothing(tmp_path: Path, request_line: bytes) -> None:
    """Headers, then a body of packets behind a sled of empty elements; a page can choose a method that begins like a
    packet."""
    body = b"\xfd\x01\x00\x00" * 200 + _commands()
    async with forwarder(tmp_path, loopback_commands="any") as daemon:
        capacity, faces = daemon.core.cs.capacity_packets, len(daemon.core.faces)
        for sled in (body, _commands()):
            assert daemon.tcp_address is not None
            reader, writer = await asyncio.open_connection(*daemon.tcp_address)
            writer.write(request_line + b"Host: a\r\n\r\n" + sled)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        await _until(lambda: len(daemon.core.faces) == faces)
        assert daemon.core.cs.capacity_packets == capacity and not list(daemon.core.rib.items())


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_a_port_of_this_machine_takes_signed_commands_only_unless_told_otherwise(
    tmp_path: Path, kind: str
) -> None:
    """Reading, and turning on local fields of the own face, stay open; packets are served."""
    async with (
        forwarder(tmp_path, loopback_commands="signed", udp_mtu_bytes=8800) as daemon,
        producer_v2(daemon, "unix", "/py/unix"),
    ):
        assert await fetch_v2(daemon, kind, "/py/unix/x") == CONTENT
        refused = await command(daemon, "rib", "register", kind=kind, name="/stolen")
        assert refused["status_code"] == 403 and "signed" in refused["status_text"]
        assert (await command(daemon, "cs", "config", kind=kind, capacity=0))["status_code"] == 403
        assert (await command(daemon, "faces", "update", kind=kind, flags=1, mask=1))["status_code"] == 200
        assert ndn.from_uri("/stolen") not in daemon.core.fib and daemon.core.cs.capacity_packets


async def test_a_packet_before_a_malformed_one_in_the_same_read_is_delivered(tmp_path: Path) -> None:
    async with forwarder(tmp_path) as daemon:
        assert daemon.options.unix_path is not None
        wire = encode_interest(ndn.from_uri("/a"), nonce=b"1234")[0]
        await _closed(daemon.options.unix_path, wire + b"\x64" + b"\xff" * 9, allowed=wire)
        assert daemon.core.counters.in_interests == 1


async def test_half_an_interest_waits_for_its_rest(tmp_path: Path) -> None:
    """A stream may be cut anywhere; what belongs together is put together."""
    async with forwarder(tmp_path) as daemon, endpoint_to(daemon) as (producer, registrar):
        prefix = ndn.from_uri("/cut")
        producer.attach(prefix, lambda request: request.reply(encode_data(request.interest.name, b"whole")))
        await registrar.register(prefix)
        reader, writer = await asyncio.open_unix_connection(daemon.options.unix_path)
        for byte in encode_interest(prefix + ndn.segment(0), nonce=b"abcd")[0]:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        answer = encode_data(prefix + ndn.segment(0), b"whole")
        assert await asyncio.wait_for(reader.readexactly(len(answer)), 10) == answer
        writer.close()


async def test_second_reader_is_told_that_it_came_from_the_store(tmp_path: Path) -> None:
    async with forwarder(tmp_path) as daemon, object_server(daemon, tmp_path / "keys") as (packets, _):
        async with endpoint_to(daemon) as (endpoint, registrar):
            await registrar.enable_local_fields()
            name = packets.manifest.segment_name(3)
            _, first = await endpoint.express(name)
            data, second = await endpoint.express(name)
        assert first.face_id not in (None, CONTENT_STORE_FACE_ID) and second.from_content_store
        assert data.wire == packets.packets[name]


# ---------------------------------------------------------------- NFD's tools

nfd = [
    pytest.mark.nfd,
    pytest.mark.skipif(
        not (shutil.which("nfdc") and shutil.which("ndnpeek")), reason="nfdc and ndnpeek are not on PATH"
    ),
]


def tool_named(*names: str) -> str:
    """The first that is installed: ndn-tools renamed some of its programs."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {names} is on PATH")
    return found


class Tools:
    """NFD's programs with our forwarder's socket and a HOME of their own."""

    def __init__(self, daemon: ForwarderDaemon, home: Path) -> None:
        home.mkdir(exist_ok=True)
        transport = f"unix://{daemon.options.unix_path}"
        self._environment = {**os.environ, "HOME": str(home), "NDN_CLIENT_TRANSPORT": transport}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *arguments, env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def run(self, *arguments: str, text: bytes = b"", code: int | None = 0) -> bytes:
        process = await self.start(*arguments)
        out, error = await asyncio.wait_for(process.communicate(text), TOOL_S)
        if code is not None:
            assert process.returncode == code, (arguments, process.returncode, out, error)
        return out

    @contextlib.asynccontextmanager
    async def serving(self, *arguments: str, text: bytes = b"", ready: bytes = b"") -> AsyncIterator[None]:
        """A server program; it is up when it says `ready` on stdout or stderr."""
        process = await self.start(*arguments)
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            process.stdin.write(text)
            process.stdin.close()
            if ready:
                await asyncio.wait_for(_says(process.stdout, process.stderr, ready), TOOL_S)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.wait(), TOOL_S)


async def _says(out: asyncio.StreamReader, error: asyncio.StreamReader, word: bytes) -> None:
    async def read(stream: asyncio.StreamReader) -> None:
        while word not in (line := await stream.readline()):
            assert line, f"ended without saying {word!r}"

    done, waiting = await asyncio.wait(
        [asyncio.ensure_future(read(out)), asyncio.ensure_future(read(error))], return_when=asyncio.FIRST_COMPLETED
    )
    for task in waiting:
        task.cancel()
    await asyncio.gather(*done, *waiting, return_exceptions=True)


async def _routed(daemon: ForwarderDaemon, uri: str) -> None:
    """Wait until somebody registered the prefix."""
    await _until(lambda: ndn.from_uri(uri) in daemon.core.fib)


class TestNfdTools:
    pytestmark = nfd

    async def test_nfdc_reads_every_dataset(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path) as daemon:
            tools = Tools(daemon, tmp_path / "home")
            await tools.run("nfdc", "route", "add", "/some", "nexthop", "1")
            expected = {
                ("status", "show"): b"version=24.07+ndn-infer",
                ("status", "report"): b"strategy choices",
                ("face", "list"): b"remote=internal://",
                ("channel", "list"): b"tcp4://127.0.0.1",
                ("route", "list"): b"prefix=/some nexthop=1 origin=static",
                ("fib", "list"): b"/localhost/nfd nexthops={faceid=1",
                ("cs", "info"): b"capacity=65536",
                ("strategy", "list"): b"/localhost/nfd/strategy/best-route/v=5",
            }
            for arguments, words in expected.items():
                out = await tools.run("nfdc", *arguments)
                assert words.lower() in out.lower(), (arguments, out)

    async def test_nfdc_changes_faces_routes_store_and_strategies(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path, "a") as daemon, forwarder(tmp_path, "b") as other:
            tools, address = Tools(daemon, tmp_path / "home"), other.udp_address
            assert address is not None
            uri = f"udp4://{address[0]}:{address[1]}"
            created = await tools.run("nfdc", "face", "create", uri, "persistency", "permanent")
            assert b"face-created" in created and uri.encode() in created
            again = await tools.run("nfdc", "face", "create", uri)
            assert b"face-" in again and uri.encode() in again
            number = next(face.id for face in daemon.core.faces.values() if face.uri == uri)
            assert f"faceid={number}".encode() in (await tools.run("nfdc", "face", "show", str(number))).replace(
                b" ", b""
            )
            added = await tools.run("nfdc", "route", "add", "/far", "nexthop", uri, "cost", "7")
            assert b"route-add-accepted" in added
            assert daemon.core.fib.lookup(ndn.from_uri("/far"))[0].cost == 7
            by_number = await tools.run("nfdc", "route", "add", "/farther", "nexthop", str(number), "expires", "60000")
            assert b"route-add-accepted" in by_number
            shown = await tools.run("nfdc", "route", "show", "/far")
            assert b"cost=7" in shown
            assert b"/farther" in await tools.run("nfdc", "route", "list")
            removed = await tools.run("nfdc", "route", "remove", "/far", "nexthop", uri)
            assert b"route-removed" in removed and not daemon.core.fib.lookup(ndn.from_uri("/far"))
            chosen = await tools.run("nfdc", "strategy", "set", "/m", "/localhost/nfd/strategy/multicast")
            assert b"strategy-set" in chosen
            assert b"multicast" in await tools.run("nfdc", "strategy", "show", "/m")
            assert b"strategy-unset" in await tools.run("nfdc", "strategy", "unset", "/m")
            config = await tools.run("nfdc", "cs", "config", "capacity", "1234", "serve", "off")
            assert b"1234" in config and daemon.core.cs.capacity_packets == 1234 and not daemon.core.cs.serve
            destroyed = await tools.run("nfdc", "face", "destroy", uri)
            assert b"face-destroyed" in destroyed and number not in daemon.core.faces

    async def test_nfdc_erases_more_than_one_command_may(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path) as daemon:
            for number in range(700):
                name = ndn.from_uri("/e") + ndn.segment(number)
                daemon.core.cs.insert(name, encode_data(name, b"x"), 0, 0.0)
            out = await Tools(daemon, tmp_path / "home").run("nfdc", "cs", "erase", "/e")
            assert b"count=700" in out and len(daemon.core.cs) == 0

    async def test_ndnpoke_and_ndnpeek(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path) as daemon:
            tools = Tools(daemon, tmp_path / "home")
            async with tools.serving("ndnpoke", "/poked/x", text=b"hello from ndnpoke"):
                await _routed(daemon, "/poked/x")
                out = await tools.run("ndnpeek", "-p", "/poked/x")
                assert out.rstrip() == b"hello from ndnpoke"
            await tools.run("ndnpeek", "/nobody/x", code=4)  # a Nack came, not a timeout (3)

    async def test_ndnping(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path) as daemon:
            tools = Tools(daemon, tmp_path / "home")
            async with tools.serving("ndnpingserver", "/pinged"):
                await _routed(daemon, "/pinged/ping")
                out = await tools.run("ndnping", "-c", "5", "-i", "10", "/pinged")
            assert b"5 packets transmitted, 5 received" in out

    async def test_ndnserve_and_ndnget(self, tmp_path: Path) -> None:
        async with forwarder(tmp_path) as daemon:
            tools = Tools(daemon, tmp_path / "home")
            serve, get = tool_named("ndnserve", "ndnputchunks"), tool_named("ndnget", "ndncatchunks")
            async with tools.serving(serve, "/chunks", text=OBJECT):
                await _routed(daemon, "/chunks")
                for pipeline in ("cubic", "aimd", "fixed"):
                    assert await tools.run(get, "-q", "-p", pipeline, "/chunks") == OBJECT

    @pytest.mark.parametrize("pipeline", ["cubic", "aimd", "fixed"])
    async def test_ndnget_reads_our_object_byte_for_byte(self, tmp_path: Path, pipeline: str) -> None:
        """Discovery through 32=metadata, then the segments, as stock ndn-tools do."""
        async with forwarder(tmp_path) as daemon, object_server(daemon, tmp_path / "keys"):
            get = tool_named("ndnget", "ndncatchunks")
            out = await Tools(daemon, tmp_path / "home").run(get, "-q", "-p", pipeline, ndn.to_uri(BLOCK))
            assert out == OBJECT


async def test_a_consumer_that_does_not_read_waits_and_loses_nothing(tmp_path: Path) -> None:
    """It asks for 16 MB before it reads anything; the queue stays small, and all of it comes."""
    path = tmp_path / "f.sock"
    daemon = ForwarderDaemon(ForwarderConfig(unix_path=str(path)))
    await daemon.start()
    count = 2000
    for index in range(count):
        daemon.core.cs.insert(ndn.from_uri(f"/a/{index}"), data(f"/a/{index}", content=b"x" * 8000), 0, 0.0)
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 16)
    writer.write(b"".join(interest(f"/a/{index}", index + 1) for index in range(count)))
    face = await _only_face(daemon)
    async with asyncio.timeout(20):
        while face.counters.out_data < 100:  # noqa: ASYNC110  (it polls what has no event)
            await asyncio.sleep(0.01)
        largest, framer, got = 0, Framer(), 0
        while got < count:
            largest = max(largest, face.link.queued_bytes())
            got += len(framer.feed(await reader.read(1 << 16)))
    writer.close()
    await daemon.close()
    assert face.counters.queue_drops == 0
    assert largest < 4 << 20


async def _only_face(daemon: ForwarderDaemon) -> Face:
    async with asyncio.timeout(20):
        while not (found := _unix_faces(daemon)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found[0]


def _unix_faces(daemon: ForwarderDaemon) -> list[Face]:
    return [face for face in daemon.core.faces.values() if face.uri.startswith("fd://")]
