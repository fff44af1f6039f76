"""Strangers against a tenant: attempts to get a byte that depends on what a tenant asked, made up by a generator.

    python -m tests.load.strangers 10000 [--seed N]

Two worlds run the same attempts: all is equal in them but the tenant's secret, which has the same length. Whatever a
stranger gets in one of them must be what it gets in the other, apart from what is sealed, from digests of what is
sealed, and from times. Besides, nothing that a stranger gets may hold a piece of the secret, in any of the forms in
which functions give it out.

A stranger hears every packet. It asks all functions, in both classes, at all subjects, with and without a key of the
network, with envelopes that it heard, changed or cut down to names; it fetches by prefix whatever name it heard;
and it goes on after the producer was started again with what had been left in its store.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config
from ndn_infer.errors import NdnInferError, Timeout
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.namespace import Call, CallClass, Input, Instance, asks_prefix
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import Data, decode_data, decode_interest, encode_interest
from ndn_infer.records import CallAnswer, Envelope, GenerateRequest, Record, TokenEvent, TokenizeRequest
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.security.domains import SealedRequest, TenantDomain, is_sealed, is_sealed_request
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.transport.trust.presence import StatusQuery
from ndn_infer.wire import again
from ndn_infer.wire.shares import Allowance
from tests.harness import NET, Node, keychain_in, role

ID: Final = "00112233445566778899aabbccddeeff"
MEMBER: Final = TenantDomain(ID, {1: bytes(range(32)), 2: bytes(range(32, 64))})
MODEL: Final = ("model", "ab" * 32)
SUBJECTS: Final = (MODEL, ("model", "cd" * 32), ("service", "tokenize"))
CONFIG: Final = replace(Config(), call=replace(CallConfig(), deadline_s=20.0))
BATCH: Final = 100
LIFETIME_MS: Final = 600
SECRETS: Final = ("the merger with Initech is off; ", "the merger with Hooli is signed;")


class Shout(NamedFunction[TokenizeRequest]):
    function, role, request_type, subject, private = "tokenize", "tokenize", TokenizeRequest, MODEL, True

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        return Text(request.text.upper())


class Repeat(NamedFunction[DetokenizeRequest]):
    """A result too large for an answer."""

    function, role, request_type, subject, private = "detokenize", "tokenize", DetokenizeRequest, MODEL, True

    async def run(self, request: DetokenizeRequest, job: Job) -> Record:
        return Text("".join(map(chr, request.ids)) * 300)


class Spell(NamedFunction[GenerateRequest]):
    function, role, request_type, subject, private = "generate", "decode", GenerateRequest, MODEL, True

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        out = job.open_stream()
        for token in request.prompt[:8]:
            out.append(records.encode(TokenEvent((token,), "".join(map(chr, request.prompt)))))
        out.append(records.encode(TokenEvent((), "", finish="stop")), final=True)
        return out


class Slow(NamedFunction[PrefillRequest]):
    """Work that goes on while strangers ask."""

    function, role, request_type, subject, private = "prefill", "prefill", PrefillRequest, MODEL, True
    patience_s = 0.01

    async def run(self, request: PrefillRequest, job: Job) -> Record:
        await asyncio.Event().wait()
        return PrefillReport(len(request.blocks), 0)


class Plain(Shout):
    """Takes no private calls."""

    function, role, private = "embed", "embed", False


FUNCTIONS: Final = ("tokenize", "detokenize", "generate", "prefill", "embed")


def requests_with(secret: str) -> list[tuple[str, Record]]:
    """What the tenant asks: small and large, inline and as an Input."""
    ids = tuple(map(ord, secret))
    digests = tuple(hashlib.sha256(f"{secret}{number}".encode()).hexdigest() for number in range(3))
    return [
        ("tokenize", TokenizeRequest(text=secret)),
        ("tokenize", TokenizeRequest(text=secret * 300)),
        ("detokenize", DetokenizeRequest(ids=ids)),
        ("detokenize", DetokenizeRequest(ids=ids * 60)),
        ("generate", GenerateRequest(prompt=ids)),
        ("generate", GenerateRequest(prompt=ids * 60)),
        ("prefill", PrefillRequest(blocks=digests, codec="x", block_tokens=16)),
    ]


@dataclass
class World:
    """Producer, member and strangers around one forwarder, and every packet that passed."""

    secret: str
    folder: Path
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    store: ObjectStore = field(default_factory=lambda: ObjectStore(1 << 30))
    wire: list[bytes] = field(default_factory=list)
    sealed: set[Name] = field(default_factory=set)

    async def open(self) -> World:
        keychain = keychain_in(self.folder, "tokenize", "decode", "prefill", "embed", "user", "rag")
        self.keychain = keychain
        self.member = await Node(self.network, keychain, CONFIG, asks_as="user", domains=[MEMBER]).open()
        self.member.link.tamper_up = self._listen
        # A stranger has a key of the network, and no key of the domain.
        self.stranger = await Node(self.network, keychain, CONFIG, asks_as="rag").open()
        assert self.stranger.inputs is not None
        await self.stranger.inputs.announce()
        await self.start()
        return self

    def _listen(self, wire: bytes) -> bytes:
        self.wire.append(lp.decode_lp(wire).fragment)
        return wire

    async def start(self) -> None:
        """The producer, with what is in its store."""
        self.node = Node(self.network, self.keychain, CONFIG, asks_as="decode", domains=[MEMBER])
        await self.node.open()
        self.node.server.store = self.store
        self.node.endpoint.answer_from(self.store.segment, lambda name: None)
        self.node.link.tamper_up = self._listen
        self.producer: Producer = await self.node.produce(Shout(), Repeat(), Spell(), Slow(), Plain())
        for server in self.producer._servers:
            server._replies._refusals = Allowance(1e9, 1e9)

    async def ask(self) -> None:
        """The tenant's calls. The one that takes long goes on."""
        for function, request in requests_with(self.secret):
            for label in (MEMBER.newest.label, MEMBER.at(1).label):
                if function == "generate":
                    stream = self.member.caller.stream(Ask(MODEL, function, request, label), TokenEvent)
                    assert [event.finish async for event, _ in stream][-1] == "stop"
                elif function == "prefill":
                    await self.member.caller.start(Ask(MODEL, function, request, label))
                else:
                    text = (await self.member.caller.call(Ask(MODEL, function, request, label), Text)).text
                    assert self.secret.upper() in text or self.secret in text

    async def restart(self) -> None:
        await self.producer.close()
        await self.node.close()
        await self.start()

    async def close(self) -> None:
        for node in (self.stranger, self.member):
            await node.close()
        await self.producer.close()
        await self.node.close()
        self.network.close()

    # ------------------------------------------------------------ what was heard

    def note_sealed(self) -> None:
        """Objects that hold nothing in clear: their later segments do not say so themselves."""
        for store in (self.store, self.member.server.store):
            for base in store.bases():
                packets = store.get(base)
                assert packets is not None
                content = packets.content()
                if is_sealed(content) or is_sealed_request(content):
                    self.sealed.add(packets.manifest.name)

    def heard(self) -> Heard:
        self.note_sealed()
        interests = [packet for packet in self.wire if packet and packet[0] == tlv.INTEREST]
        calls: list[bytes] = []
        names: dict[Name, None] = {}
        for packet in interests:
            interest = decode_interest(packet)
            if Call.parse_prefix(NET, interest.name) and interest.parameters:
                calls.append(packet)
            names[interest.name] = None
        answers = [decode_data(packet).name for packet in self.wire if packet and packet[0] == tlv.DATA]
        # How far ahead of a stream its reader asks follows the machine's speed: what nobody answered is left out.
        answered = [name for name in names if any(answer.startswith(name) for answer in answers)]
        return Heard(calls, [name for name in dict.fromkeys([*answered, *answers]) if name.startswith(NET)])


