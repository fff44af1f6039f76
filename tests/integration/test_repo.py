"""A repo keeps objects of others: over the real forwarder core, with keys of three machines; and as a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.config import Config, FetchConfig
from ndn_infer.errors import CallError, Timeout, TrustError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import Machine, Result, Role, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.node import node as library
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.repo.certificate_shelf import CertificateShelf
from ndn_infer.repo.parts import RepoParts
from ndn_infer.repo.pin_ledger import PinLedger
from ndn_infer.repo.records import RepoClient
from ndn_infer.repo.repo import Repo
from ndn_infer.security.certificate import version_of
from ndn_infer.security.crypto import ECDSA, PrivateKey, Signer
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.certificates import certificate_fetcher
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, ObjectPackets
from tests.daemons import environment_in, run_command, stop, wait_ready
from tests.harness import NET, Node

CONFIG = replace(Config(), fetch=replace(FetchConfig(), deadline_s=2.0, lifetime_ms=500))
REPO = Role("home", "n2", "repo").to_name(NET)
SIZES = (0, 100, 4097, 100_000, 1_700_000)  # inline, one segment, several, two levels of manifest


def base(number: int) -> Name:
    return Result("corpus", "cd" * 32, "lookup", f"{number:064x}").to_name(NET)


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


def identity(node: str, role: str = "", site: str = "home") -> Name:
    return Role(site, node, role).to_name(NET) if role else Machine(site, node).to_name(NET)


class Machines:
    """Keys of one network, handed out as an operator does: each machine has only its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._operator = Keychain.create(directory / "operator", NET)

    def give(self, machine: str, *identities: Name) -> Keychain:
        self._operator.ensure(*identities)
        return Keychain.import_bundle(self._directory / machine, self._operator.export(identities))


@dataclass
class World:
    network: MemoryNetwork
    machines: Machines
    directory: Path
    producer: Node
    reader: Node
    repo: Repo
    repo_node: Node
    store: TieredStore

    def client(self, *who: Name, keychain: Keychain | None = None) -> RepoClient:
        """Commands from the reader's face; its certificates are served there too."""
        keychain = keychain or self.machines.give("-".join(map(ndn.to_uri, who)).replace("/", "_"), *who)
        self.reader.server.answer_certificates(who[0] + ndn.generic("KEY"), keychain.certificates)
        signer = keychain.signer_for(who[0])
        return RepoClient(self.reader.endpoint, self.reader.validator, NET, REPO, signer)

    def publish(self, number: int) -> ObjectPackets:
        signer = self.producer.keychain.signer_for(identity("n1", "rag"))
        return self.producer.server.publish(base(number), content(number), signer)


async def start_repo(
    network: MemoryNetwork, keychain: Keychain, directory: Path, *, prefixes: tuple[Name, ...] = (), mib: int = 64,
    commands_as: Name = b"",
) -> tuple[Repo, Node, TieredStore]:  # fmt: skip
    node = await Node(network, keychain, CONFIG, commands_as=commands_as).open()
    store = TieredStore(1 << 20, DiskStore(directory / "objects", mib << 20))
    shelf = CertificateShelf(directory / "certificates")
    validator = Validator(TrustSchema.load(NET), keychain.anchor, shelf.recording(certificate_fetcher(node.endpoint)))
    validator.add_certificates(*keychain.certificates(), *shelf.certificates)
    server, signer = Server(node.endpoint, store), keychain.signer_for(REPO)
    server.answer_certificates(REPO + ndn.generic("KEY"), keychain.certificates)
    node.fetcher = Fetcher(node.endpoint, validator, CONFIG.fetch)
    repo = Repo(
        RepoParts(
            node.endpoint, server, store, node.fetcher, validator, node.registrar, shelf, signer,
            PinLedger(directory / "pins", store.disk.capacity_bytes),
        ),
        prefixes=prefixes,
    )  # fmt: skip
    await repo.start()
    return repo, node, store


