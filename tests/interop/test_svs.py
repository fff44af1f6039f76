"""State Vector Sync with NDNts (npm @ndn/svs, unmodified, its version 3): one group on a running forwarder, state
vectors signed by either side and verified by the other, publications both ways, and equal bytes."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config, FetchConfig
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.namespace import Call, CallClass, Sync, function_prefix
from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.records import CallAnswer, Envelope, TokenizeRequest, Tokens
from ndn_infer.records.offer import OfferedFunction
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.sync.core.vector import Entry, decode_vector, encode_vector
from ndn_infer.sync.fetching import FetchOptions, Publication
from ndn_infer.sync.group import SyncGroup, SyncOptions
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.certificates import certificate_fetcher
from tests.harness import NET, Node, keychain_in, role
from tests.integration.test_forwarder_clients import forwarder
from tests.integration.test_python_ndn import endpoint_to
from tests.interop.ndnts_kit import Agent, AgentFace, install, missing_tools, running_agent, until
from tests.offer_kit import GENERATE, MODEL
from tests.offer_kit import offer as made_up

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(missing_tools()), reason=f"not on PATH: {', '.join(missing_tools())}"),
]

GROUP = Sync("offers").to_name(NET)
TOKENIZE = OfferedFunction("tokenize", "model", MODEL)
OURS, THEIRS = role("decode"), role("tokenize")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(model_cache: Path) -> AsyncIterator[Agent]:
    async with running_agent(install(model_cache)) as running_one:
        yield running_one


class Peer:
    """NDNts's member."""

    def __init__(self, agent: Agent, number: int) -> None:
        self.agent = agent
        self.number = number

    async def call(self, op: str, **arguments: object) -> Any:
        return await self.agent.call(op, member=self.number, **arguments)

    async def settles(self, condition: Callable[[dict[str, list[Any]]], bool]) -> dict[str, list[Any]]:
        """What it has heard, once that is enough."""
        for _ in range(400):
            heard = await self.agent.call("svsHeard", member=self.number)
            if condition(heard):
                return dict(heard)
            await asyncio.sleep(0.05)
        raise AssertionError(f"NDNts heard only {heard}")


@asynccontextmanager
async def member(
    daemon: ForwarderDaemon, keychain: Keychain, me: ndn.Name, theirs: Certificate, options: SyncOptions | None = None
) -> AsyncIterator[tuple[SyncGroup, list[Publication]]]:
    """Ours. NDNts's certificate is at hand; ours are answered for."""
    told: list[Publication] = []
    async with endpoint_to(daemon) as (endpoint, registrar):
        validator = Validator(TrustSchema.load(NET), keychain.anchor, certificate_fetcher(endpoint))
        validator.add_certificates(theirs)
        server = Server(endpoint, ObjectStore(1 << 20))
        server.answer_certificates(me, keychain.certificates)
        await registrar.register(me)
        group = SyncGroup(
            endpoint, validator, GROUP, me=me, signer=keychain.signer_for(me), registrar=registrar,
            on_publication=told.append, options=options or SyncOptions(seed=5),
        )  # fmt: skip
        await group.open()
        try:
            yield group, told
        finally:
            await group.close()
            await validator.aclose()


async def their_key(agent: Agent, keychain: Keychain) -> tuple[int, Certificate]:
    """A key that NDNts made and our keychain certified."""
    made = await agent.call("makeKey", identity=ndn.to_uri(THEIRS))
    certificate = keychain.certify(THEIRS, ndn.from_uri(made["name"]), base64.b64decode(made["spki"]))
    await agent.call("certified", key=made["key"], certificate=ndn.to_uri(certificate.name))
    return made["key"], certificate


@asynccontextmanager
async def offers_on(directory: Path) -> AsyncIterator[Offers]:
    """The book of a caller, which looks nowhere by itself."""
    network = MemoryNetwork()
    node = await Node(network, keychain_in(directory / "keys", "decode"), Config()).open()
    offers = Offers(Where.of(NET, node.endpoint, node.validator, Config()))
    try:
        yield offers
    finally:
        await offers.close()
        await node.close()
        network.close()


