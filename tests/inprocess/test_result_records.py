"""Records of results that are no answers of a model: signed when somebody asks, verified, off where they are off."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

import pytest

from ndn_infer import clock, ndn, records
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, Nacked
from ndn_infer.evidence import result as evidence
from ndn_infer.evidence.bundle import BundleNote, EvidenceBundle
from ndn_infer.evidence.explain_result import explain_result
from ndn_infer.evidence.judge import State, Trust, digest_of
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions import result_records
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.tokenize import Text
from ndn_infer.namespace import Result
from ndn_infer.ndn.name import Name
from ndn_infer.node.node import trust_schema
from ndn_infer.records import Record, Request
from ndn_infer.records.bounds import AtMost
from ndn_infer.security import domains
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, build_object
from tests.harness import NET, Node, keychain_in, role

SUBJECT = ("service", "shout")
LARGE = 20_000


@dataclass(frozen=True, slots=True)
class Words(Request):
    text: Annotated[str, AtMost(100)] = ""


class Shout(NamedFunction[Words]):
    function, role, request_type, subject = "shout", "shout", Words, SUBJECT

    async def run(self, request: Words, job: Job) -> Record:
        return Text(request.text.upper() * (LARGE if request.text == "a" else 1))


class World:
    def __init__(self, keychain: Keychain, config: Config) -> None:
        self.network, self.keychain, self.config = MemoryNetwork(), keychain, config

    async def open(self) -> World:
        self.maker = await Node(self.network, self.keychain, self.config).open()
        self.reader = await Node(self.network, self.keychain, self.config, asks_as="user").open()
        self.producer = await self.maker.produce(Shout())
        return self

    async def close(self) -> None:
        await self.producer.close()
        await self.reader.close()
        await self.maker.close()
        self.network.close()

    async def ask(self, text: str, *, evidence: bool = True) -> tuple[Text, Result]:
        request = Words(text)
        value = await self.reader.caller.call(Ask(SUBJECT, "shout", request, evidence=evidence), Text)
        return value, Result(*SUBJECT, "shout", hashlib.sha256(records.encode(request)).hexdigest())

    async def reader_has(self, result: Result) -> bool:
        return await self._packets(result.record().to_name(NET)) != []

    async def _packets(self, name: Name) -> list[bytes]:
        """Of the object of this name; none where nobody has it."""
        try:
            found = await self.reader.fetcher.discover(name, patient=False)
            packets = await self.reader.fetcher.packets(found, most=MAX_OBJECT_BYTES)
        except Nacked:
            return []
        return [packets.metadata, *packets.packets.values()]

    async def bundle(self, result: Result) -> EvidenceBundle:
        bundle = EvidenceBundle(BundleNote(ndn.to_uri(result.to_name(NET))))
        for name in (result.record(), result.asked(), result):
            bundle.add(*await self._packets(name.to_name(NET)))
        bundle.add(*(one.wire for one in self.keychain.certificates() if not one.self_signed))
        return bundle

    def trust(self) -> Trust:
        return Trust(trust_schema(self.config, NET), self.keychain.anchor, clock.wall_s(), lambda label: pytest.fail())


@pytest.fixture(scope="module")
def keychain(tmp_path_factory: pytest.TempPathFactory) -> Keychain:
    return keychain_in(tmp_path_factory.mktemp("keys"), "shout", "user")


@pytest.fixture
async def world(keychain: Keychain) -> AsyncIterator[World]:
    world = await World(keychain, Config()).open()
    yield world
    await world.close()


@pytest.mark.parametrize("text", ["hello", "a"])
async def test_a_record_is_signed_when_somebody_asks_for_it(world: World, text: str) -> None:
    """Of a result in the answer itself, and of one that is an object."""
    value, result = await world.ask(text)
    assert world.maker.counters["records"] == 0
    bundle = await world.bundle(result)
    assert world.maker.counters["records"] == 1
    explanation = await explain_result(bundle, result, world.trust())
    assert explanation.state is State.VERIFIED, explanation.plain()
    record, request = explanation.answer.parts[:2]
    assert record.facts["sha256"] == digest_of(records.encode(value)) and request.kind == "request"
    assert record.signer.endswith("/shout")
    await world.bundle(result)
    assert world.maker.counters["records"] == 1

    name = result.asked().to_name(NET)
    other = await world.bundle((await world.ask("other"))[1])
    bundle.packets = {packet: wire for packet, wire in bundle.packets.items() if not packet.startswith(name)}
    bundle.packets |= {packet: wire for packet, wire in other.packets.items() if b"request" in packet}
    assert (await explain_result(bundle, result, world.trust())).state is not State.VERIFIED


async def test_a_result_that_does_not_verify_is_broken_and_damage_is_noted(world: World) -> None:
    _, result = await world.ask("a")
    bundle = await world.bundle(result)
    segment = max(bundle.below(result.to_name(NET)), key=lambda data: len(data.wire))
    middle = len(segment.wire) // 2
    bundle.packets[segment.name] = (
        segment.wire[:middle] + bytes([segment.wire[middle] ^ 1]) + segment.wire[middle + 1 :]
    )
    bundle.lacking = 2
    explanation = await explain_result(bundle, result, world.trust())
    assert explanation.answer.state is State.BROKEN and "is not the one" in explanation.answer.why
    assert any("lacks 2" in note for note in explanation.notes)
    del bundle.packets[segment.name]
    assert (await explain_result(bundle, result, world.trust())).state is State.VERIFIED  # who asked has the value


async def test_a_sealed_result_is_not_proven(world: World) -> None:
    """A domain's key is not here, so nothing can be compared."""
    _, result = await world.ask("hello")
    bundle = await world.bundle(result)
    signer = world.keychain.signer_for(role("shout"))
    sealed = build_object(result.to_name(NET), 1 << 60, domains._FORMAT + bytes(60), signer.sign_data)
    bundle.add(sealed.metadata, *sealed.packets.values())
    assert (await explain_result(bundle, result, world.trust())).answer.state is State.UNPROVEN