@dataclass(frozen=True)
class Heard:
    calls: list[bytes]
    names: list[Name]


Attempt = Callable[[World, Heard], tuple[bytes, Name, bool]]
"""Makes an Interest: its wire, its name, and whether it can be a prefix."""


def attempts(draw: random.Random, count: int, makers: Sequence[Maker]) -> list[tuple[str, Attempt]]:
    """What strangers try: a title and how it is made of what is heard, the same in every world."""
    return [draw.choice(makers)(random.Random(draw.getrandbits(64))) for _ in range(count)]


def _pick(draw: random.Random, items: list[Any]) -> Any:
    return items[int(draw.random() * len(items))]


def resent(draw: random.Random) -> tuple[str, Attempt]:
    """An Interest as it was."""
    at = draw.random()

    def make(world: World, heard: Heard) -> tuple[bytes, Name, bool]:
        wire = heard.calls[int(at * len(heard.calls))]
        return wire, decode_interest(wire).name, False

    return "resent", make


def changed(draw: random.Random) -> tuple[str, Attempt]:
    """An envelope that was heard, under another name, in another class, by another asker, or only named."""
    subject, function, kind = draw.choice(SUBJECTS), draw.choice(FUNCTIONS), draw.choice(list(CallClass))
    signed, form, seed = (
        draw.random() < 0.4,
        draw.choice(("whole", "named", "republished", "relabelled")),
        draw.random(),
    )
    keep_name, salt = draw.random() < 0.6, draw.choice((0, 0, 1, 7))

    def make(world: World, heard: Heard) -> tuple[bytes, Name, bool]:
        interest = decode_interest(heard.calls[int(seed * len(heard.calls))])
        parsed = Call.parse_prefix(NET, interest.name)
        assert parsed is not None and interest.parameters is not None
        call, envelope = parsed[0], records.decode(Envelope, interest.parameters)
        envelope = _reformed(world, form, envelope, call, heard)
        request = call.request
        if envelope.request:
            request = hashlib.sha256(envelope.request).hexdigest()
        target = (call.subject_kind, call.subject, call.function) if keep_name else (*subject, function)
        name = Call(*target, kind, request).to_name(NET)
        parameters = records.encode(replace(envelope, salt=salt))
        if signed:
            assert world.stranger.access is not None
            wire, full = world.stranger.access.sign(name, parameters, hints=(), lifetime_ms=LIFETIME_MS)
        else:
            wire, full = encode_interest(
                name, nonce=os.urandom(4), must_be_fresh=True, lifetime_ms=LIFETIME_MS, parameters=parameters
            )
        return wire, full, False

    return f"changed:{form}:{kind.value}:{'signed' if signed else 'unsigned'}", make


