"""Names that say what their content is, and records that were replaced: neither signature nor cache changes that."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ndn_infer import catalog, ndn, records
from ndn_infer.client import Conversation
from ndn_infer.config import Config, FetchConfig
from ndn_infer.errors import BadRecord, DigestMismatch, KeyRevoked, StaleVersion
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.namespace import (
    CatalogRecord,
    Evidence,
    Input,
    Kind,
    Passage,
    RequestObject,
    TokenBlock,
    operator_identity,
    passages_prefix,
)
from ndn_infer.records import CorpusRecord, Hit, Hits, LookupRequest, PassageRecord, Record, TokenBlockRecord
from ndn_infer.security.revocation import Denied
from ndn_infer.security.version_memory import VersionMemory
from ndn_infer.transport.objects import discovery
from ndn_infer.transport.trust.revocation_feed import RevocationFeed
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, build_object
from tests.harness import NET, Node, keychain_in, role

CORPUS = "cd" * 32
CONFIG = replace(Config(), fetch=replace(FetchConfig(), deadline_s=3.0, lifetime_ms=500))
TEXTS = [records.encode(PassageRecord("notes.md", "Notes", f"passage {number}", number)) for number in range(3)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "METADATA_PAUSES_S", (0.0,) * 3)


@dataclass
class Net:
    network: MemoryNetwork
    honest: Node
    rival: Node
    consumer: Node


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    """The rival has a key of the same role at another site and the route that is asked first."""
    keychain = keychain_in(tmp_path / "keys", "rag", "tokenize", "decode", "user")
    keychain.ensure(role("rag", site="other"), role("tokenize", site="other"), role("user", site="other"))
    network = MemoryNetwork()
    nodes = [await Node(network, keychain, CONFIG).open() for _ in range(3)]
    for node in nodes:
        node.validator.add_certificates(*keychain.certificates())
    yield Net(network, *nodes)
    for node in reversed(nodes):
        await node.close()
    network.close()


class Lookup(NamedFunction[LookupRequest]):
    """Names what it was told to."""

    function = "lookup"
    role = "rag"
    request_type = LookupRequest
    subject = ("corpus", CORPUS)

    def __init__(self, *hits: ndn.Name) -> None:
        self._hits = Hits(tuple(Hit(ndn.to_uri(name), 1.0) for name in hits))

    async def run(self, request: LookupRequest, job: Job) -> Record:
        return self._hits


def passage_name(content: bytes) -> ndn.Name:
    return Passage(CORPUS, hashlib.sha256(content).hexdigest()).to_name(NET)


async def publish_at_both(net: Net, base: ndn.Name, honest: bytes, rival: bytes, label: str = "rag") -> None:
    """The same name with two contents, each signed by a key that the schema lets sign it."""
    prefix = ndn.prefix(base, -1)
    for node, site, content in ((net.rival, "other", rival), (net.honest, "home", honest)):
        signer = node.keychain.signer_for(role(label, site=site))
        node.server.publish(base, content, signer)
        node.server.serve(prefix, signer)
        node.server.serve(signer.identity, signer)
        if node is net.rival:
            await node.registrar.register(prefix)
        await node.registrar.register(signer.identity)


async def test_a_passage_whose_text_another_site_replaced_is_refused_and_asked_for_where_the_answer_came_from(
    net: Net,
) -> None:
    for text in TEXTS:
        await publish_at_both(net, passage_name(text), text, b"poison" + text)
    await net.honest.produce(Lookup(*map(passage_name, TEXTS)))
    client = net.consumer.conversation()
    cited = await client.lookup(CorpusRecord("notes", CORPUS, 3, "ab" * 32), "what?", 3)
    assert [records.encode(item.passage) for item in cited] == TEXTS
    assert {item.signed_by.identity for item in cited} == {role("rag")}
    assert client.fetcher.bad_packets >= 3


async def test_a_hit_that_is_no_passage_of_the_corpus_is_refused(net: Net) -> None:
    await net.honest.produce(Lookup(role("decode") + ndn.generic("status")))
    client = net.consumer.conversation()
    with pytest.raises(BadRecord, match="not a passage of corpus"):
        await client.lookup(CorpusRecord("notes", CORPUS, 3, "ab" * 32), "what?", 3)


TOKENS = records.encode(TokenBlockRecord("00" * 32, (1, 2, 3)))
LARGE = bytes(range(256)) * 200


@pytest.mark.parametrize(
    ("base", "content", "label"),
    [
        (Passage(CORPUS, "12" * 32), TEXTS[0], "rag"),
        (TokenBlock(CORPUS, "public", "12" * 32), TOKENS, "tokenize"),
        (TokenBlock(CORPUS, "public", "12" * 32), b"no record", "tokenize"),
        (Input("other", "n1", "user", "0123456789abcdef", "12" * 32), LARGE, "user"),
        (RequestObject("model", CORPUS, "tokenize", "12" * 32), LARGE, "tokenize"),
        (Evidence("other", "n1", "user", "public", "context", "12" * 32), LARGE, "user"),
    ],
    ids=["passage", "token block", "no token block", "input of many segments", "request", "evidence"],
)
async def test_whatever_a_name_certifies_is_compared_however_it_is_read(
    net: Net, base: Kind, content: bytes, label: str
) -> None:
    name = base.to_name(NET)
    await publish_at_both(net, name, content, content, label)
    fetcher = net.consumer.fetcher
    with pytest.raises(DigestMismatch, match="not what its name says"):
        await fetcher.fetch(name, most=MAX_OBJECT_BYTES)
    found = await fetcher.discover(name)
    for reading in (
        fetcher.collect(found, most=MAX_OBJECT_BYTES),
        fetcher.read_into(found, bytearray(len(content))),
        fetcher.read(found, 0, 1),
        fetcher.packets(found, most=MAX_OBJECT_BYTES),
        anext(fetcher.stream(found)),
    ):
        with pytest.raises(DigestMismatch):
            await reading


def test_prefixes_of_passages_are_those_of_their_names() -> None:
    assert ndn.prefix(passage_name(TEXTS[0]), -1) == passages_prefix(NET, CORPUS)


# ---------------------------------------------------------------- records that were replaced


def alias(node: Node, version: int, digest: str) -> None:
    """Serve this version of an alias record, signed by the operator."""
    base = CatalogRecord("corpus", "notes").to_name(NET)
    signer = node.keychain.signer_for(operator_identity(NET))
    content = records.encode(CorpusRecord("notes", digest, 3, "ab" * 32))
    node.server.put(build_object(base, version, content, signer.sign_data, freshness_ms=1), pinned=True)
    node.server.serve(base, signer)


async def test_an_alias_record_that_was_replaced_is_not_believed_again_after_a_restart_either(
    net: Net, tmp_path: Path
) -> None:
    await net.honest.registrar.register(CatalogRecord("corpus", "notes").to_name(NET))
    memory = tmp_path / "versions"

    def client() -> Conversation:
        net.consumer.validator.seen = VersionMemory(memory)
        return net.consumer.conversation()

    alias(net.honest, 2_000_000, "22" * 32)
    assert (await client().resolve_corpus("notes")).digest == "22" * 32
    alias(net.honest, 1_000_000, "11" * 32)  # as somebody who kept the old packets plays them back
    for _ in range(2):
        with pytest.raises(StaleVersion, match="older than version 2000000"):
            await client().resolve_corpus("notes")
    alias(net.honest, 3_000_000, "33" * 32)
    assert (await client().resolve_corpus("notes")).digest == "33" * 32


# ---------------------------------------------------------------- keys that were revoked


async def test_a_deny_list_reaches_a_reader_by_name_and_an_older_one_changes_nothing(net: Net, tmp_path: Path) -> None:
    keychain, text = net.honest.keychain, TEXTS[0]
    await publish_at_both(net, passage_name(text), text, text)
    fetcher, validator = net.consumer.fetcher, net.consumer.validator
    assert (await fetcher.fetch(passage_name(text), most=MAX_OBJECT_BYTES)).signed_by.identity == role(
        "rag", site="other"
    )
    base = CatalogRecord("keys", "revoked").to_name(NET)
    net.honest.server.serve(base, keychain.signer_for(operator_identity(NET)))
    await net.honest.registrar.register(base)
    feed = RevocationFeed(fetcher, validator, tmp_path / "revoked")
    assert not await feed.refresh(), "nobody has revoked anything yet"

    catalog.revoke(tmp_path, keychain, (), valid_s=1000.0)  # signed by the anchor, whose key is here
    older = catalog.revocations(tmp_path)
    stolen = Denied(ndn.to_uri(NET + ndn.from_uri("/other")), 1 << 60, "stolen")
    catalog.revoke(tmp_path, keychain, (stolen,), valid_s=1000.0)
    newer = catalog.revocations(tmp_path)
    assert older is not None and newer is not None
    net.honest.server.put(newer[0], pinned=True)
    await asyncio.sleep(0.05)  # until no cache repeats that there is none
    assert await feed.refresh()
    with pytest.raises(KeyRevoked, match="stolen"):
        await fetcher.fetch(passage_name(text), most=MAX_OBJECT_BYTES)
    assert (
        await fetcher.fetch(passage_name(text), most=MAX_OBJECT_BYTES, elsewhere=(role("rag"),))
    ).signed_by.identity == role("rag")

    net.honest.server.put(older[0], pinned=True)  # as somebody who kept it plays it back
    net.consumer.validator.seen = VersionMemory()
    await feed.refresh()
    with pytest.raises(KeyRevoked):
        await fetcher.fetch(passage_name(text), most=MAX_OBJECT_BYTES)
