"""Corpora over a real forwarder core with a hand on the wire: in a tenant domain nothing of them is in clear and nobody
else gets anything; several corpora, at several machines, answer one question."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ndn_infer import ndn, records
from ndn_infer.client import Cited
from ndn_infer.client.citing import checked_citations
from ndn_infer.client.corpora import Corpora
from ndn_infer.config import CallConfig, Config
from ndn_infer.corpus.corpus import Corpus
from ndn_infer.errors import CallError, NdnInferError, UnknownModel, UsageError
from ndn_infer.evidence.citations import objections
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.cite import CheckCitations
from ndn_infer.functions.embedding import Embedding
from ndn_infer.functions.rag import STEP_S, CorpusPlace, corpus_functions, open_corpus, until_step
from ndn_infer.library.chat import ChatReply
from ndn_infer.library.documents import Documents, _FromPassages
from ndn_infer.library.retrieval import WantedPassages, look_up, merged
from ndn_infer.ndn import lp
from ndn_infer.ndn.packet import decode_data, decode_interest
from ndn_infer.records import CorpusRecord, Hits, LookupRequest, PassageRecord, Record, Sampling
from ndn_infer.records.cite import CITE, SUBJECT, Citations, CiteRequest
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.security.domains import PUBLIC, Domain, TenantDomain
from ndn_infer.security.private_corpus import corpus_in
from ndn_infer.tensors import RawTensor, encode_tensor
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.harness import NET, Node, keychain_in

MEMBER = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(range(32)), 2: bytes(range(32, 64))})
OTHER = TenantDomain("ff112233445566778899aabbccddeeff", {1: bytes(range(64, 96))})
EPOCH = MEMBER.newest
EMBEDDER = "cd" * 32
REMOVED = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(range(32))})
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=10.0))
HASTY = replace(Config(), call=replace(CallConfig(), deadline_s=0.5))
"""Of who gets nothing, however long it waits."""
WIDTH = 64
ALIAS, TEXTS = "contracts-of-acme", {
    "merger.md": "# Merger\n\nThe merger with Initech is called off until the spring.",
    "rent.md": "# Rent\n\nThe rent of the harbour office rises by a tenth in July.",
}  # fmt: skip
QUESTION = "What became of the merger with Initech?"


class Words(NamedFunction[EmbedRequest]):
    """The token vectors of a text are its words."""

    function, role, request_type, private = "embed", "embed", EmbedRequest, True
    subject = ("model", EMBEDDER)

    async def run(self, request: EmbedRequest, job: Job) -> Record:
        words = [[zlib.crc32(word.encode()) % WIDTH for word in _words(text)] for text in request.texts]
        vectors = np.concatenate([np.eye(WIDTH, dtype="<f2")[ids] for ids in words])
        tensor = encode_tensor(RawTensor("f16", vectors.shape, vectors.tobytes()))
        ids = tuple(token for of_text in words for token in of_text)
        return TensorRecord(tensor, len(ids), 0, ids, tuple(map(len, words)))


def _words(text: str) -> list[str]:
    return ["", *re.findall(r"\w+", text.lower())]


@dataclass
class Net:
    producer: Node
    second: Node
    asker: Node
    stranger: Node
    folder: Path
    wire: list[bytes] = field(default_factory=list)

    async def serve(self, texts: dict[str, str], domain: Domain, alias: str, at: Node) -> Corpus:
        folder = self.folder / alias
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text)
        embedding = Embedding(at.caller, EMBEDDER, domain.label)
        corpus = await open_corpus(folder, self.folder / "cache", embedding, "rerank")
        await at.produce(*corpus_functions(corpus, EMBEDDER, CorpusPlace(domain, alias)))
        return corpus

    def corpora(self, domain: Domain, node: Node | None = None) -> Corpora:
        node = node or self.asker
        return Corpora(NET, node.caller, node.fetcher, domain.label)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    keychain = keychain_in(tmp_path / "keys", "rag", "embed", "cite", "user")
    network = MemoryNetwork()
    embedder = await Node(network, keychain, CONFIG, asks_as="embed", domains=[MEMBER]).open()
    nodes = [await Node(network, keychain, CONFIG, asks_as="rag", domains=[MEMBER]).open() for _ in range(2)]
    asker = await Node(network, keychain, CONFIG, asks_as="user", domains=[MEMBER]).open()
    stranger = await Node(network, keychain, HASTY, asks_as="user", domains=[OTHER, REMOVED]).open()
    net = Net(*nodes, asker, stranger, tmp_path)
    for node in (embedder, *nodes, asker, stranger):
        node.link.tamper_up = lambda wire: net.wire.append(lp.decode_lp(wire).fragment) or wire
    await embedder.produce(Words())
    yield net
    for node in (embedder, *nodes, asker, stranger):
        await node.close()
    network.close()


def clear_words(texts: Sequence[str]) -> set[bytes]:
    """Longer words of texts, as they would stand on the wire."""
    return {word.encode() for text in texts for word in re.findall(r"\w{5,}", text)}


async def test_a_private_corpus_is_found_read_and_heard_by_members_only(net: Net) -> None:
    corpus = await net.serve(TEXTS, EPOCH, ALIAS, net.producer)
    member = net.corpora(EPOCH)
    record = await member.private(ALIAS)
    by_digest = await member.private(corpus.digest)
    assert replace(by_digest, alias=ALIAS) == record
    assert (record.alias, record.passages, record.ranking) == (ALIAS, 2, "rerank")
    cited = await member.lookup(record, QUESTION, 2)
    assert cited[0].passage.text.startswith("The merger with Initech") and len(cited) == 2
    heard = b"".join(net.wire)
    for word in clear_words([*TEXTS.values(), *TEXTS, QUESTION, ALIAS]):
        assert word not in heard, word
    for secret in (corpus.digest, *(hashlib.sha256(records.encode(item.passage)).hexdigest() for item in cited)):
        assert secret.encode() not in heard and bytes.fromhex(secret) not in heard


async def test_strangers_and_other_epochs_get_nothing(net: Net) -> None:
    await net.serve(TEXTS, EPOCH, ALIAS, net.producer)
    record = await net.corpora(EPOCH).private(ALIAS)
    with pytest.raises(UnknownModel, match="no corpus called"):
        await net.corpora(REMOVED.newest, net.stranger).private(ALIAS)
    with pytest.raises(UnknownModel):
        await net.corpora(OTHER.newest, net.stranger).private(ALIAS)
    for domain in (PUBLIC, OTHER.newest, REMOVED.newest):
        with pytest.raises(NdnInferError):
            await net.corpora(domain, net.stranger).lookup(record, QUESTION, 2)
    cited = await net.corpora(EPOCH).lookup(record, QUESTION, 1)
    fetched = await net.stranger.fetcher.fetch(ndn.from_uri(cited[0].name), most=MAX_OBJECT_BYTES)
    assert not clear_words(TEXTS.values()) & set(re.findall(rb"\w{5,}", fetched.content))


async def test_a_public_corpus_answers_no_private_call(net: Net) -> None:
    corpus = await net.serve(TEXTS, PUBLIC, ALIAS, net.producer)
    record = CorpusRecord(ALIAS, corpus.digest, 2, EMBEDDER, "rerank")
    assert (await net.corpora(PUBLIC).lookup(record, QUESTION, 1))[0].passage.source == "merger.md"
    with pytest.raises(CallError, match="not offered in this domain"):
        await net.corpora(EPOCH).lookup(record, QUESTION, 1)


async def test_corpora_of_two_machines_answer_one_question(net: Net) -> None:
    first = await net.serve(TEXTS, PUBLIC, "first", net.producer)
    more = {"initech.md": "# Initech\n\nInitech makes printers that nobody repairs.", "copy.md": TEXTS["rent.md"]}
    second = await net.serve(more, PUBLIC, "second", net.second)
    known = [CorpusRecord(one, corpus.digest, 2, EMBEDDER, "rerank") for one, corpus in (("a", first), ("b", second))]
    gone = CorpusRecord("gone", "ab" * 32, 2, EMBEDDER, "rerank")
    said: list[str] = []
    asker = net.corpora(PUBLIC)
    wanted = WantedPassages(QUESTION, 4, -1.0)
    found = await look_up(asker, known, wanted, said.append)
    sources = [item.passage.source for item in found.cited]
    assert sources[0] == "merger.md" and "initech.md" in sources and not said
    assert len(found.cited) == 3, "the same text stands once"
    asker = net.corpora(PUBLIC, net.stranger)  # in a hurry
    again = await look_up(asker, [*known, gone], wanted, said.append)
    assert again.cited == found.cited and len(said) == 1 and "corpus gone did not answer" in said[0]
    with pytest.raises(NdnInferError):
        await look_up(asker, [gone], wanted, said.append)


PAIRS = [
    ("What became of the merger with Initech?", "What became of the parade with Marilyn?"),
    ("Does the rent of the office rise in July", "Does the crew of the vessel sing in Oslo"),
]
"""A question whose words the corpus has, and one of the same length whose words it has not."""


async def test_packets_of_a_lookup_do_not_tell_whether_it_hits(net: Net) -> None:
    """As many packets each way, as long, below names of one shape: for what the corpus has and for what it has not."""
    many = TEXTS | {f"{n:03}.md": f"# Part {n:03}\n\nThe file {n:03} of the archive is kept apart." for n in range(40)}
    await net.serve(many, EPOCH, ALIAS, net.producer)
    member = net.corpora(EPOCH)
    record = await member.private(ALIAS)

    async def shape(question: str) -> list[tuple[int, int, int]]:
        del net.wire[:]
        hits = await member.caller.call(
            Ask(("corpus", record.digest), "lookup", LookupRequest(question, 5), EPOCH.label), Hits
        )
        assert len(hits.hits) == 5
        found = []
        for wire in net.wire:
            if wire[:1] in (b"\x05", b"\x06"):
                name = decode_interest(wire).name if wire[:1] == b"\x05" else decode_data(wire).name
                found.append((wire[0], len(ndn.components(name)), len(wire) // 32))
        return sorted(found)

    for known, unknown in PAIRS:
        assert len(known) == len(unknown)
        assert await shape(known) == await shape(unknown) != []


def test_answers_leave_at_steps() -> None:
    for elapsed in (0.0, 0.001, 0.0199, 0.02, 0.0201, 1.003):
        left = elapsed + until_step(elapsed)
        assert 0 <= left - elapsed <= STEP_S and abs(left / STEP_S - round(left / STEP_S)) < 1e-6


@pytest.mark.parametrize("domain", [PUBLIC, EPOCH], ids=["public", "private"])
async def test_citations_are_checked_by_name_and_signed(net: Net, domain: Domain) -> None:
    corpus = await net.serve(TEXTS, domain, ALIAS, net.producer)
    served = CorpusRecord(ALIAS, corpus_in(domain, corpus.digest), 2, EMBEDDER, "rerank")
    cited = await net.corpora(domain).lookup(served, QUESTION, 2)
    asking = SimpleNamespace(
        caller=net.asker.caller, domain=domain.label, evidence=False, ledger=SimpleNamespace(net=NET)
    )
    read = SimpleNamespace(cited=cited, text="It is called off until the spring [1].", conversation=asking)
    alone = await checked_citations(read, QUESTION)  # type: ignore[arg-type]
    assert alone is not None and not alone.by and alone.found.cited == (1,), "nobody offers the function yet"
    await net.second.produce(CheckCitations())
    del net.wire[:]
    checked = await checked_citations(read, QUESTION)  # type: ignore[arg-type]
    assert checked is not None and checked.by.endswith("/cite") and checked.found == alone.found
    assert checked.found == Citations((1,), (), 3, 0) and not checked.denied
    assert bool(checked.result) == (domain is PUBLIC)
    documents = Documents(None, served)  # type: ignore[arg-type]
    reply = ChatReply(_FromPassages(documents, QUESTION, Sampling()))
    with pytest.raises(UsageError, match="has ended"):
        await documents.cite(reply)
    reply.answer = SimpleNamespace(**vars(read), finish="stop")  # type: ignore[assignment]
    again = await documents.cite(reply)
    assert again is not None and (again.found, again.by) == (checked.found, checked.by)
    read.text = "It was sold to Globex in Vienna."
    poor = await checked_citations(read, QUESTION)  # type: ignore[arg-type]
    assert (
        poor is not None
        and poor.by
        and objections(poor.found)
        == (
            "it cites none of the passages that it was given",
            "words that are in none of them: globex, sold, vienna",
        )
    )
    if domain is not PUBLIC:
        heard = b"".join(net.wire)
        assert not [word for word in clear_words([*TEXTS.values(), read.text, QUESTION]) if word in heard]


async def test_a_check_that_says_something_else_is_not_believed(net: Net) -> None:
    class Liar(CheckCitations):
        async def run(self, request: CiteRequest, job: Job) -> Citations:
            return Citations((2,), (), 1, 0)

    corpus = await net.serve(TEXTS, PUBLIC, ALIAS, net.producer)
    served = CorpusRecord(ALIAS, corpus.digest, 2, EMBEDDER, "rerank")
    cited = await net.corpora(PUBLIC).lookup(served, QUESTION, 2)
    await net.second.produce(Liar())
    asking = SimpleNamespace(caller=net.asker.caller, domain=PUBLIC.label, evidence=False)
    read = SimpleNamespace(cited=cited, text="Until the spring.", conversation=asking)
    checked = await checked_citations(read, QUESTION)  # type: ignore[arg-type]
    assert checked is not None and not checked.by and checked.denied.endswith("/cite") and not checked.found.cited


async def test_what_is_no_passage_is_not_fetched(net: Net) -> None:
    await net.second.produce(CheckCitations())
    for names in ((ndn.to_uri(NET) + "/model/x",), ("nonsense",), (ndn.to_uri(NET) + "/corpus/" + "ab" * 32,)):
        ask = Ask(SUBJECT, CITE, CiteRequest("q", "a [1]", names))
        with pytest.raises(CallError, match="not the name of a passage"):
            await net.asker.caller.call(ask, Citations)


def test_merging_keeps_the_order_of_each_corpus_and_the_same_text_once() -> None:
    def cited(*items: tuple[str, float]) -> list[Cited]:
        return [Cited(f"/p/{text}", score, PassageRecord("s", "t", text, 0), None) for text, score in items]

    one, two = CorpusRecord("a", "aa", 3, EMBEDDER, "rerank"), CorpusRecord("b", "bb", 3, EMBEDDER, "words")
    lists = [(one, cited(("low", 0.3), ("high", 0.9))), (two, cited(("mid", 0.5), ("low", 0.2), ("last", 0.1)))]
    assert [item.passage.text for item in merged(lists)] == ["mid", "low", "high", "last"]
    other = CorpusRecord("c", "cc", 3, "ee" * 32, "rerank")
    apart = merged([*lists, (other, cited(("far", 0.01)))])
    assert [item.passage.text for item in apart] == ["low", "mid", "far", "high", "last"]
    assert merged([lists[0]]) == lists[0][1] and merged([]) == []


def test_names_of_a_domain_are_as_random_as_its_key() -> None:
    """Half of the bits of names of neighbouring keys differ, in one epoch and between epochs; see
    test_domain_secrecy.py."""
    keys = [f"corpus-{number}" for number in range(400)]
    names = [int(corpus_in(EPOCH, key), 16) for key in keys]
    older = [int(corpus_in(MEMBER.at(1), key), 16) for key in keys]
    assert len({*names, *older}) == 800 and not {f"{name:064x}" for name in names} & set(keys)
    for pairs in (zip(names, names[1:], strict=False), zip(names, older, strict=True)):
        distances = np.array([(one ^ other).bit_count() for one, other in pairs])
        assert abs(distances.mean() - 128) < 4 * 8 / np.sqrt(len(distances))  # 256 fair bits: deviation 8
    assert corpus_in(PUBLIC, "ab" * 32) == "ab" * 32