def _reformed(world: World, form: str, envelope: Envelope, call: Call, heard: Heard) -> Envelope:
    inputs = [ndn.to_uri(name[: name.index(METADATA)]) for name in heard.names if METADATA in name and _input(name)]
    mine = [uri for uri in inputs if call.request in uri]
    if form == "named" and mine:
        return replace(envelope, request=b"", sources=tuple(mine[:1]), caller=mine[0].rpartition("/input/")[0])
    if form == "republished" and envelope.request:
        assert world.stranger.inputs is not None
        instance = Instance.parse(NET, world.stranger.inputs.instance)
        assert instance is not None
        base = Input(instance.site, instance.node, instance.role, instance.instance, call.request).to_name(NET)
        signer = world.keychain.signer_for(role("rag"))
        if base not in world.stranger.server.store:
            world.stranger.server.publish(base, envelope.request, signer)
        hint = ndn.to_uri(world.stranger.inputs.instance)
        return replace(envelope, request=b"", sources=(ndn.to_uri(base),), caller=hint)
    if form == "relabelled" and envelope.request:
        try:
            sealed = records.decode(SealedRequest, envelope.request)
        except NdnInferError:
            return envelope
        label = "public" if len(sealed.sealed) % 512 else MEMBER.at(1).label
        return replace(envelope, request=records.encode(replace(sealed, domain=label)))
    return envelope