class Joined(NamedTuple):
    """`face` is NDNts's, `key` the number of its key, `certificate` that of it."""

    group: SyncGroup
    told: list[Publication]
    peer: Peer
    daemon: ForwarderDaemon
    keychain: Keychain
    face: AgentFace
    key: int
    certificate: Certificate


@asynccontextmanager
async def joined(directory: Path, agent: Agent, options: SyncOptions | None = None) -> AsyncIterator[Joined]:
    """Our member and NDNts's in one group, each over a face of its own."""
    keychain = keychain_in(directory / "keys", "decode")
    key, certificate = await their_key(agent, keychain)
    async with forwarder(directory) as daemon:
        async with (
            member(daemon, keychain, OURS, certificate, options or SyncOptions(seed=5)) as (group, told),
            agent.face(daemon, "tcp", register=True) as face,
        ):
            number = await face.call(
                "svsJoin", group=ndn.to_uri(GROUP), node=ndn.to_uri(THEIRS), signer=key,
                certificates=[ndn.to_uri(keychain.signer_for(OURS).certificate_name)],
            )  # fmt: skip
            await until(
                lambda: ndn.from_uri(ndn.to_uri(THEIRS)) + GROUP in daemon.core.fib and GROUP in daemon.core.fib
            )
            yield Joined(group, told, Peer(agent, number), daemon, keychain, face, key, certificate)
            await agent.call("svsLeave", member=number)


async def test_publications_both_ways(tmp_path: Path, agent: Agent) -> None:
    """NDNts hears our state vector, verifies it and fetches what we published; we hear and read what it published."""
    async with joined(tmp_path, agent) as (group, told, peer, *_):
        group.publish(b"our offer", name=OURS + ndn.generic("offer"))
        heard = await peer.settles(lambda heard: bool(heard["updates"]))
        assert heard["errors"] == []
        assert heard["updates"] == [{"name": ndn.to_uri(OURS), "boot": group.core.boot, "low": 1, "high": 1}]
        read = await peer.call("svsFetch", uri=ndn.to_uri(OURS), boot=group.core.boot, sequence=1)
        assert base64.b64decode(read["content"]) == b"our offer"
        assert (read["type"], read["name"]) == (6, ndn.to_uri(OURS + ndn.generic("offer")))

        theirs = await peer.call("svsPublish", application=ndn.to_uri(THEIRS) + "/offer", text="their offer")
        await until(lambda: bool(told))
        [publication] = told
        assert (publication.publisher, publication.content) == (THEIRS, b"their offer")
        assert (publication.boot, publication.sequence) == (theirs["boot"], theirs["sequence"])
        assert publication.validated.identity == THEIRS and publication.name == THEIRS + ndn.generic("offer")
        for number in range(2, 6):
            await peer.call("svsPublish", application="/x", text=f"offer {number}")
        await until(lambda: told[-1].sequence == 5)


async def make_an_offer(peer: Peer, functions: tuple[OfferedFunction, ...]) -> str:
    """NDNts publishes an offer of these; the hint that stands in it."""
    hint = ndn.to_uri(THEIRS) + "/instance/0a"
    now_us = time.time_ns() // 1000
    offered = replace(
        made_up(engine="", functions=functions), identity=ndn.to_uri(THEIRS), hint=hint, made_us=now_us,
        until_us=now_us + 60_000_000,
    )  # fmt: skip
    content = base64.b64encode(records.encode(offered)).decode()
    await peer.call("svsPublish", application=ndn.to_uri(THEIRS) + "/offer", content=content)
    return hint


