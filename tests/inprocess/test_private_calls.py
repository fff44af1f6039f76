"""Private calls in tenant domains, over a real forwarder core with a hand on the wire: members understand each other,
and nobody else learns or does anything with what passes."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config
from ndn_infer.errors import BadRecord, CallError, MissingKey, NetworkError, TrustError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.tokenize import Text
from ndn_infer.namespace import Call, CallClass, function_prefix
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.packet import decode_data, decode_interest
from ndn_infer.records import CallAnswer, Envelope, GenerateRequest, Record, TokenEvent, TokenizeRequest
from ndn_infer.security import domain_store
from ndn_infer.security.domain_store import DomainFile, DomainMember, DomainStore, tenant_of
from ndn_infer.security.domains import DomainEpoch, TenantDomain, is_sealed_request, parse_request
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import _open
from ndn_infer.transport.calls.direct import DirectAsk
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.transport.trust.key_records import OwnedRecords, Renewal
from ndn_infer.transport.trust.presence import STATUS, ProducerStatus, StatusQuery
from tests.harness import NET, Node, keychain_in, role

ID = "00112233445566778899aabbccddeeff"
SECRETS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
MEMBER = TenantDomain(ID, SECRETS)
SUBJECT = ("model", "ab" * 32)
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=3.0))
LABEL = MEMBER.newest.label
PASSAGE = "the merger with Initech is called off; "


class Shout(NamedFunction[TokenizeRequest]):
    """Capital letters, as many as asked for."""

    function, role, request_type, subject, private = "tokenize", "tokenize", TokenizeRequest, SUBJECT, True

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        self.done[job.domain.label] += 1
        job.host.counters["letters"] += len(request.text)
        return Text(request.text.upper())


class Spell(NamedFunction[GenerateRequest]):
    """A stream of what it was given, an event for each token."""

    function, role, request_type, subject, private = "generate", "decode", GenerateRequest, SUBJECT, True

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        out = job.open_stream()
        for token in request.prompt:
            out.append(records.encode(TokenEvent((token,), f"{PASSAGE}{token}")))
        out.append(records.encode(TokenEvent((), "", finish="stop")), final=True)
        return out


class Open(Shout):
    function, private = "detokenize", False


@dataclass
class Net:
    network: MemoryNetwork
    producer: Node
    asker: Node
    done: Counter[str]
    """How often the text function ran, by domain."""
    wire: list[bytes] = field(default_factory=list)

    async def shout(self, text: str, domain: str = LABEL, function: str = "tokenize") -> str:
        request = TokenizeRequest(text=text)
        return (await self.asker.caller.call(Ask(SUBJECT, function, request, domain), Text)).text

    async def again(self, interest: bytes) -> CallAnswer:
        """The answer in clear to an Interest that somebody sends from elsewhere."""
        name = decode_interest(interest).name
        data, _ = await self.asker.endpoint.exchange(interest, name)
        return records.decode(CallAnswer, data.content)

    def calls(self, function: str = "tokenize") -> list[bytes]:
        """Private calls that passed."""
        prefix = function_prefix(NET, *SUBJECT, function) + ndn.generic(CallClass.PRIVATE.value)
        packets = [packet for packet in self.wire if packet and packet[0] == tlv.INTEREST]
        return [packet for packet in packets if decode_interest(packet).name.startswith(prefix)]


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    keychain = keychain_in(tmp_path / "keys", "tokenize", "decode", "user")
    network = MemoryNetwork()
    producer = await Node(network, keychain, CONFIG, asks_as="decode", domains=[MEMBER]).open()
    asker = await Node(network, keychain, CONFIG, asks_as="user", domains=[MEMBER]).open()
    shout = Shout()
    net = Net(network, producer, asker, shout.done)

    def listen(wire: bytes) -> bytes:
        net.wire.append(lp.decode_lp(wire).fragment)
        return wire

    for node in (producer, asker):
        node.link.tamper_up = listen
    offered = await producer.produce(shout, Spell(), Open())
    yield net
    await _once_more(net)
    await offered.close()
    await asker.close()
    await producer.close()
    network.close()


async def _once_more(net: Net) -> None:
    """Every private call of a test, made by a stranger: as a shared one, at another function, with another label."""
    envelopes = {
        decode_interest(packet).parameters: None for name in ("tokenize", "generate") for packet in net.calls(name)
    }
    for parameters, kind in itertools.product(list(envelopes)[:4], CallClass):
        heard = records.decode(Envelope, parameters or b"")
        if not heard.sources and not is_sealed_request(heard.request):
            continue  # what a test made up
        for function, label in itertools.product(("tokenize", "generate", "detokenize"), ("", "public", f"{ID}.1")):
            envelope = heard
            if label and heard.request:
                with suppress(BadRecord):
                    relabelled = records.encode(replace(parse_request(heard.request), domain=label))
                    envelope = replace(heard, request=relabelled)
            named = envelope.sources[0].rpartition("/")[2] if envelope.sources else ""
            digest = hashlib.sha256(envelope.request).hexdigest() if envelope.request else named
            name = Call(*SUBJECT, function, kind, digest).to_name(NET)
            with suppress(NetworkError):
                data, _ = await net.asker.endpoint.express(
                    name, must_be_fresh=True, lifetime_ms=500, parameters=records.encode(envelope)
                )
                answer = records.decode(CallAnswer, data.content)  # in clear, so it must not tell anything
                assert answer.code and not answer.value and not answer.result
                assert PASSAGE.encode()[:16] not in data.content


async def spell(net: Net, prompt: tuple[int, ...], domain: str = LABEL) -> list[str]:
    request = GenerateRequest(prompt=prompt)
    stream = net.asker.caller.stream(Ask(SUBJECT, "generate", request, domain), TokenEvent)
    return [event.text async for event, _ in stream]


async def test_members_understand_each_other_and_nobody_else_reads(net: Net) -> None:
    """Inline, larger than an Interest, larger than an answer's Data, and a stream."""
    short, long = PASSAGE, PASSAGE * 2000
    assert await net.shout(short) == short.upper()
    assert await net.shout(long) == long.upper()
    assert await spell(net, (7, 8)) == [f"{PASSAGE}7", f"{PASSAGE}8", ""]
    heard = b"".join(net.wire)
    for text in (PASSAGE, PASSAGE.upper()):
        assert text.encode()[:16] not in heard
        assert hashlib.sha256(records.encode(TokenizeRequest(text=text))).digest() not in heard
    assert len(net.calls()) == 2 and len(net.calls("generate")) == 1
    assert net.done[LABEL] == 2

    assert await net.shout(short, "public") == short.upper()  # the ear hears what there is to hear
    assert PASSAGE.encode()[:16] in b"".join(net.wire)