def _input(name: Name) -> bool:
    return Input.parse(NET, name[: name.index(METADATA)]) is not None


def named(draw: random.Random) -> tuple[str, Attempt]:
    """A name that was heard, or a beginning of it, with or without CanBePrefix and discovery."""
    seed, cut, prefix = draw.random(), draw.choice((0, 0, 1, 2, 3, 5)), draw.random() < 0.7
    discover, segment = draw.random() < 0.3, draw.choice((None, None, 0, 1, 5))

    def make(world: World, heard: Heard) -> tuple[bytes, Name, bool]:
        name = heard.names[int(seed * len(heard.names))]
        parts = ndn.components(name)
        name = b"".join(parts[: max(len(parts) - cut, 4)])
        if discover:
            name += METADATA
        elif segment is not None:
            name += ndn.segment(segment)
        wire, full = encode_interest(
            name, nonce=os.urandom(4), can_be_prefix=prefix, must_be_fresh=draw.random() < 0.5, lifetime_ms=LIFETIME_MS
        )
        return wire, full, prefix

    return "named", make


def result_of(draw: random.Random) -> tuple[str, Attempt]:
    """The result of a call that was heard, at any function."""
    seed, function, tail = draw.random(), draw.choice(FUNCTIONS), draw.choice((METADATA, b"", ndn.segment(0)))

    def make(world: World, heard: Heard) -> tuple[bytes, Name, bool]:
        parsed = Call.parse_prefix(NET, decode_interest(heard.calls[int(seed * len(heard.calls))]).name)
        assert parsed is not None
        name = replace(parsed[0], function=function).result().to_name(NET) + tail
        wire, full = encode_interest(name, nonce=os.urandom(4), can_be_prefix=True, lifetime_ms=LIFETIME_MS)
        return wire, full, True

    return "result", make


def status(draw: random.Random) -> tuple[str, Attempt]:
    who = draw.choice(("tokenize", "decode", "prefill", "embed"))

    def make(world: World, heard: Heard) -> tuple[bytes, Name, bool]:
        name, parameters = asks_prefix(role(who)) + ndn.generic("status"), records.encode(StatusQuery())
        wire, full = encode_interest(
            name, nonce=os.urandom(4), parameters=parameters, must_be_fresh=True, lifetime_ms=LIFETIME_MS
        )
        return wire, full, True

    return "status", make


Maker = Callable[[random.Random], tuple[str, Attempt]]
MAKERS: Final[tuple[Maker, ...]] = (
    resent, changed, changed, changed, changed, changed, named, named, named, result_of, status,
)  # fmt: skip


# ---------------------------------------------------------------- what came back


_TIMES: Final = re.compile(r"v=\d+|\b[0-9a-f]{64}\b|\b[0-9a-f]{16}\b|params-sha256=[0-9a-f]+|32=again/[^/]*")


def shape(world: World, data: Data) -> tuple[str, ...]:
    """What a packet says, without what differs between two runs anyway: sealed bytes, digests, times, keys."""
    name = _TIMES.sub("*", ndn.to_uri(data.name))
    content = data.content
    if again.parse(data.name) is not None:  # a packet in a packet, for who asks past caches
        return (name, *shape(world, decode_data(content))[1:])
    if is_sealed(content) or ndn.prefix(data.name, -1) in world.sealed:
        return (name, f"sealed {len(content)}")
    if METADATA in data.name and not data.name.endswith(METADATA):
        return (name, "metadata", str(len(content)))
    if b"KEY" in data.name:
        return (name, "certificate")
    try:
        answer = records.decode(CallAnswer, content)
    except NdnInferError:
        return (name, "bytes", hashlib.sha256(content).hexdigest())
    if ndn.generic("ask") + ndn.generic("status") in data.name:
        return (name, "status", *_counters(answer.value))
    fields = (answer.code, _TIMES.sub("*", answer.error), answer.value.hex(), _TIMES.sub("*", answer.result))
    return (name, *fields, str(answer.stream), str(answer.queue))


