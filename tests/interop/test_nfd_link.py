"""Our forwarder and a real NFD as neighbours: pings, files and prompts across the link, both ways, over UDP and TCP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import ndn
from ndn_infer.errors import RegistrationRefused
from ndn_infer.models.store import ModelFolder
from ndn_infer.security.crypto import ECDSA, PrivateKey, Signer
from ndn_infer.testbed.process_network import NET, SITE
from ndn_infer.testbed.provision import Grounds, provision
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar
from tests.daemons import own_address, run_command, stop, wait_ready
from tests.interop.peers import OLD_LIST_S, Peer, needs, nfd, our_forwarder, until

pytestmark = needs("nfd", "nfdc", "ndnpeek", "ndnpoke", "ndnping", "ndnpingserver", "ndnget", "ndnserve")

MTU = 1400
BLOB = random.Random(11).randbytes(1_000_000)
LINKS = [(kind, maker) for kind in ("udp", "tcp") for maker in ("ndn-infer", "NFD")]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with our_forwarder(tmp_path_factory.mktemp("ours"), udp_mtu_bytes=str(MTU)) as peer:
        yield peer


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with nfd(tmp_path_factory.mktemp("nfd"), udp_mtu_bytes=MTU) as peer:
        yield peer


@dataclass(frozen=True, slots=True)
class Link:
    """`faces`: forwarder -> id of its face to the other one."""

    peers: tuple[Peer, Peer]
    faces: dict[str, int]

    def other(self, peer: Peer) -> Peer:
        return self.peers[1] if peer is self.peers[0] else self.peers[0]

    @contextlib.contextmanager
    def routed(self, peer: Peer, prefix: str) -> Iterator[None]:
        """At `peer`, `prefix` lies behind the link."""
        hop = str(self.faces[peer.title])
        peer.nfdc("route", "add", prefix, "nexthop", hop)
        until(lambda: peer.routed(prefix), f"{peer.title} routes {prefix}")
        try:
            yield
        finally:
            peer.nfdc("route", "remove", prefix, "nexthop", hop)

    def remote(self, peer: Peer) -> str:
        """Its name for the other one."""
        shown = re.search(r"remote=(\S+)", peer.nfdc("face", "show", str(self.faces[peer.title])))
        assert shown is not None
        return shown[1]

    def counters(self, peer: Peer) -> dict[str, int]:
        """Of its face to the other one; waits out the second for which NFD gives an old list again."""
        if peer.title == "NFD":
            time.sleep(OLD_LIST_S)
        return peer.counters(self.remote(peer))


@contextlib.contextmanager
def linked(maker: Peer, other: Peer, kind: str, *options: str, through: str = "") -> Iterator[Link]:
    """`maker` makes a face with nfdc; `other` finds one made for it when the first packet comes. `through`: the URI to
    dial in place of the other's own."""
    uri = through or other.uri(kind)
    scheme = uri.partition(":")[0]
    before = _numbers(other)
    kept = {peer.title: _numbers(peer, scheme) for peer in (maker, other)}
    created = maker.nfdc("face", "create", uri, *options)
    assert created.startswith("face-created"), created
    mine = re.search(r"id=(\d+) local=(\S+)", created)
    assert mine is not None
    maker.nfdc("route", "add", "/first/packet", "nexthop", mine[1])
    until(lambda: maker.routed("/first/packet"), "the first route")
    maker.run("ndnpeek", "-w", "300", "/first/packet/now")
    maker.nfdc("route", "remove", "/first/packet", "nexthop", mine[1])
    until(lambda: bool(_numbers(other, scheme) - before), f"{other.title} has a face")
    (theirs,) = _numbers(other, scheme) - before
    try:
        yield Link((maker, other), {maker.title: int(mine[1]), other.title: theirs})
    finally:
        until(lambda: _cleared((maker, other), scheme, kept) and _cleared((maker, other), scheme, kept), "no face left")


def _cleared(peers: tuple[Peer, Peer], scheme: str, kept: dict[str, set[int]]) -> bool:
    """Destroys faces that are new, and says whether there was none: the last packet of one side makes a face again at
    the other one, which has lost its own already."""
    time.sleep(OLD_LIST_S)
    new = [(peer, number) for peer in peers for number in _numbers(peer, scheme) - kept[peer.title]]
    for peer, number in new:
        peer.run("nfdc", "face", "destroy", str(number))
    return not new


def _numbers(peer: Peer, scheme: str = "") -> set[int]:
    faces = peer.run("nfdc", "face", "list", *(("scheme", scheme) if scheme else ()))
    return {int(number) for number in re.findall(r"^faceid=(\d+) ", faces.text, re.MULTILINE)}


