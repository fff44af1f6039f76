"""Conversations without a repo: they stay on the machine of the user who saved them, and go on there; nothing that
another process saved meanwhile is replaced; damaged files are of no use and do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import (
    BadName,
    BadRecord,
    FetchIncomplete,
    NdnInferError,
    NetworkError,
    StorageError,
    UsageError,
)
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.library import kept_chats
from ndn_infer.library.chat import ChatParts
from ndn_infer.library.continuing import Continued, Conversations, record_of
from ndn_infer.library.kept_chats import KeptChats
from ndn_infer.library.saved import SavedChats
from ndn_infer.namespace import Role
from ndn_infer.node.keys import machine_identity
from ndn_infer.node.node import Node as JoinedNode
from ndn_infer.records import Message
from ndn_infer.repo.records import RepoClient, RepoEntry
from ndn_infer.security import domain_store
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.harness import NET, Node, keychain_in


@dataclass
class Machine:
    """One user's, over a network that lives longer than his processes."""

    network: MemoryNetwork
    node: Node
    config: Config
    running: list[JoinedNode] = field(default_factory=list)

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Conversations]:
        joined = await JoinedNode.join(self.config, self.node.keychain, uri="memory://", dial=self.network.dial)
        try:
            async with Client(joined) as client:
                yield Conversations(SavedChats(joined, client), self.config)
        finally:
            await joined.close()


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    network = MemoryNetwork()
    keychain = keychain_in(tmp_path / "keys")
    node = await Node(network, keychain, Config()).open()
    user = Role("home", "nobody", "user").to_name(NET)
    keychain.ensure(user)
    assert user.startswith(machine_identity(node.config))
    yield Machine(network, node, node.config)
    await node.close()
    network.close()


async def say(of: Conversations, name: str, text: str, domain: str = PUBLIC.label) -> tuple[Continued, str]:
    """A turn, and the label under which it was saved."""
    going = await of.go_on(name, ChatParts(of.saved.client, of.config, "m", domain))
    going.chat.messages += [Message("user", text), Message("assistant", text.upper())]
    return going, (await of.keep(going))[1]


async def test_it_goes_on_in_the_next_process(machine: Machine) -> None:
    async with machine.process() as one:
        _, label = await say(one, "trip", "where to?")
    assert label == "trip"
    async with machine.process() as two:
        loaded = await two.saved.load("trip")
        assert [said.content for said in loaded.messages] == ["where to?", "WHERE TO?"]
        other = await machine.node.fetcher.fetch(ndn.split_version(ndn.from_uri(loaded.name))[0], most=MAX_OBJECT_BYTES)
        assert ndn.to_uri(other.name) == loaded.name, "others have it by its name while this process runs"
        going, label = await say(two, "trip", "and when?")
        assert label == "trip" and len(going.chat.messages) == 4
    async with machine.process() as three:
        again = await three.saved.load("trip")
        assert len(again.messages) == 4 and again.record.parent == loaded.name
        with pytest.raises(FetchIncomplete):
            await three.saved.load("nothing")


async def test_what_another_process_saved_meanwhile_is_not_replaced(machine: Machine) -> None:
    async with machine.process() as one:
        first, _ = await say(one, "trip", "where to?")
        async with machine.process() as two:
            await say(two, "trip", "to the lake")
        first.chat.messages.append(Message("user", "to the sea"))
        _, label = await one.keep(first)
        assert label.startswith("trip-")
    async with machine.process() as three:
        assert (await three.saved.load("trip")).messages[2].content == "to the lake"
        assert (await three.saved.load(label)).messages[2].content == "to the sea"


async def test_a_private_one_is_sealed_on_the_disk(machine: Machine) -> None:
    shop = DomainStore(machine.config.keys_dir)
    with shop.locked():
        shop.save(domain_store.create("acme", Role("home", "nobody", "user").to_name(NET)))
    domain = tenant_of(shop.find("acme")).newest.label
    async with machine.process() as one:
        await say(one, "deal", "the merger is off", domain)
    (kept,) = (machine.config.keys_dir.parent / "conversations").glob("*.chat")
    assert b"merger" not in kept.read_bytes() and kept.stat().st_mode & 0o077 == 0
    async with machine.process() as two:
        assert (await two.saved.load("deal", domain=domain)).messages[0].content == "the merger is off"
        with pytest.raises(NetworkError):
            await two.saved.load("deal")


