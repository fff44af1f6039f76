"""What strangers ask costs strangers: silent certificates, silent inputs and rubbish leave seats, windows and answers
to honest callers. Over a real forwarder core, counted, not timed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config
from ndn_infer.errors import Busy, CallError, NdnInferError, NetworkError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.functions.producer import Producer
from ndn_infer.functions.tokenize import Text
from ndn_infer.namespace import Call, CallClass, Input, TokenBlock
from ndn_infer.ndn.packet import SignatureInfo, decode_interest, encode_interest
from ndn_infer.records import CallAnswer, Envelope, Record, TokenizeRequest
from ndn_infer.security.domains import SealedRequest, TenantDomain
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.calls import input_pull
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.harness import NET, Node, keychain_in, role

MEMBER = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(32)})
LABEL = MEMBER.newest.label
SUBJECT = ("model", "ab" * 32)
SILENT = NET + b"".join(map(ndn.generic, ("evil", "n1", "user")))
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=20.0))


class Shout(NamedFunction[TokenizeRequest]):
    function, role, request_type, subject, private = "tokenize", "tokenize", TokenizeRequest, SUBJECT, True

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        return Text(request.text.upper())


class Gather(NamedFunction[TokenizeRequest]):
    """Pulls what the request names at its caller, as prefill does."""

    function, role, request_type, subject = "detokenize", "tokenize", TokenizeRequest, SUBJECT

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        if not request.text.startswith("pull"):
            return Text(request.text)
        hints = (ndn.from_uri(job.envelope.caller),)
        bases = [TokenBlock(SUBJECT[1], "public", f"{number:064x}").to_name(NET) for number in range(110)]
        async with job.pulling() as fetcher:
            await asyncio.gather(*(fetcher.fetch(base, most=MAX_OBJECT_BYTES, hints=hints) for base in bases))
        return Text("never")


class Endless(NamedFunction[TokenizeRequest]):
    """Streams that go on until somebody ends them, of which an engine takes so many."""

    function, role, request_type, subject, private = "generate", "decode", TokenizeRequest, SUBJECT, True
    places = CONFIG.producer.queue_limit

    def __init__(self) -> None:
        self.streams: list[LiveStream] = []

    async def run(self, request: TokenizeRequest, job: Job) -> LiveStream:
        if sum(not stream.closed for stream in self.streams) >= self.places:
            raise Busy("the engine is full")
        self.streams.append(job.open_stream())
        return self.streams[-1]


@dataclass
class Net:
    network: MemoryNetwork
    producer: Node
    asker: Node
    attacker: Node
    offered: Producer
    keychain: Keychain
    servers: list[FunctionServer] = field(default_factory=list)

    async def shout(self, text: str, domain: str = "public", function: str = "tokenize") -> str:
        request = TokenizeRequest(text=text)
        return (await self.asker.caller.call(Ask(SUBJECT, function, request, domain), Text)).text

    def attack(self, call: Call, envelope: Envelope, *, info: SignatureInfo | None = None) -> asyncio.Task[CallAnswer]:
        """One Interest of the attacker; the task has the answer in clear."""
        wire, name = encode_interest(
            call.to_name(NET), nonce=os.urandom(4), must_be_fresh=True, lifetime_ms=4000,
            parameters=records.encode(envelope), info=info, signer=(lambda _: bytes(64)) if info else None,
        )  # fmt: skip

        async def answer() -> CallAnswer:
            data, _ = await self.attacker.endpoint.exchange(wire, name)
            return records.decode(CallAnswer, data.content)

        return asyncio.get_running_loop().create_task(answer())


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    keychain = keychain_in(tmp_path / "keys", "tokenize", "decode", "user")
    network = MemoryNetwork()
    producer = await Node(network, keychain, CONFIG, asks_as="tokenize", domains=[MEMBER]).open()
    asker = await Node(network, keychain, CONFIG, asks_as="user", domains=[MEMBER]).open()
    hurried = replace(CONFIG, call=replace(CONFIG.call, deadline_s=1.0))  # who is told that all is busy waits no longer
    attacker = await Node(network, keychain, hurried).open()
    offered = await producer.produce(Shout(), Gather())
    await attacker.registrar.register(SILENT)
    attacker.endpoint.attach(SILENT, lambda request: None)  # a route that is silent
    yield Net(network, producer, asker, attacker, offered, keychain, offered._servers)
    await offered.close()
    for node in (asker, attacker, producer):
        await node.close()
    network.close()


def call_of(request: bytes, kind: CallClass = CallClass.SHARED, function: str = "tokenize") -> Call:
    return Call(*SUBJECT, function, kind, hashlib.sha256(request).hexdigest())


async def settled(tasks: list[asyncio.Task[CallAnswer]]) -> list[CallAnswer]:
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for error in found:
        assert not isinstance(error, BaseException) or isinstance(error, NdnInferError), error
    return [answer for answer in found if isinstance(answer, CallAnswer)]


# ---------------------------------------------------------------- certificates that nobody serves


async def test_a_sealed_request_in_a_shared_call_is_refused_as_such(net: Net) -> None:
    """Whatever its size: a large one is not decoded before it takes a seat."""
    for size in (300, 6000):
        sealed = records.encode(SealedRequest(LABEL, os.urandom(size)))
        (answer,) = await settled([net.attack(call_of(sealed), Envelope(sealed))])
        assert answer.code == "bad-request" and "a sealed request in a shared call" in answer.error
    assert net.producer.counters["calls"] == 0


async def test_private_callers_pass_a_crowd_whose_certificates_never_come(net: Net) -> None:
    """Those whose key is known wait for nobody, and a newcomer's certificate comes before its place is needed."""
    flood = []
    for number in range(300):
        key = SILENT + b"".join(map(ndn.generic, ("KEY", f"{number:08x}", "root"))) + ndn.version(number)
        info = SignatureInfo(5, key, nonce=os.urandom(8), time_ms=int(time.time() * 1000))
        flood.append(net.attack(call_of(b"%d" % number, CallClass.PRIVATE), Envelope(b"%d" % number), info=info))
    await asyncio.sleep(0.05)
    assert net.producer.access is not None and 32 < len(net.producer.access.askers) <= 64
    assert await net.shout("first", LABEL) == "FIRST", "a newcomer from another face"
    texts = [f"text {number}" for number in range(20)]
    assert await asyncio.gather(*(net.shout(text, LABEL) for text in texts)) == [text.upper() for text in texts]
    assert net.producer.counters["answers"] <= 300 + 21
    refused = await settled(flood)
    assert {answer.code for answer in refused} <= {"busy", "unreachable"}
    for _ in range(200):
        if not net.producer.access.askers and not net.producer.validator._fetcher._tasks:
            break
        await asyncio.sleep(0.05)
    assert len(net.producer.access.askers) == 0 == len(net.producer.validator._fetcher._tasks)