async def test_what_is_off_has_no_record(keychain: Keychain, world: World) -> None:
    _, declined = await world.ask("quietly", evidence=False)
    assert not await world.reader_has(declined)
    config = replace(world.config, producer=replace(world.config.producer, records="off"))
    other = await World(keychain, config).open()
    _, off = await other.ask("hello")
    assert not await other.reader_has(off)
    await other.close()


async def test_so_many_are_remembered_and_the_oldest_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_records, "MOST_RESULTS", 2)
    results = [(await world.ask(text))[1] for text in ("one", "two", "three")]
    assert [await world.reader_has(result) for result in results] == [False, True, True]


def test_another_form_of_a_record_is_refused(keychain: Keychain) -> None:
    claim = evidence.ResultClaim(
        "/n/result", "ab" * 32, "/n/request", "cd" * 32, "/n/model/" + "ef" * 32, "model", "tokenize",
        "/n/a/b/tokenize", "bf16", "/n/evidence/" + "01" * 32,
    )  # fmt: skip
    signer = keychain.signer_for(NET + ndn.from_uri("/home/n1/user"))
    content = evidence.encode(claim, signer)
    assert evidence.decode(content)[0] == claim
    said = evidence.statement_of(claim)
    for wrong in (
        replace(said, predicate={**said.predicate, "more": 1}),
        replace(said, predicate={**said.predicate, "engine": 5}),
        replace(said, subject=said.subject * 2),
    ):
        with pytest.raises(BadRecord):
            evidence.claim_of(wrong)
    first, _, _ = content.partition(b"\n")
    other = evidence.encode(replace(claim, request="11" * 32), signer).partition(b"\n")[2]
    with pytest.raises(BadRecord, match="something else"):
        evidence.decode(first + b"\n" + other)