@pytest.fixture(params=LINKS, ids=[f"{kind}-made-by-{maker}" for kind, maker in LINKS])
def link(request: pytest.FixtureRequest, ours: Peer, theirs: Peer) -> Iterator[Link]:
    kind, maker = request.param
    sides = (ours, theirs) if maker == ours.title else (theirs, ours)
    with linked(*sides, kind) as made:
        yield made


def _unique(prefix: str, request: pytest.FixtureRequest) -> str:
    """A name that no Content Store knows from another test."""
    return f"{prefix}/{abs(hash(request.node.name)) % 10**9}"


def _both_ways(link: Link) -> list[tuple[Peer, Peer]]:
    """(producer's forwarder, consumer's forwarder)"""
    return [link.peers, (link.peers[1], link.peers[0])]


@pytest.mark.parametrize("maker", ["ndn-infer", "NFD"])
def test_the_first_large_packet_crosses_a_new_face_either_way(
    ours: Peer, theirs: Peer, maker: str, request: pytest.FixtureRequest
) -> None:
    """6,000 bytes in five fragments, the first that the face carries: NFD's sequence numbers begin at 2^64-2."""
    sides = (ours, theirs) if maker == ours.title else (theirs, ours)
    for turn in (0, 1):
        with linked(*sides, "udp") as link:  # a new face for each way
            server, client = _both_ways(link)[turn]
            name = _unique(f"/poke/{turn}", request)
            with server.serving("ndnpoke", name, prefix=name, text=BLOB[:6000]), link.routed(client, name):
                peeked = client.run("ndnpeek", "-p", "-w", "3000", name)
                assert (peeked.code, peeked.out) == (0, BLOB[:6000]), peeked.error


# ---------------------------------------------------------------- pings and files


def test_ndnping_across(link: Link, request: pytest.FixtureRequest) -> None:
    for producer, consumer in _both_ways(link):
        prefix = _unique(f"/ping/{producer.title}", request)
        with producer.serving("ndnpingserver", "-s", "500", prefix, prefix=f"{prefix}/ping"):
            with link.routed(consumer, prefix):
                out = consumer.good("ndnping", "-c", "50", "-i", "5", prefix).text
        assert "50 packets transmitted, 50 received, 0 nacked, 0% lost" in out


def test_files_across_byte_for_byte(link: Link, request: pytest.FixtureRequest) -> None:
    """1 MB in segments of 8,000 bytes: over UDP each travels in six fragments (MTU 1400)."""
    for producer, consumer in _both_ways(link):
        prefix = _unique(f"/file/{producer.title}", request)
        with producer.serving("ndnserve", "-q", prefix, prefix=prefix, text=BLOB):
            with link.routed(consumer, prefix):
                fetched = consumer.fetch(prefix)
                assert fetched.content == BLOB, fetched.report


def test_nacks_come_back_across(link: Link, request: pytest.FixtureRequest) -> None:
    """The neighbour has no route: its Nack reaches the application at once, not after a timeout."""
    for _, consumer in _both_ways(link):
        prefix = _unique("/unknown", request)
        with link.routed(consumer, prefix):
            done = consumer.run("ndnpeek", "-p", f"{prefix}/x")
        assert (done.code, done.text) == (4, "NoRoute\n")


def test_udp_packets_are_no_larger_than_the_mtu(ours: Peer, theirs: Peer, request: pytest.FixtureRequest) -> None:
    """Seen by whoever stands between them."""
    with Between(ours.udp_port) as middle, linked(theirs, ours, "udp", through=middle.uri) as made:
        for producer, consumer in _both_ways(made):
            prefix = _unique(f"/mtu/{producer.title}", request)
            with producer.serving("ndnserve", "-q", prefix, prefix=prefix, text=BLOB):
                with made.routed(consumer, prefix):
                    fetched = consumer.fetch(prefix)
                    assert fetched.content == BLOB, fetched.report
        assert MTU - 20 < middle.largest <= MTU


# ---------------------------------------------------------------- reliability


