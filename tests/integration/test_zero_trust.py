"""Zero-trust registration: a forwarder that grants routes below the registrant's own certificate and nowhere else.

Everything works all the same, by forwarding hints: over the real forwarder core here, with models in processes of their
own below (NFD #2856; ndn6 answers 403 as this one does)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config, ForwarderConfig
from ndn_infer.config import values as forms
from ndn_infer.errors import Nacked, RegistrationRefused
from ndn_infer.forwarder.management.access import CommandClaim
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.functions.tokenize import Text
from ndn_infer.models.store import ModelFolder
from ndn_infer.namespace import CatalogRecord, Passage, function_prefix, operator_identity, passages_prefix
from ndn_infer.node.known import likely_roles
from ndn_infer.records import CorpusRecord, Hit, Hits, LookupRequest, PassageRecord, Record, TokenizeRequest
from ndn_infer.repo.records import RepoClient
from ndn_infer.security.command_authority import CommandAuthority
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import TenantDomain
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.replay import ReplayWindow
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.transport.trust.certificates import certificate_fetcher
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.daemons import RunningNetwork, run_network
from tests.harness import NET, Node, keychain_in, role
from tests.integration.test_repo import REPO, start_repo

MEMBER = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(32)})
SUBJECT = ("model", "ab" * 32)
CORPUS = ("corpus", "cd" * 32)
MACHINE = NET + ndn.generic("home") + ndn.generic("n1")
OTHER = NET + ndn.generic("home") + ndn.generic("n2")
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=20.0))
POLICY = ForwarderConfig(registration="own-identity")


class Shout(NamedFunction[TokenizeRequest]):
    function, role, request_type, subject, private = "tokenize", "tokenize", TokenizeRequest, SUBJECT, True

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        return Text(request.text.upper())


class Spell(NamedFunction[TokenizeRequest]):
    function, role, request_type, subject, streams = "generate", "decode", TokenizeRequest, SUBJECT, True

    async def run(self, request: TokenizeRequest, job: Job) -> LiveStream:
        out = job.open_stream()
        for number, letter in enumerate(request.text, 1):
            out.append(records.encode(Text(letter)), final=number == len(request.text))
        return out


class Find(NamedFunction[LookupRequest]):
    """Retrieval that asks another producer on its way, and answers with the name of a passage."""

    function, role, request_type, subject = "lookup", "rag", LookupRequest, CORPUS
    passage = PassageRecord("a.md", "", "The heron opens at seven.", 0)

    async def start(self, host: Host, signer: Signer) -> None:
        content = records.encode(self.passage)
        self.base = Passage(CORPUS[1], hashlib.sha256(content).hexdigest()).to_name(host.net)
        host.server.publish(self.base, content, signer, pinned=True)

    def serves(self, net: ndn.Name) -> tuple[ndn.Name, ...]:
        return (passages_prefix(net, CORPUS[1]),)

    async def run(self, request: LookupRequest, job: Job) -> Record:
        loud = await job.host.caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text=request.query)), Text)
        assert loud.text == request.query.upper()
        return Hits((Hit(ndn.to_uri(self.base), 0.5),))


@dataclass
class Net:
    network: MemoryNetwork
    keychain: Keychain
    asker: Node
    producers: list[Producer]

    def registrar(self, identity: ndn.Name = b"") -> Registrar:
        """Of an application with the key of `identity`, or with none."""
        endpoint = Endpoint(self.network.dial)
        return Registrar(endpoint, self.keychain.signer_for(identity) if identity else None)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    """One forwarder with the policy, three producers on faces of their own, one caller."""
    keychain = keychain_in(tmp_path / "keys", "tokenize", "decode", "rag", "user")
    keychain.ensure(MACHINE, OTHER, REPO)
    network = MemoryNetwork(POLICY)
    guard = await under_policy(network, keychain)
    nodes, producers = [], []
    for name, function in (("tokenize", Shout()), ("decode", Spell()), ("rag", Find())):
        node = Node(network, keychain, CONFIG, asks_as=name, domains=[MEMBER], commands_as=MACHINE)
        nodes.append(await node.open())
        producers.append(await node.produce(function))
    catalogued = records.encode(CorpusRecord("notes", CORPUS[1], 1, "ef" * 32))
    base = CatalogRecord("corpus", "notes").to_name(NET)
    nodes[2].server.publish(base, catalogued, keychain.signer_for(operator_identity(NET)), pinned=True)
    await producers[2].offer_object(base, keychain.signer_for(role("rag")))
    asker = await Node(network, keychain, CONFIG, asks_as="user", domains=[MEMBER], commands_as=MACHINE).open()
    yield Net(network, keychain, asker, producers)
    for producer in producers:
        await producer.close()
    for node in (asker, *nodes):
        await node.close()
    await guard.aclose()
    await network.door.close()
    network.close()


async def under_policy(network: MemoryNetwork, keychain: Keychain) -> Validator:
    """Have commands to this forwarder verified against the anchor."""
    endpoint = Endpoint(network.dial)
    await endpoint.open()
    validator = Validator(
        TrustSchema.load(NET), keychain.anchor, certificate_fetcher(endpoint), replay=ReplayWindow()
    )  # fmt: skip
    validator.add_certificates(*keychain.certificates())
    authority = CommandAuthority(validator, NET, [forms.grant("/ndn-infer/local/home/n1/user=/games/chess")])

    async def check(claim: CommandClaim) -> None:
        await authority.check(claim.interest, claim.module, claim.prefix)

    network.door.check = check
    return validator


# ---------------------------------------------------------------- who may say where names lead


async def test_nothing_but_what_lies_below_the_own_certificate_is_granted(net: Net) -> None:
    calls = function_prefix(NET, *SUBJECT, "tokenize")
    for identity, prefix, code in (
        (MACHINE, calls, 403),
        (MACHINE, NET, 403),
        (MACHINE, role("decode", node="n2"), 403),
        (MACHINE, role("decode"), 200),
        (role("decode"), MACHINE, 403),
        (role("decode"), role("tokenize"), 403),
        (role("decode"), role("decode") + ndn.generic("x"), 200),
        (role("user"), ndn.from_uri("/games/chess/1"), 200),
        (b"", role("decode"), 403),
        (operator_identity(NET), calls, 200),
    ):
        registrar = net.registrar(identity)
        await registrar._endpoint.open()
        given = 200
        try:
            await registrar.register(prefix, insist=False)
        except RegistrationRefused as error:
            given = error.code
        assert given == code, f"{ndn.to_uri(identity)} asked for {ndn.to_uri(prefix)}"
        await registrar._endpoint.close()


async def test_a_next_hop_is_the_operators_to_add_and_faces_are_as_before(net: Net) -> None:
    registrar = net.registrar(role("decode"))
    await registrar._endpoint.open()
    named = ndn.encode_name(role("decode"))
    hop = await registrar.command("fib", "add-nexthop", b"\x68" + bytes((len(named),)) + named)
    assert hop.code == 403 and "register routes" in hop.text
    await registrar.enable_local_fields()
    await registrar._endpoint.close()


# ---------------------------------------------------------------- everything works


async def test_no_content_name_has_a_route(net: Net) -> None:
    for prefix, _ in net.network.core.rib.items():
        assert prefix.startswith(MACHINE), ndn.to_uri(prefix)


async def test_calls_large_requests_streams_and_retrieval_work_by_hint(net: Net) -> None:
    caller = net.asker.caller
    assert (await caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text="small")), Text)).text == "SMALL"
    large = "large " * 5000
    assert (await caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text=large)), Text)).text == large.upper()
    letters = [
        event.text async for event, _ in caller.stream(Ask(SUBJECT, "generate", TokenizeRequest(text="abc")), Text)
    ]
    assert letters == ["a", "b", "c"]
    hits = await caller.call(Ask(CORPUS, "lookup", LookupRequest("heron", 1)), Hits)
    fetched = await net.asker.fetcher.fetch(ndn.from_uri(hits.hits[0].name), most=MAX_OBJECT_BYTES)
    assert records.decode(PassageRecord, fetched.content) == Find.passage
    catalogued = await net.asker.fetcher.fetch(CatalogRecord("corpus", "notes").to_name(NET), most=MAX_OBJECT_BYTES)
    assert catalogued.signed_by.identity == operator_identity(NET)


async def test_private_calls_work_by_hint(net: Net) -> None:
    caller, label = net.asker.caller, MEMBER.newest.label
    for text in ("secret", "secret " * 5000):
        answer = await caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text=text), label), Text)
        assert answer.text == text.upper()


async def test_a_repo_keeps_and_gives_what_a_producer_made_that_is_gone(net: Net, tmp_path: Path) -> None:
    """The repo is another machine, which readers know by configuration; certificates come from there, too."""
    repo, node, store = await start_repo(net.network, net.keychain, tmp_path / "repo", commands_as=OTHER)
    known = replace(CONFIG, network=replace(CONFIG.network, known=(ndn.to_uri(OTHER),)))
    reader = await Node(net.network, net.keychain, known, asks_as="user", commands_as=MACHINE).open()
    hits = await reader.caller.call(Ask(CORPUS, "lookup", LookupRequest("heron", 1)), Hits)
    base = ndn.from_uri(hits.hits[0].name)
    client = RepoClient(reader.endpoint, reader.validator, NET, REPO, net.keychain.signer_for(role("user")))
    entry = await client.insert(base, hints=(role("rag"),), pin=True)
    assert entry.pinned
    net.network.core.cs.erase(NET, 1000)
    await net.producers[2].close()
    fetched = await reader.fetcher.fetch(base, most=MAX_OBJECT_BYTES)
    assert records.decode(PassageRecord, fetched.content) == Find.passage and fetched.signed_by.identity == role("rag")
    for prefix, _ in net.network.core.rib.items():
        assert prefix.startswith((MACHINE, OTHER)), ndn.to_uri(prefix)
    await reader.close()
    await repo.close()
    await node.close()
    store.close()


async def test_what_nobody_has_is_told_at_once_and_the_way_that_was_learnt_is_used(net: Net) -> None:
    nowhere = function_prefix(NET, "model", "99" * 32, "tokenize")
    with pytest.raises(Nacked, match="no route"):
        await net.asker.endpoint.express(nowhere, lifetime_ms=4000)
    await net.asker.caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text="1")), Text)
    nacks = net.asker.endpoint.stats.nacks_in
    await net.asker.caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text="2")), Text)
    assert net.asker.endpoint.stats.nacks_in == nacks, "by hint from the start"


def test_whoever_may_have_what_a_name_says_is_asked_first() -> None:
    digest = "ab" * 32
    for uri, first in (
        (f"/model/{digest}/generate/shared/{digest}", "decode"),
        (f"/model/{digest}/kv/public/bf16/{digest}/0-29/32=metadata", "prefill"),
        (f"/corpus/{digest}/passage/{digest}", "rag"),
        (f"/service/stages/before-15.{digest[:32]}/shared/{digest}", "stage"),
        (f"/service/echo/echo/shared/{digest}", "echo"),
        ("/operator/KEY/x", "tokenize"),
    ):
        assert likely_roles(NET, NET + ndn.from_uri(uri))[0] == first, uri


# ---------------------------------------------------------------- with models, in processes


@pytest.fixture(scope="module")
def strict(
    smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "heron.md").write_text("# Heron\n\nThe Blue Heron café opens at seven and closes at nine.\n")
    directory = tmp_path_factory.mktemp("net")
    options = {"NDN_INFER_FORWARDER_REGISTRATION": "own-identity"}
    with run_network(directory, model_cache, "--corpus", str(folder), "--corpus-name", "notes", **options) as running:
        yield running


@pytest.mark.model
def test_ask_second_turn_retrieval_and_a_private_question_under_the_policy(strict: RunningNetwork) -> None:
    first = strict.ask("What is the capital of France?")
    assert "Paris" in first["text"] and first["kv_blocks"]["prefilled"] > 0, "prefill is called by hint"
    assert strict.ask("What is the capital of France?")["stored"]
    longer = strict.ask("What is the capital of France? Answer in one word.", "--max-tokens", "8")
    assert longer["finish"]
    rag = strict.run("ask", "--json", "--no-embedded", "--rag", "notes", "--", "When does the Blue Heron open?")
    assert rag.returncode == 0 and "seven" in json.loads(rag.stdout)["text"], rag.stderr
    assert strict.run("domain", "create", "acme").returncode == 0
    private = strict.run("ask", "--json", "--no-embedded", "--domain", "acme", "--max-tokens", "8", "--", "Who?")
    assert private.returncode == 0 and json.loads(private.stdout)["token_ids"], private.stderr
    for route in strict.status()["routes"]:
        assert route["prefix"].startswith("/ndn-infer/local/home/n1"), route