async def test_an_offer_that_it_publishes_is_chosen(tmp_path: Path, agent: Agent) -> None:
    """NDNts's member is a producer as any: its offer comes in the group, and calls of what it offers go to it."""
    async with joined(tmp_path, agent) as (_, told, peer, *_):
        hint = await make_an_offer(peer, (TOKENIZE, GENERATE))
        await until(lambda: bool(told))
        async with offers_on(tmp_path) as offers:
            offers.take_wire(told[-1].content, told[-1].validated)
            chooser = OfferChooser(offers)
            request = TokenizeRequest(text="whose tokens?")
            call = Call("model", MODEL, "tokenize", CallClass.SHARED, "1" * 64)
            assert [one.entry.hint for one in chooser.order(call, request)] == [ndn.from_uri(hint)]
            call = Call("model", MODEL, "generate", CallClass.SHARED, "2" * 64)
            assert chooser.order(call, request) == [], "its key may not answer that, whatever it says"


async def test_a_call_goes_to_it_by_its_hint_and_its_answer_is_the_result(tmp_path: Path, agent: Agent) -> None:
    """No route leads to the function. The offer that NDNts published says where: the call arrives there with that hint,
    and what NDNts signs is the result."""
    async with joined(tmp_path, agent) as (_, told, peer, daemon, keychain, face, key, certificate):
        hint = await make_an_offer(peer, (TOKENIZE,))
        await until(lambda: bool(told))
        answer = records.encode(CallAnswer(records.encode(Tokens((7, 8, 9)))))
        calls, content = function_prefix(NET, "model", MODEL, "tokenize"), base64.b64encode(answer).decode()
        server = await face.call("takeCalls", uri=ndn.to_uri(calls), announcement=hint, signer=key, content=content)
        await until(lambda: ndn.from_uri(hint) in daemon.core.fib)
        async with endpoint_to(daemon) as (endpoint, _), certain(keychain, endpoint, certificate) as validator:
            offers = Offers(Where.of(NET, endpoint, validator, Config()))
            offers.take_wire(told[-1].content, told[-1].validated)
            caller = Caller(
                endpoint, validator, Fetcher(endpoint, validator, FetchConfig()), NET, config=CallConfig(),
                fetch=FetchConfig(), chooser=OfferChooser(offers),
            )  # fmt: skip
            request = TokenizeRequest(text="whose tokens?")
            signed_by: list[ndn.Name] = []
            tokens = await caller.call(
                Ask(("model", MODEL), "tokenize", request), Tokens,
                on_answer=lambda answered: signed_by.append(answered.signed_by.identity),
            )  # fmt: skip
            await offers.close()
        assert tokens.ids == (7, 8, 9) and signed_by == [THEIRS]
        [came] = await agent.call("callsTaken", server=server)
        assert came["hints"] == [hint] and came["name"].startswith("/ndn-infer/local/model/")
        envelope = records.decode(Envelope, base64.b64decode(came["parameters"]))
        assert records.decode(TokenizeRequest, envelope.request) == request
        await agent.call("stop", server=server)


@asynccontextmanager
async def certain(keychain: Keychain, endpoint: Endpoint, *certificates: Certificate) -> AsyncIterator[Validator]:
    """Of a caller who has these certificates at hand."""
    validator = Validator(TrustSchema.load(NET), keychain.anchor, certificate_fetcher(endpoint))
    validator.add_certificates(*certificates)
    try:
        yield validator
    finally:
        await validator.aclose()


async def test_its_publication_layer_reads_and_is_read(tmp_path: Path, agent: Agent) -> None:
    """SvSubscriber, of one publisher and of a topic, reads what we publish, in one packet and in many; SvPublisher's
    publications are read here: the older names of both sides."""
    options = SyncOptions(fetch=FetchOptions(older_names=True, newest_only=False, lifetime_ms=300), seed=5)
    async with joined(tmp_path, agent, options) as (group, told, peer, *_):
        topics = [{"publisher": ndn.to_uri(OURS)}, {"prefix": "/topic"}]
        await peer.call("svsUseLayer", node=ndn.to_uri(THEIRS), subscriptions=topics)
        large = bytes(range(256)) * 80
        group.publish(b"small", name=ndn.from_uri("/topic/small"))
        group.publish(large, name=ndn.from_uri("/other/large"))
        heard = await peer.settles(lambda heard: len(heard["read"]) >= 3)
        read = {(one["name"], base64.b64decode(one["content"])) for one in heard["read"]}
        assert read == {("/topic/small", b"small"), ("/other/large", large)} and heard["errors"] == []
        assert {one["publisher"] for one in heard["read"]} == {ndn.to_uri(OURS)}

        for number, text in enumerate(("one", "t" * 20_000), 1):
            assert await peer.call("svsLayerPublish", application=f"/their/{number}", text=text) == number
        await until(lambda: len(told) == 2)
        assert [(one.content, ndn.to_uri(one.name)) for one in told] == [
            (b"one", "/their/1"), (b"t" * 20_000, "/their/2"),
        ]  # fmt: skip
        assert {one.validated.identity for one in told} == {THEIRS}