class Between:
    """A relay of datagrams between NFD and our forwarder, in a thread; drops some of them at random."""

    def __init__(self, port: int, *, loss: float = 0.0) -> None:
        self._loss = loss
        self._random = random.Random(5)
        self._outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outer.bind(("127.0.0.1", 0))
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.connect(("127.0.0.1", port))
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self.largest = 0
        self.dropped = 0
        for sock in (self._outer, self._inner):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    @property
    def uri(self) -> str:
        return f"udp4://127.0.0.1:{self._outer.getsockname()[1]}"

    def __enter__(self) -> Between:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for sock in (self._outer, self._inner, self._stop, self._stopped):
            sock.close()

    def _run(self) -> None:
        caller: Any = None
        while True:
            ready, _, _ = select.select([self._outer, self._inner, self._stopped], [], [])
            if self._stopped in ready:
                return
            for sock in ready:
                with contextlib.suppress(ConnectionRefusedError):
                    datagram, source = sock.recvfrom(65536)
                    caller = source if sock is self._outer else caller
                    self._pass(sock, datagram, caller)

    def _pass(self, source: socket.socket, datagram: bytes, caller: Any) -> None:
        self.largest = max(self.largest, len(datagram))
        if self._random.random() < self._loss:
            self.dropped += 1
        elif source is self._outer:
            self._inner.send(datagram)
        else:
            self._outer.sendto(datagram, caller)


def _reliable_at_ours(link: Link, ours: Peer) -> None:
    back = link.remote(ours)
    assert "reliability=on" in ours.nfdc("face", "create", back, "reliability", "on")
    assert "lp-reliability" in ours.nfdc("face", "show", str(link.faces[ours.title]))


def test_reliability_without_loss_repeats_nothing(ours: Peer, theirs: Peer, request: pytest.FixtureRequest) -> None:
    """Each side sends again, after a second, what was not acknowledged: here each packet arrives once."""
    with linked(theirs, ours, "udp", "reliability", "on") as made:
        assert "lp-reliability" in theirs.nfdc("face", "show", str(made.faces["NFD"]))
        _reliable_at_ours(made, ours)
        for producer, consumer in _both_ways(made):
            prefix = _unique(f"/reliable/{producer.title}", request)
            with producer.serving("ndnpingserver", prefix, prefix=f"{prefix}/ping"), made.routed(consumer, prefix):
                before = made.counters(producer)["inInterests"], made.counters(consumer)["inData"]
                assert (
                    "100 received, 0 nacked, 0% lost" in consumer.good("ndnping", "-c", "100", "-i", "25", prefix).text
                )
                after = made.counters(producer)["inInterests"], made.counters(consumer)["inData"]
                assert (after[0] - before[0], after[1] - before[1]) == (100, 100)


def test_reliability_at_nfd_alone_disturbs_nothing(ours: Peer, theirs: Peer, request: pytest.FixtureRequest) -> None:
    """Both sides must be told (nfdc-face(1)); until then NFD's packets are taken, and its repetitions do no harm."""
    with linked(theirs, ours, "udp", "reliability", "on") as made:
        for producer, consumer in _both_ways(made):
            prefix = _unique(f"/one-sided/{producer.title}", request)
            with producer.serving("ndnpingserver", prefix, prefix=f"{prefix}/ping"), made.routed(consumer, prefix):
                assert (
                    "20 received, 0 nacked, 0% lost" in consumer.good("ndnping", "-c", "20", "-i", "100", prefix).text
                )


def test_reliability_makes_up_for_loss(ours: Peer, theirs: Peer, request: pytest.FixtureRequest) -> None:
    """One datagram of twenty is lost, and no ping: ndnping asks once only. A file of fragmented segments too."""
    with Between(ours.udp_port, loss=0.05) as middle:
        with linked(theirs, ours, "udp", "reliability", "on", through=middle.uri) as made:
            _reliable_at_ours(made, ours)
            for producer, consumer in _both_ways(made):
                prefix = _unique(f"/lossy/{producer.title}", request)
                with producer.serving("ndnpingserver", prefix, prefix=f"{prefix}/ping"), made.routed(consumer, prefix):
                    assert "100 received" in consumer.good("ndnping", "-c", "100", "-i", "5", prefix).text
                prefix = _unique(f"/lossy/file/{producer.title}", request)
                with producer.serving("ndnserve", "-q", prefix, prefix=prefix, text=BLOB):
                    with made.routed(consumer, prefix):
                        fetched = consumer.fetch(prefix)
                        assert fetched.content == BLOB, fetched.report
        assert middle.dropped > 40


# ---------------------------------------------------------------- prompts


async def test_applications_of_ours_register_at_nfd_at_the_same_time(theirs: Peer) -> None:
    """NFD wants the times of commands signed by one key to rise, and a SHA-256 digest is the same key for all."""

    async def application(number: int) -> None:
        endpoint = Endpoint(lambda: connect(theirs.uri("unix"), 3.0))
        await endpoint.open()
        registrar = Registrar(endpoint)
        try:
            for prefix in range(20):
                await registrar.register(ndn.from_uri(f"/at/once/{number}/{prefix}"))
        finally:
            await registrar.close()
            await endpoint.close()

    await asyncio.gather(*(application(number) for number in range(3)))