@pytest.mark.parametrize("damage", [b"", b"x", b"ndn-infer conversation 2\n/other\n7\nabc", b"\xff" * 9000])
async def test_a_damaged_file_is_no_conversation(machine: Machine, damage: bytes) -> None:
    async with machine.process() as one:
        await say(one, "trip", "where to?")
    (kept,) = (machine.config.keys_dir.parent / "conversations").glob("*.chat")
    kept.write_bytes(damage)
    async with machine.process() as two:
        with pytest.raises(FetchIncomplete):
            await two.saved.load("trip")
        assert (await say(two, "trip", "anew"))[0].found is None


async def test_it_is_on_the_disk_before_a_repo_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not wait for a repo that is silent has it nevertheless."""
    asked = asyncio.Event()

    async def silent(*_: object, **__: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with machine.process() as one:
        with monkeypatch.context() as patch:
            patch.setattr(RepoClient, "insert", silent)
            saying = asyncio.ensure_future(say(one, "trip", "where to?"))
            await asked.wait()
            saying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saying
    async with machine.process() as two:
        assert (await two.saved.load("trip")).messages[0].content == "where to?"


@pytest.mark.parametrize("error", [BadRecord("no entry"), StorageError("no room")])
async def test_whatever_a_repo_does_it_is_on_the_disk(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, error: NdnInferError
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(RepoClient, "insert", fails)
    async with machine.process() as one:
        going = await one.go_on("trip", ChatParts(one.saved.client, one.config, "m", PUBLIC.label))
        going.chat.messages.append(Message("user", "where to?"))
        saved, _ = await one.keep(going)
        assert not saved.kept and saved.file is not None and saved.why == str(error)
        with pytest.raises(BadName):
            await one.saved.save("other", record_of(going.chat), domain=PUBLIC.label, repo="/no/repo")


async def test_only_what_a_repo_has_goes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process kept a newer state while the repo was asked: that one stays."""
    async with machine.process() as one:
        files = one.saved._files

        async def keeps(_: object, name: ndn.Name, **__: object) -> RepoEntry:
            if newer:
                files.keep(ndn.prefix(name, -1), ndn.last_version(name) + 1, b"newer")
            return RepoEntry(ndn.to_uri(name), 1)

        monkeypatch.setattr(RepoClient, "insert", keeps)
        for newer in (False, True):
            assert (await say(one, "trip", "where to?"))[1] == "trip"
            found = await asyncio.to_thread(files.find, one.saved.base("trip", PUBLIC.label))
            assert (found is not None and found[1] == b"newer") is newer


async def test_what_cannot_be_read_here_is_left_and_the_answer_kept(machine: Machine) -> None:
    async with machine.process() as one:
        going, _ = await say(one, "trip", "where to?")
        (kept,) = (machine.config.keys_dir.parent / "conversations").glob("*.chat")
        kept.chmod(0o644)
        going.chat.messages += [Message("user", "and when?"), Message("assistant", "soon")]
        saved, label = await one.keep(going)
        assert label.startswith("trip-") and saved.file is not None and saved.file != kept
        kept.chmod(0o600)
        assert len((await one.saved.load("trip")).messages) == 2
        assert len((await one.saved.load(label)).messages) == 4


def test_files_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_chats, "MOST_FILES", 2)
    kept, names = KeptChats(tmp_path / "c", 100), [ndn.from_uri(f"/n/{number}") for number in range(3)]
    for name in names[:2]:
        kept.keep(name, 7, b"abc")
    kept.keep(names[0], 8, b"newer")
    assert kept.find(names[0]) == (8, b"newer") and kept.find(names[2]) is None
    with pytest.raises(UsageError, match="holds 2"):
        kept.keep(names[2], 7, b"abc")
    kept.drop(names[1], 7)
    kept.keep(names[2], 7, b"abc")
    kept.keep(names[2], 9, b"x" * 9000)
    assert kept.find(names[2]) is None, "larger than a conversation may be"