async def test_equal_questions_have_unequal_names(net: Net) -> None:
    answers = await asyncio.gather(*(net.shout(PASSAGE) for _ in range(3)))
    assert set(answers) == {PASSAGE.upper()}
    names = {decode_interest(packet).name for packet in net.calls()}
    digests = {ndn.components(name)[-2] for name in names}
    assert len(digests) == 3 and net.done[LABEL] == 3


async def test_older_epochs_are_answered_where_their_key_is(net: Net) -> None:
    assert await net.shout(PASSAGE, MEMBER.at(1).label) == PASSAGE.upper()
    assert net.done[f"{ID}.1"] == 1


async def test_who_was_removed_has_no_key_to_ask_with_and_cannot_answer(net: Net) -> None:
    old = TenantDomain(ID, {1: SECRETS[1]})
    net.asker.domains[:] = [old]
    with pytest.raises(MissingKey, match="no key of epoch 2"):
        await net.shout(PASSAGE)
    net.asker.domains[:] = [MEMBER]
    net.producer.domains[:] = [old]
    with pytest.raises(CallError) as refused:
        await net.shout(PASSAGE)
    assert refused.value.code == "unknown-domain"
    assert f"{ndn.to_uri(role('tokenize'))} is not a member" in str(refused.value), "which producer it is"
    assert net.producer.counters["refused_domain"] == 1


async def test_keys_that_come_later_are_found_without_a_restart(net: Net) -> None:
    net.producer.domains.clear()
    with pytest.raises(CallError):
        await net.shout(PASSAGE)
    net.producer.domains.append(MEMBER)
    assert await net.shout(PASSAGE) == PASSAGE.upper()


async def test_another_key_under_the_same_label_is_refused(net: Net) -> None:
    net.asker.domains[:] = [TenantDomain(ID, {2: bytes(32)})]
    with pytest.raises(CallError, match="not sealed under this name"):
        await net.shout(PASSAGE)
    assert net.producer.counters["refused"] == 1


async def test_functions_that_are_not_private_say_so(net: Net) -> None:
    with pytest.raises(CallError) as refused:
        await net.shout(PASSAGE, function="detokenize")
    assert refused.value.code == "not-private"
    assert net.done[LABEL] == 0


async def test_who_has_no_key_cannot_ask_privately(net: Net) -> None:
    net.asker.caller._access = None
    with pytest.raises(MissingKey, match="private call is signed"):
        await net.shout(PASSAGE)