@pytest.mark.skipif(not own_address(), reason="this machine has no address but loopback")
@pytest.mark.parametrize("open_to_others", [True, False])
async def test_an_application_of_another_host_registers_at_nfd_or_is_told_why_not(
    tmp_path: Path, open_to_others: bool
) -> None:
    prefix = ndn.from_uri("/elsewhere/p")
    key = PrivateKey.generate(ECDSA)
    signer = Signer.of(key, ndn.from_uri("/elsewhere"), ndn.from_uri("/elsewhere/KEY/1/self/v=1"))
    with nfd(tmp_path / "nfd", localhop=open_to_others) as peer:
        endpoint = Endpoint(lambda: connect(f"tcp4://{own_address()}:{peer.tcp_port}", 3.0))
        await endpoint.open()
        registrar = Registrar(endpoint, signer)
        await registrar.start()
        if open_to_others:
            until(lambda: peer.routed("/localhop/nfd/rib"), "NFD opens its prefix for commands")
            await registrar.register(prefix)
            until(lambda: peer.routed("/elsewhere/p"), "NFD has the route")
        else:
            with pytest.raises(RegistrationRefused, match="another host rejects our commands"):
                await registrar.register(prefix)
        await registrar.close()
        await endpoint.close()


CORE, EDGE = "core", "edge"
LONG = "The lighthouse keeper wrote the weather into his book every morning. " * 80


@pytest.fixture(scope="module")
def grounds(smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    """Keys and catalogue for two machines of one network, made as an operator makes them (testbed/provision.py)."""
    made = Grounds(tmp_path_factory.mktemp("grounds"), model_cache)
    provision(made, {CORE: ["tokenize", "prefill", "decode"], EDGE: ["user"]})
    yield made


@contextlib.contextmanager
def producers(grounds: Grounds, peer: Peer) -> Iterator[None]:
    """All that a prompt needs, joined to `peer`: decode and prefill in processes of their own, for a forwarder sends
    nothing back where it came from."""
    with contextlib.ExitStack() as stack:
        for functions in ("tokenize,decode", "prefill"):
            process, log = _produce(grounds, peer, functions)
            stack.callback(stop, process)
            wait_ready(process, [], log)
        yield


def _produce(grounds: Grounds, peer: Peer, functions: str) -> tuple[subprocess.Popen[str], Path]:
    log = grounds.home(CORE) / f"{peer.title}-{functions}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "produce", "--functions", functions],
            env={**grounds.environment(CORE), "NDN_CLIENT_TRANSPORT": peer.uri("unix")}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
    return process, log


def _ask(grounds: Grounds, peer: Peer, prompt: str, *options: str) -> dict[str, Any]:
    environment = {**grounds.environment(EDGE), "NDN_CLIENT_TRANSPORT": peer.uri("unix")}
    done = run_command("ask", "--json", "--no-embedded", *options, "--", prompt, environment=environment)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.model
@pytest.mark.parametrize(
    ("at", "kind"), [("NFD", "tcp"), ("ndn-infer", "udp")], ids=["producers-at-NFD-tcp", "producers-at-ours-udp"]
)
def test_a_prompt_is_answered_across(ours: Peer, theirs: Peer, grounds: Grounds, at: str, kind: str) -> None:
    """The consumer's forwarder routes the network's name to the producers; theirs routes the consumer's identity back:
    what does not fit an Interest is pulled from there. The second time no packet crosses for what was kept."""
    there, here = (theirs, ours) if at == "NFD" else (ours, theirs)
    with producers(grounds, there), linked(here, there, kind) as made:
        with made.routed(here, NET), made.routed(there, f"{NET}/{SITE}/{EDGE}"):
            for peer in (here, there):
                peer.nfdc("cs", "erase", NET)  # what another test left
            question = "What is the capital of France?"
            answer = _ask(grounds, here, question)
            assert "Paris" in answer["text"] and answer["finish"] == "stop"
            before = made.counters(here)["inData"]
            again = _ask(grounds, here, question)
            assert again["token_ids"] == answer["token_ids"]
            assert made.counters(here)["inData"] - before < 10  # a look beyond the end of the stream
            before = made.counters(here)["inInterests"]
            long = _ask(grounds, here, f"{LONG} What did the keeper write?", "--max-tokens", "4")
            assert len(long["prompt_token_ids"]) > 900 and long["kv_blocks"]["recomputed"] == 0
            assert made.counters(here)["inInterests"] > before  # the text itself was pulled