async def test_states_become_equal(tmp_path: Path, agent: Agent) -> None:
    """Whoever comes late is told: NDNts's state and ours are the same entries, and either side's vector is read."""
    async with joined(tmp_path, agent) as (group, told, peer, *_):
        for number in range(3):
            group.publish(b"%d" % number)
            await peer.call("svsPublish", application="/x", text="x")
        await until(lambda: {(one.name, one.sequence) for one in group.members()} == {(OURS, 3), (THEIRS, 3)})
        heard = await peer.settles(
            lambda heard: len(heard["state"]) == 2 and all(e["sequence"] == 3 for e in heard["state"])
        )
        ours = sorted((ndn.to_uri(one.name), one.boot, one.sequence) for one in group.members())
        assert sorted((one["name"], one["boot"], one["sequence"]) for one in heard["state"]) == ours
        assert group.counts.rejected == 0 and heard["errors"] == []


async def test_a_vector_by_an_unknown_key_is_refused_by_both(tmp_path: Path, agent: Agent) -> None:
    """NDNts with a key that nobody certified says what it likes: nothing changes here; what a second key of our
    network signs, NDNts, which does not know it, refuses too."""
    keychain = keychain_in(tmp_path / "keys", "decode", "prefill")
    made = await agent.call("makeKey", identity=ndn.to_uri(THEIRS))
    async with forwarder(tmp_path) as daemon:
        anchor = keychain.anchor
        async with (
            member(daemon, keychain, role("prefill"), anchor) as (group, _),
            member(daemon, keychain, OURS, anchor),
            agent.face(daemon, "unix", register=True) as face,
        ):
            number = await face.call(
                "svsJoin", group=ndn.to_uri(GROUP), node=ndn.to_uri(THEIRS), signer=made["key"],
                certificates=[ndn.to_uri(keychain.signer_for(OURS).certificate_name)],
            )  # fmt: skip
            peer = Peer(agent, number)
            await until(lambda: len(daemon.core.fib.lookup(GROUP)) == 3)
            await peer.call("svsPublish", application="/x", text="forged")
            await until(lambda: group.counts.rejected > 0)
            assert group.members() == []
            group.publish(b"by a key that NDNts was not told of")
            heard = await peer.settles(lambda heard: bool(heard["errors"]))
            assert "unknown key" in str(heard["errors"]) and heard["updates"] == []
            await agent.call("svsLeave", member=number)


async def test_equal_bytes(agent: Agent) -> None:
    """NDNts's encoder and ours make the same of the same entries; what either made the other reads."""
    uris = ["/a", "/b", "/aa", "/a/b", "/32=kw/x", ndn.to_uri(OURS), "/%00%FF", "/v=7"]
    entries = [
        Entry(ndn.from_uri(uri), boot, sequence)
        for uri in uris
        for boot, sequence in ((1_700_000_000, 1), (5, 70_000), (1_800_000_000, 2**33))
    ]
    rows = [{"name": ndn.to_uri(entry.name), "boot": entry.boot, "sequence": entry.sequence} for entry in entries]
    wire = bytes.fromhex(await agent.call("svsEncode", entries=rows))
    assert wire == encode_vector(entries) and decode_vector(wire) == sorted(entries)
    assert bytes.fromhex(await agent.call("svsEncode", entries=[])) == encode_vector([])