@pytest.mark.parametrize("domain", ["public", LABEL])
async def test_a_call_is_named_by_its_whole_request_however_that_travels(net: Net, domain: str) -> None:
    """Callers that publish requests of other sizes ask for the same name; of a private call the whole sealed request
    is what its name is the digest of."""
    names: list[ndn.Name] = []
    for inline_bytes in (4096, 10):
        net.asker.caller._config = replace(CONFIG.call, inline_bytes=inline_bytes)
        ask = Ask(SUBJECT, "tokenize", TokenizeRequest(text=PASSAGE), domain)
        question = await net.asker.caller._prepare(ask, None)
        assert bool(question.request) == (inline_bytes > 10) == (not question.sources)
        names.append(question.name)
        assert await net.shout(PASSAGE, domain) == PASSAGE.upper()
    if domain == "public":
        assert names[0] == names[1]
        assert net.done["public"] == 1
    asked = [records.decode(Envelope, decode_interest(packet).parameters or b"") for packet in net.calls()]
    assert [bool(envelope.request) for envelope in asked] == ([True, False] if domain == LABEL else [])


async def test_a_call_that_is_heard_cannot_be_made_again(net: Net) -> None:
    """As it is, unsigned, or signed by another role."""
    await net.shout(PASSAGE)
    (heard,) = net.calls()
    interest = decode_interest(heard)
    base, parameters = ndn.prefix(interest.name, -1), interest.parameters
    assert parameters is not None
    net.network.core.cs.erase(base, 1 << 20)

    assert (await net.again(heard)).code == "bad-request"  # a replay
    data, _ = await net.asker.endpoint.express(base, must_be_fresh=True, parameters=parameters)
    unsigned = records.decode(CallAnswer, data.content)
    assert unsigned.code == "bad-request" and "not signed" in unsigned.error
    assert net.producer.access is not None  # which signs as decode
    theirs, _ = net.producer.access.sign(base, parameters, hints=(), lifetime_ms=1000)
    assert (await net.again(theirs)).code == "unreachable"  # nobody serves its certificate
    assert net.done[LABEL] == 1


async def test_every_byte_of_a_sealed_request_counts(net: Net) -> None:
    assert net.asker.access is not None and net.producer.access is not None
    function, caller = function_prefix(NET, *SUBJECT, "tokenize"), role("user")
    sealed = net.asker.access.seal_request(MEMBER.newest, function, b"request")
    whole = parse_request(sealed)
    assert net.producer.access.open_request(function, caller, whole) == (MEMBER.newest, b"request")
    for at in range(len(whole.sealed)):
        bad = bytearray(whole.sealed)
        bad[at] ^= 1
        with pytest.raises(TrustError):
            net.producer.access.open_request(function, caller, replace(whole, sealed=bytes(bad)))
    for other in ((function_prefix(NET, *SUBJECT, "generate"), caller), (function, role("decode"))):
        with pytest.raises(TrustError):
            net.producer.access.open_request(*other, whole)


async def test_garbage_in_private_calls_is_answered_with_words(net: Net) -> None:
    assert await net.shout(PASSAGE) == PASSAGE.upper()
    assert net.asker.access is not None
    for request in (b"", b"\x80", b"\x01" * 300, records.encode(TokenizeRequest(text="x"))):
        call = Call(*SUBJECT, "tokenize", CallClass.PRIVATE, hashlib.sha256(request).hexdigest())
        parameters = records.encode(Envelope(request))
        wire, _ = net.asker.access.sign(call.to_name(NET), parameters, hints=(), lifetime_ms=1000)
        answer = await net.again(wire)
        assert answer.code in ("bad-request", "unknown-domain") and answer.error
    assert await net.shout(PASSAGE) == PASSAGE.upper()


def test_an_answer_in_clear_is_not_believed(tmp_path: Path) -> None:
    """Whoever may sign answers, but is no member, could otherwise make some up."""
    signer = keychain_in(tmp_path, "decode").signer_for(role("decode"))
    name = ndn.from_uri("/call")

    def data(answer: CallAnswer, epoch: DomainEpoch | None = None, of: ndn.Name = name) -> bytes:
        content = records.encode(answer)
        return signer.sign_data(name, content if epoch is None else epoch.seal_answer(of, content), freshness_ms=0)

    for clear in (CallAnswer(value=b"x"), CallAnswer(result="/x"), CallAnswer(code="busy", value=b"x")):
        with pytest.raises(BadRecord, match="in clear"):
            _open(decode_data(data(clear)), MEMBER.newest)
    assert _open(decode_data(data(CallAnswer(code="busy"))), MEMBER.newest).code == "busy"
    assert _open(decode_data(data(CallAnswer(value=b"x"), MEMBER.newest)), MEMBER.newest).value == b"x"
    for wrong in (data(CallAnswer(value=b"x"), MEMBER.at(1)), data(CallAnswer(value=b"x"), MEMBER.newest, name + name)):
        with pytest.raises(TrustError):
            _open(decode_data(wrong), MEMBER.newest)