async def stop_repo(world: World) -> None:
    await world.repo.close()
    await world.repo_node.close()
    world.store.close()


@asynccontextmanager
async def world_in(tmp_path: Path, *, prefixes: tuple[Name, ...] = (), mib: int = 64) -> AsyncIterator[World]:
    """A producer, a repo and a reader: three machines with keys of their own."""
    network, machines = MemoryNetwork(), Machines(tmp_path)
    producer = await Node(network, machines.give("n1", identity("n1", "rag")), CONFIG).open()
    producer.server.answer_certificates(identity("n1", "rag") + ndn.generic("KEY"), producer.keychain.certificates)
    producer.server.serve(NET + ndn.generic("corpus"), producer.keychain.signer_for(identity("n1", "rag")))
    for prefix in (identity("n1", "rag"), NET + ndn.generic("corpus")):
        await producer.registrar.register(prefix)
    reader = await Node(network, machines.give("n3", identity("n3", "user")), CONFIG).open()
    await reader.registrar.register(NET + ndn.generic("home") + ndn.generic("n3"))
    await reader.registrar.register(operator_identity(NET))
    await reader.registrar.register(NET + ndn.generic("lab"))
    repo, repo_node, store = await start_repo(
        network, machines.give("n2", REPO), tmp_path / "repo", prefixes=prefixes, mib=mib
    )
    world = World(network, machines, tmp_path, producer, reader, repo, repo_node, store)
    try:
        yield world
    finally:
        await stop_repo(world)
        await reader.close()
        await producer.close()
        network.close()


async def producer_goes(world: World) -> None:
    await world.producer.close()