async def test_an_unsigned_private_call_is_refused_before_anything_waits(net: Net) -> None:
    for answer in await settled([net.attack(call_of(b"x", CallClass.PRIVATE), Envelope(b"x"))]):
        assert answer.code == "bad-request" and "not signed" in answer.error
    assert net.producer.access is not None and len(net.producer.access.askers) == 0


# ---------------------------------------------------------------- inputs that nobody serves


async def test_silent_sources_take_no_seat_and_slow_no_other_fetching(net: Net) -> None:
    window, flood = net.producer.fetcher.window, []
    for number in range(200):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        source = ndn.to_uri(Input("evil", "n1", "user", "0a", digest).to_name(NET))
        envelope = Envelope(sources=(source,), caller=ndn.to_uri(SILENT))
        flood.append(net.attack(Call(*SUBJECT, "tokenize", CallClass.SHARED, digest), envelope))
    await asyncio.sleep(0.05)
    assert [server._admission.seats.taken for server in net.servers] == [0, 0]
    large = "large " * 3000
    assert await net.shout(large) == large.upper()
    assert net.producer.fetcher.window == window and net.producer.fetcher.stats.timeouts == 0
    for task in flood:
        task.cancel()


async def test_an_input_that_does_not_come_is_no_defect(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told that it could not be reached, and asks another or again."""
    monkeypatch.setattr(input_pull, "SILENCE_S", 0.1)
    digest = "ab" * 32
    source = ndn.to_uri(Input("evil", "n1", "user", "0a", digest).to_name(NET))
    for limit_s in (10.0, 0.05):
        monkeypatch.setattr(input_pull, "DEADLINE_S", limit_s)
        envelope = Envelope(sources=(source,), caller=ndn.to_uri(SILENT))
        (answer,) = await settled([net.attack(Call(*SUBJECT, "tokenize", CallClass.SHARED, digest), envelope)])
        assert answer.code == "unreachable" and "keys" not in answer.error


async def test_work_that_waits_for_a_silent_caller_holds_no_seat(net: Net) -> None:
    """110 names at a caller that is routed and silent, 200 times over."""
    window, flood = net.producer.fetcher.window, []
    for number in range(200):
        request = records.encode(TokenizeRequest(text=f"pull {number}"))
        flood.append(net.attack(call_of(request, function="detokenize"), Envelope(request, caller=ndn.to_uri(SILENT))))
    for _ in range(100):
        await asyncio.sleep(0.05)
        if 0 < len(net.servers[1]._work) <= input_pull.MAX_PULLS:
            break
    assert all(server._admission.seats.taken == 0 for server in net.servers)
    assert 0 < len(net.servers[1]._work) <= input_pull.MAX_PULLS
    texts = [f"text {number}" for number in range(20)]
    assert await asyncio.gather(*(net.shout(text, function="detokenize") for text in texts)) == texts
    assert net.producer.fetcher.window == window and net.producer.fetcher.stats.timeouts == 0
    for task in flood:
        task.cancel()


@pytest.mark.parametrize("first", ["attacker", "victim"])
async def test_wrong_sources_of_somebody_else_do_not_make_a_call_fail(net: Net, first: str) -> None:
    text = "contract " * 1000
    request = records.encode(TokenizeRequest(text=text))
    digest = hashlib.sha256(request).hexdigest()
    source = ndn.to_uri(Input("evil", "n1", "user", "0a", digest).to_name(NET))
    envelopes = [
        Envelope(sources=(source,), caller=ndn.to_uri(SILENT)),
        Envelope(sources=("/somewhere/else",), caller="/x"),
        Envelope(sources=(source,), caller="not a name"),
    ]
    call = call_of(request)
    victim = asyncio.ensure_future(net.shout(text)) if first == "victim" else None
    await asyncio.sleep(0)
    flood = [net.attack(call, envelope) for envelope in envelopes]
    await asyncio.sleep(0.01)
    assert await (victim or net.shout(text)) == text.upper()
    for task in flood:
        task.cancel()


async def test_sources_are_inputs_of_the_digest_and_nothing_else_is_fetched(net: Net) -> None:
    before = net.producer.endpoint.stats.interests_out
    digest = "ab" * 32
    other = Input("home", "n1", "user", "0a", "cd" * 32).to_name(NET)
    for source in ("/somewhere/else", ndn.to_uri(other), "no name\0", ndn.to_uri(SILENT)):
        call = Call(*SUBJECT, "tokenize", CallClass.SHARED, digest)
        (answer,) = await settled([net.attack(call, Envelope(sources=(source,)))])
        assert answer.code == "bad-request"
    assert net.producer.endpoint.stats.interests_out == before


async def test_an_input_is_measured_by_its_manifest_before_any_of_it_is_asked_for(net: Net) -> None:
    assert net.asker.inputs is not None
    content = bytes(3 << 20)
    published = await net.asker.inputs.publish(content)
    names: list[ndn.Name] = []
    net.asker.link.tamper_down = lambda wire: names.append(_name(wire)) or wire  # type: ignore[func-returns-value]
    call = Call(*SUBJECT, "tokenize", CallClass.SHARED, hashlib.sha256(content).hexdigest())
    (answer,) = await settled([net.attack(call, Envelope(sources=(published.source,), caller=published.hint))])
    assert answer.code == "bad-request" and str(len(content)) in answer.error
    assert names and not any(ndn.component_type(ndn.components(name)[-1]) == ndn.SEGMENT for name in names)


def _name(wire: bytes) -> ndn.Name:
    from ndn_infer.ndn import lp, tlv

    fragment = lp.decode_lp(wire).fragment
    return decode_interest(fragment).name if fragment[:1] == bytes((tlv.INTEREST,)) else ndn.from_uri("/other")


# ---------------------------------------------------------------- rubbish


async def test_rubbish_is_refused_with_words_up_to_a_rate_then_with_nacks(net: Net) -> None:
    call = call_of(b"x")
    flood = [net.attack(call, Envelope(os.urandom(8))) for _ in range(400)]
    answers = await settled(flood)
    assert 0 < len(answers) <= 80 and {answer.code for answer in answers} == {"bad-request"}
    assert await net.shout("x") == "X"


async def test_streams_that_one_stranger_reads_leave_places_to_others(net: Net) -> None:
    """A stream holds the seat of its call until it ends: nobody has an engine's whole queue."""
    endless = Endless()
    await net.offered.offer(endless, net.keychain.signer_for(role("decode")))

    async def asked(node: Node, number: int, domain: str = "public") -> bool:
        try:
            await node.caller.start(Ask(SUBJECT, "generate", TokenizeRequest(text=f"{id(node)} {number}"), domain))
        except CallError as error:
            assert error.code == "busy"
            return False
        return True

    net.attacker.caller._config = replace(CONFIG.call, deadline_s=1.0)  # whoever is told `busy` asks again until then
    had = sum(await asyncio.gather(*(asked(net.attacker, number) for number in range(Endless.places + 1))))
    assert 0 < had < 0.7 * Endless.places
    assert await asked(net.asker, 1) and await asked(net.asker, 2, LABEL)
    for stream in endless.streams:
        stream.abandon()
    assert net.offered._servers[-1]._admission.seats.taken == 0


async def test_a_seat_is_there_for_known_keys_when_strangers_have_taken_theirs(net: Net) -> None:
    server = net.servers[0]
    while server._admission.seats.take("strangers", known=False) or server._admission.seats.take(
        os.urandom(4), known=False
    ):
        pass
    net.asker.caller._config = replace(CONFIG.call, deadline_s=1.0)  # whoever is told `busy` asks again until then
    with pytest.raises((CallError, NetworkError)):
        await net.shout("public")
    net.asker.caller._config = CONFIG.call
    assert await net.shout("private", LABEL) == "PRIVATE"


async def test_a_talkative_producer_logs_each_call_and_nothing_of_what_is_in_it(
    net: Net, caplog: pytest.LogCaptureFixture
) -> None:
    """`up -v` said nothing about requests."""
    with caplog.at_level(logging.INFO, logger="ndn_infer"):
        assert await net.shout("a secret", LABEL) == "A SECRET"
        assert await net.shout("a secret") == "A SECRET"
    said = [line for line in caplog.messages if line.startswith("tokenize: call ")]
    assert [line.rpartition(", ")[2] for line in said] == ["private", "done", "shared", "done"]
    assert "secret" not in caplog.text.lower()