def _counters(content: bytes) -> tuple[str, ...]:
    """Names of counters in a status record; that their values tell nothing is another test's matter."""
    return tuple(sorted({found.decode() for found in re.findall(rb"tokens?_[a-z]+|texts_[a-z]+", content)}))


@dataclass
class Report:
    tried: int = 0
    answered: int = 0
    leaks: list[str] = field(default_factory=list)
    titles: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{self.tried} attempts, {self.answered} of them answered with Data, {len(self.leaks)} leaks"]
        lines += [f"  {title}: {count}" for title, count in sorted(self.titles.items())]
        return "\n".join([*lines, *self.leaks[:20]])


async def _try(world: World, heard: Heard, attempt: Attempt) -> Data | None:
    wire, name, prefix = attempt(world, heard)
    try:
        data, _ = await world.stranger.endpoint.exchange(
            wire, name, can_be_prefix=prefix, lifetime_s=LIFETIME_MS / 1000
        )
    except (Timeout, NdnInferError):
        return None
    return data


async def campaign(count: int, seed: int, makers: Sequence[Maker] = MAKERS) -> Report:
    """`count` attempts in each of two worlds, a third of them after a restart of the producer."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        worlds = [await World(secret, Path(folder) / str(number)).open() for number, secret in enumerate(SECRETS)]
        try:
            for world in worlds:
                await world.ask()
            tried = attempts(random.Random(seed), count, makers)
            heard = [world.heard() for world in worlds]
            assert len(heard[0].calls) == len(heard[1].calls) and len(heard[0].names) == len(heard[1].names)
            for start in range(0, count, BATCH):
                if start <= count * 2 // 3 < start + BATCH:
                    for world in worlds:
                        await world.restart()
                batch = tried[start : start + BATCH]
                got = [
                    await asyncio.gather(*(_try(world, known, attempt) for _, attempt in batch))
                    for world, known in zip(worlds, heard, strict=True)
                ]
                for (title, _), one, other in zip(batch, *got, strict=True):
                    _judge(report, worlds, title, one, other)
                for world in worlds:
                    world.note_sealed()
        finally:
            for world in worlds:
                await world.close()
    return report


def _judge(report: Report, worlds: list[World], title: str, one: Data | None, other: Data | None) -> None:
    report.tried += 1
    report.titles[title] += 1
    report.answered += one is not None
    for data, secret in ((one, SECRETS[0]), (other, SECRETS[1])):
        for piece in (secret, secret.upper(), secret[:12], secret.upper()[:12]):
            if data is not None and piece.encode() in data.content:
                report.leaks.append(f"{title}: {ndn.to_uri(data.name)} holds the secret")
    if one is None or other is None:
        return
    first, second = shape(worlds[0], one), shape(worlds[1], other)
    if first == second:
        return
    if title in ("named", "result") and _harmless(first) and _harmless(second):
        return  # of several names below one prefix a cache chose by their digests
    report.leaks.append(f"{title}: {first} differs from {second}")


def _harmless(found: tuple[str, ...]) -> bool:
    """Sealed, a certificate, sizes of what is sealed, or a refusal: (name, code, text, no value, no result, ...)."""
    refusal = len(found) > 4 and found[1] != "" and found[3] == found[4] == ""
    return found[1].startswith(("sealed", "metadata", "certificate")) or refusal


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="strangers", description="attempts to read what a tenant asked")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    report = asyncio.run(campaign(options.count, options.seed))
    print(report)
    return bool(report.leaks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