class Owner:
    """The asker's machine, which owns a domain and answers for its key records."""

    def __init__(self, net: Net, folder: Path) -> None:
        net.asker.keychain.ensure(role("domain"))
        self.net, self.node, self.shop = net, net.asker, DomainStore(folder)
        self.signer = net.asker.keychain.signer_for(role("domain"))
        self.records = OwnedRecords(NET, net.asker.server, self.shop, self._offer)
        self.versions = itertools.count(7)

    async def _offer(self, prefix: ndn.Name, _: ndn.Name) -> None:
        server, keys = self.node.server, role("domain") + ndn.generic("KEY")
        server.serve(prefix, self.signer)
        server.answer_certificates(keys, self.node.keychain.certificates)
        for name in (prefix, keys):
            await self.node.registrar.register(name)

    async def change(self, domain: DomainFile) -> DomainFile:
        """Issue it, offer it, and wait until caches have forgotten what was before."""
        record = domain_store.issue(domain, NET, self.signer, next(self.versions))
        with self.shop.locked():
            self.shop.save(domain)
            self.shop.save_record(domain, domain_store.pack(record, ()))
        await self.records.refresh()
        await asyncio.sleep(1.2 * domain_store.RECORD_FRESHNESS_MS / 1000)
        return domain


async def test_members_join_by_name_and_others_do_not(net: Net, tmp_path: Path) -> None:
    owner, theirs = Owner(net, tmp_path / "owner"), DomainStore(tmp_path / "member")
    with theirs.locked():
        key = theirs.make_encryption_key(role("decode"))
    member = DomainMember(ndn.to_uri(role("decode")), key.public)
    domain = await owner.change(domain_store.create("acme", role("domain")))
    renewal = Renewal(NET, net.producer.fetcher, theirs)
    with pytest.raises(MissingKey):
        await renewal.join(domain.domain)
    with pytest.raises(NetworkError):
        await renewal.join("0" * 32)
    domain = await owner.change(domain_store.add(domain, [member]))
    assert not await renewal.renew(domain.domain), "not in it yet: nobody can make us look"
    joined = await renewal.join(domain.domain)
    assert joined is not None and (joined.keys, joined.name) == (domain.keys, "acme")
    assert await renewal.join(domain.domain) is None, "nothing newer"


async def test_a_member_that_is_asked_in_a_new_epoch_finds_its_key(net: Net, tmp_path: Path) -> None:
    """Made while both run. One without the member: its key does not open for it, and it says so."""
    owner, theirs = Owner(net, tmp_path / "owner"), DomainStore(tmp_path / "member")
    with theirs.locked():
        key = theirs.make_encryption_key(role("decode"))
    member = DomainMember(ndn.to_uri(role("decode")), key.public)
    first = await owner.change(domain_store.add(domain_store.create("acme", role("domain")), [member]))
    renewal = Renewal(NET, net.producer.fetcher, theirs)
    await renewal.join(first.domain)
    assert net.producer.access is not None and net.asker.access is not None
    net.producer.access.load, net.producer.access.renew = theirs.tenants, renewal.renew
    net.asker.access.load = owner.shop.tenants

    second = await owner.change(domain_store.remove(first, ()))
    assert await net.shout(PASSAGE, tenant_of(second).newest.label) == PASSAGE.upper()
    assert theirs.find("acme").keys == second.keys and len(second.keys) == 2

    third = await owner.change(domain_store.remove(second, [member.identity]))
    renewal._asked.clear()  # as if some time had passed
    with pytest.raises(CallError) as refused:
        await net.shout(PASSAGE, tenant_of(third).newest.label)
    assert refused.value.code == "unknown-domain" and len(theirs.find("acme").keys) == 2


async def test_the_public_status_record_counts_nothing_that_tenants_do(net: Net) -> None:
    """Whoever reads it before and after a private call learns that there was a call, not how much was in it."""
    await net.shout("public", "public")
    question = DirectAsk(role("tokenize"), STATUS, StatusQuery())

    async def counters() -> dict[str, float]:
        told = await net.asker.caller.direct.ask(question, ProducerStatus)
        return {counter.name: counter.value for counter in told.record.counters}

    before = await counters()
    assert before["letters"] == len("public")
    for text in ("a" * 10, "b" * 1000):
        await net.shout(text, LABEL)
    await asyncio.sleep(0.6)  # caches keep a status record for half a second
    after = await counters()
    changed = {name for name in after if after[name] != before.get(name, 0)}
    assert changed <= {"calls", "answers"}
    assert net.done[LABEL] == 2