async def test_an_object_outlives_its_producer_and_a_restart_of_the_repo(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        published = [world.publish(number) for number in range(len(SIZES))]
        for packets in published:
            entry = await client.insert(packets.base, pin=True)
            assert (entry.name, entry.size, entry.pinned) == (
                ndn.to_uri(packets.manifest.name), packets.manifest.size, True,
            )  # fmt: skip
        await producer_goes(world)
        for round_ in range(2):
            reader = await Node(world.network, world.reader.keychain, CONFIG).open()  # knows no certificate yet
            for number, packets in enumerate(published):
                fetched = await reader.fetcher.fetch(packets.base, most=MAX_OBJECT_BYTES)
                assert fetched.content == content(number) and fetched.name == packets.manifest.name
                assert fetched.signed_by.identity == identity("n1", "rag"), "the producer's signature, not the repo's"
                for name, wire in ((packets.metadata_name, packets.metadata), *packets.packets.items()):
                    assert world.store.find(name, can_be_prefix=False) == wire, "verbatim"
            await reader.close()
            if not round_:
                await stop_repo(world)
                world.repo, world.repo_node, world.store = await start_repo(
                    world.network, world.repo_node.keychain, tmp_path / "repo"
                )
        assert (await client.insert(published[3].base)).name == ndn.to_uri(published[3].manifest.name)


async def test_insert_is_idempotent_and_keeps_the_newest(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        first = world.publish(3)
        entries = await asyncio.gather(*(client.insert(first.base) for _ in range(4)))
        assert {entry.name for entry in entries} == {ndn.to_uri(first.manifest.name)}
        assert not entries[0].pinned
        assert (await client.insert(first.base, pin=True)).pinned
        sent = world.producer.endpoint.stats.data_out
        assert (await client.insert(first.base)).pinned, "once pinned, pinned"
        assert world.producer.endpoint.stats.data_out - sent <= 2, "nothing but discovery"
        second = world.publish(3)
        assert (await client.insert(second.base)).name == ndn.to_uri(second.manifest.name)
        status = await client.status()
        assert status.objects == 1


async def test_a_versioned_name_as_insert_printed_it_lists_and_deletes(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        owner = world.client(operator_identity(NET))
        first = world.publish(3)
        printed = ndn.from_uri((await client.insert(first.base)).name)
        await client.insert(world.publish(1).base)
        assert [ndn.from_uri(entry.name) async for entry in client.list(printed)] == [printed]
        older = ndn.prefix(printed, -1) + ndn.version(7)
        assert [entry async for entry in client.list(older)] == []
        with pytest.raises(CallError, match="is not kept here, but .*v="):
            await owner.delete(older)
        await owner.delete(printed)
        assert (await client.status()).objects == 1


async def test_a_role_pins_its_share_and_others_are_not_shut_out(tmp_path: Path) -> None:
    """A quarter of the store for a role; what is pinned already, and the operator, are not counted."""
    async with world_in(tmp_path, mib=5) as world:
        first = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        second = world.client(identity("n3", "decode"))
        small = world.publish(3).base  # 100 kB
        await first.insert(small, pin=True)
        with pytest.raises(CallError, match="exceed its share") as caught:
            await first.insert(world.publish(4).base, pin=True)  # 1.7 MB
        assert caught.value.code == "quota"
        assert (await second.insert(small, pin=True)).pinned
        assert not (await first.insert(base(4))).pinned, "while there is room it may stay"
        for number in (8, 13, 18, 23, 28, 33, 38, 43, 48, 53, 58, 63):  # 100 kB each
            try:
                await first.insert(world.publish(number).base, pin=True)
            except CallError as error:
                assert error.code == "quota"
        pinned = sum([entry.size async for entry in first.list() if entry.pinned])
        assert pinned <= 0.25 * (5 << 20)
        assert (await second.insert(world.publish(68).base, pin=True)).pinned
        await stop_repo(world)  # the account outlives the process
        world.repo, world.repo_node, world.store = await start_repo(
            world.network, world.repo_node.keychain, tmp_path / "repo", mib=5
        )
        with pytest.raises(CallError, match="exceed its share"):
            await first.insert(world.publish(73).base, pin=True)


async def test_slow_inserts_of_one_role_do_not_block_another(tmp_path: Path) -> None:
    """The producer says nothing to the segments of eight large objects that one role wants."""
    async with world_in(tmp_path) as world:
        slow = world.client(identity("n3", "decode"))
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        stuck = [world.publish(4 + 5 * number) for number in range(1, 9)]
        for packets in stuck:
            for name in packets.packets:
                world.producer.server.store._owner.pop(name)
        work = [asyncio.ensure_future(slow.insert(packets.base, deadline_s=5.0)) for packets in stuck]
        await asyncio.sleep(0.6)
        entry = await client.insert(world.publish(3).base, deadline_s=2.0)
        assert entry.size == 100_000
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def test_commands_by_keys_that_do_not_exist_keep_nobody_waiting(tmp_path: Path) -> None:
    """A hundred of them name certificates that nobody has, each a second or more to find out."""
    async with world_in(tmp_path) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        await client.status()  # from now on this key is known
        stranger = await Node(world.network, world.reader.keychain, CONFIG).open()
        work = []
        for number in range(100):
            key = PrivateKey.generate(ECDSA)
            locator = identity("n3", "user") + ndn.from_uri(f"/KEY/{number}/root/v=1")
            signer = Signer.of(key, identity("n3", "user"), locator)
            rubbish = RepoClient(stranger.endpoint, stranger.validator, NET, REPO, signer)
            work.append(asyncio.ensure_future(rubbish.status()))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(1.0):
            await asyncio.gather(*(client.status() for _ in range(20)))
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await stranger.close()


async def test_a_renewed_certificate_outlives_its_owner_beside_the_expired_one_that_packets_name(
    tmp_path: Path,
) -> None:
    """An object names the old certificate; at the time of its insertion only the new one is valid."""
    async with world_in(tmp_path) as world:
        rag, clock = identity("n1", "rag"), [time.time() - 250]
        issuer = Keychain.open(tmp_path / "operator", clock=lambda: clock[0])
        old = issuer.issue(rag, validity_s=100.0)
        producer = Keychain.import_bundle(tmp_path / "n1", issuer.export([rag]), clock=lambda: clock[0])
        packets = world.producer.server.publish(base(3), content(3), producer.signer_for(rag))
        issuer.certify(rag, old.key_name, old.public_der, validity_s=100_000.0)
        chain = Keychain.import_bundle(tmp_path / "n1", issuer.export([])).certificates()
        chain += issuer.certificates()
        world.producer.server.answer_certificates(
            rag + ndn.generic("KEY"), lambda: sorted(chain, key=version_of, reverse=True)
        )
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        await client.insert(packets.base, pin=True)
        await producer_goes(world)
        reader = await Node(world.network, world.reader.keychain, CONFIG).open()
        assert (await reader.fetcher.fetch(packets.base, most=MAX_OBJECT_BYTES)).content == content(3)
        await reader.close()


async def test_what_cannot_be_kept_says_why(tmp_path: Path) -> None:
    async with world_in(tmp_path, prefixes=(NET + ndn.generic("corpus"),), mib=1) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        with pytest.raises(CallError, match="its producer says so") as caught:
            await client.insert(base(99))
        assert caught.value.code == "no-such-object"
        with pytest.raises(CallError, match="keeps objects below") as caught:
            await client.insert(NET + ndn.generic("catalog"))
        assert caught.value.code == "not-kept"
        large = world.publish(4)
        with pytest.raises(CallError) as caught:
            await client.insert(large.base, pin=True)
        assert caught.value.code == "full"
        with pytest.raises(CallError) as caught:
            await client.insert(world.publish(2).base + ndn.version(7))
        assert caught.value.code in ("no-such-object", "unreachable")
        await producer_goes(world)
        with pytest.raises(CallError) as caught:
            await client.insert(base(98))
        assert caught.value.code == "unreachable"
        assert (await client.status()).objects == 0


async def test_an_object_of_the_wrong_signer_is_not_kept(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        thief = world.machines.give("thief", identity("n1", "tokenize"))
        world.producer.server.answer_certificates(
            identity("n1", "tokenize") + ndn.generic("KEY"), thief.certificates
        )  # fmt: skip
        await world.producer.registrar.register(identity("n1", "tokenize"))
        world.producer.server.publish(base(1), b"not a passage", thief.signer_for(identity("n1", "tokenize")))
        with pytest.raises(CallError) as caught:
            await client.insert(base(1))
        assert caught.value.code == "refused"
        assert len(world.store.disk) == 0


async def test_who_may_command(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        packets = world.publish(1)
        user = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        await user.insert(packets.base, pin=True)
        with pytest.raises(CallError) as caught:
            await user.delete(packets.base)
        assert caught.value.code == "refused"
        stranger = world.client(identity("n3", "user", site="lab"))
        for attempt in (stranger.insert(packets.base), stranger.status()):
            with pytest.raises(CallError) as caught:
                await attempt
            assert caught.value.code == "refused"
        forger = Keychain.create(tmp_path / "forger", NET)
        forger.ensure(operator_identity(NET))
        with pytest.raises((CallError, TrustError, Timeout)):
            await world.client(operator_identity(NET), keychain=forger).delete(packets.base)
        assert packets.base in world.store
        operator = world.client(operator_identity(NET))
        await operator.delete(packets.base)
        with pytest.raises(CallError) as caught:
            await operator.delete(packets.base)
        assert caught.value.code == "no-such-object"
        assert packets.base not in world.store


async def test_the_list_comes_in_pages(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        client = world.client(identity("n3", "user"), keychain=world.reader.keychain)
        numbers = range(0, 200, 5)  # the empty ones
        for number in numbers:
            await client.insert(world.publish(number).base)
        names = [entry.name async for entry in client.list()]
        assert [ndn.prefix(ndn.from_uri(name), -1) for name in names] == [base(number) for number in numbers]
        assert [entry async for entry in client.list(NET + ndn.generic("catalog"))] == []


async def test_what_is_not_kept_is_refused_not_denied(tmp_path: Path) -> None:
    """With the repo's prefix announced beside the producer's, readers still get what only the producer has."""
    async with world_in(tmp_path, prefixes=(NET + ndn.generic("corpus"),)) as world:
        for number in range(3):
            world.publish(number)
        for number in range(3):
            assert (await world.reader.fetcher.fetch(base(number), most=MAX_OBJECT_BYTES)).content == content(number)


# ---------------------------------------------------------------- real processes


@contextlib.contextmanager
def command_running(
    directory: Path, environment: dict[str, str], *arguments: str
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """`ndn-infer ARGUMENTS` from its READY line until the block ends."""
    log = directory / f"{arguments[0]}.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            wait_ready(process, [], log)
            yield process
        finally:
            stop(process)


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command("repo", *arguments, environment=environment, timeout=60)


async def publish_and_leave(config: Config, environment: dict[str, str], number: int) -> ObjectPackets:
    """A producer that publishes one object, has the repo keep it, and is gone."""
    keychain = ensure_keys(config, ROLES)
    session = await library.Node.join(config, keychain)
    registrar = Registrar(session.endpoint)
    signer = keychain.signer_for(role_identity(config, "rag"))
    server = Server(session.endpoint, ObjectStore(1 << 30))
    packets = server.publish(base(number), content(number), signer)
    server.serve(packets.base, signer)
    server.answer_certificates(signer.identity + ndn.generic("KEY"), keychain.certificates)
    for prefix in (packets.base, signer.identity):
        await registrar.register(prefix)
    done = await asyncio.to_thread(command, environment, "insert", ndn.to_uri(packets.base), "--pin")
    assert done.returncode == 0, done.stderr
    await registrar.close()
    await session.close()
    return packets


async def read(config: Config, name: Name) -> bytes:
    session = await library.Node.join(config, ensure_keys(config, ROLES))
    try:
        return (await session.fetcher.fetch(name, most=MAX_OBJECT_BYTES)).content
    finally:
        await session.close()


def test_a_daemon_that_is_killed_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="ndn-infer-t-"))  # short: a Unix socket path has 107 bytes
    environment = environment_in(
        tmp_path, tmp_path, NDN_INFER_PATHS_RUNTIME_DIR=str(runtime), NDN_INFER_FORWARDER_CS_CAPACITY_PACKETS="0",
        NDN_INFER_PATHS_DATA_DIR=str(tmp_path / "data"), NDN_INFER_FETCH_DEADLINE_S="3",
    )  # fmt: skip
    config = configuration.load(environment=environment)
    config = replace(config, network=replace(config.network, transport=f"unix://{config.socket_path}"))
    try:
        with command_running(tmp_path, environment, "forwarder"):
            with command_running(tmp_path, environment, "repo", "serve") as repo:
                packets = asyncio.run(publish_and_leave(config, environment, 3))
                listed = json.loads(command(environment, "list", "--json").stdout)
                assert [entry["name"] for entry in listed] == [ndn.to_uri(packets.manifest.name)]
                refused = command(environment, "insert", ndn.to_uri(base(4)))
                assert refused.returncode == 6 and "is not available" in refused.stderr
                repo.kill()
                repo.wait()
            with command_running(tmp_path, environment, "repo", "serve"):
                assert asyncio.run(read(config, packets.base)) == content(3)
                second = run_command("repo", "serve", environment=environment, timeout=60)
                assert second.returncode == 2 and "in use" in second.stderr, "one process a store"
                status = json.loads(command(environment, "status", "--json").stdout)
                assert (status["objects"], status["pinned_objects"]) == (1, 1)
                assert command(environment, "delete", ndn.to_uri(packets.base), "--as", "user").returncode == 6
                assert command(environment, "delete", ndn.to_uri(packets.base)).returncode == 0
                assert command(environment, "list").stdout.strip() == "nothing is kept"
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
