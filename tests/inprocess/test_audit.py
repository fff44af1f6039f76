"""Answers and KV computed again: honest ones pass, a dishonest producer is proven to be one, by the verdict alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ndn_infer import ndn, records  # noqa: E402
from ndn_infer.engine.tokenizer import ChatTokenizer  # noqa: E402
from ndn_infer.errors import BadRecord, TrustError  # noqa: E402
from ndn_infer.evidence import dsse, statement  # noqa: E402
from ndn_infer.evidence.verdict import EXACT, FAILED, PASSED, AuditVerdict  # noqa: E402
from ndn_infer.functions.audit.answer_check import AuditSample  # noqa: E402
from ndn_infer.functions.audit.auditor import envelope_of  # noqa: E402
from ndn_infer.functions.audit.proof_check import check_proof  # noqa: E402
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.node.node import trust_schema  # noqa: E402
from ndn_infer.records import GenerateRequest, Sampling  # noqa: E402
from ndn_infer.security.keychain import Keychain  # noqa: E402
from ndn_infer.security.validator import Validator  # noqa: E402
from tests.audit_kit import KINDS, AuditWorld, Engines, audit_world  # noqa: E402
from tests.harness import NET, keychain_in, role  # noqa: E402

TOKENS = 16
QUESTION = "Tell me in a few words how a lighthouse works, and who looks after it when there is a storm at sea."


@pytest.fixture(scope="module")
def keychain(tmp_path_factory: pytest.TempPathFactory) -> Keychain:
    return keychain_in(tmp_path_factory.mktemp("keys"), "decode", "prefill", "user", "audit")


@pytest.fixture(scope="module")
def engines(smollm2: ModelFolder) -> Engines:
    return Engines(smollm2.path)


@pytest.fixture
async def world(smollm2: ModelFolder, keychain: Keychain, engines: Engines) -> AsyncIterator[AuditWorld]:
    async with audit_world(smollm2, keychain, engines) as world:
        yield world


def asked(world: AuditWorld, *, seed: int = 0, logprobs: int = 0) -> GenerateRequest:
    ids = ChatTokenizer.load(world.folder).apply_chat([{"role": "user", "content": QUESTION}])
    sampling = Sampling(max_tokens=TOKENS, temperature=0.9 if seed else 0.0, seed=seed, logprobs=logprobs)
    return GenerateRequest(sampling, tuple(ids), world.engine)


async def third(world: AuditWorld, keychain: Keychain, verdict: AuditVerdict) -> str:
    """What somebody says who has the verdict's bytes, the anchor and the model, and no network."""

    async def nothing(*_: object) -> object:
        raise TrustError("no network")

    content = envelope_of(verdict, keychain.signer_for(role("audit")))
    read = AuditVerdict.of(statement.decode(dsse.decode(content).payload))
    validator = Validator(trust_schema(world.config, NET), keychain.anchor, nothing)  # type: ignore[arg-type]
    try:
        return await check_proof(read, validator, world.audit)
    finally:
        await validator.aclose()


@pytest.mark.parametrize("share", [1.0, 0.25])
async def test_honest_answers_and_their_kv_pass(world: AuditWorld, share: float) -> None:
    async with world.producing():
        for request in (asked(world, logprobs=2), asked(world, seed=7)):
            answer = await world.fetch(await world.ask(request))
            verdict = await world.auditor.tokens(answer, AuditSample(share, 3))
            assert (verdict.result, verdict.method, verdict.fault) == (PASSED, EXACT, None)
            assert verdict.units == len(answer.said.ids) and verdict.checked == -(-verdict.units * share // 1)
            kv = await world.auditor.kv(answer, AuditSample(share, 3))
            assert (kv.result, kv.fault) == (PASSED, None) and kv.checked > 0


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_dishonest_producer_did_is_found_and_proven(
    world: AuditWorld, keychain: Keychain, kind: str
) -> None:  # fmt: skip
    async with world.producing(kind):
        answer = await world.fetch(await world.ask(asked(world, seed=7, logprobs=2)))
        kv = kind == "kv"
        verdict = await (world.auditor.kv if kv else world.auditor.tokens)(answer, AuditSample())
    assert verdict.result == FAILED and verdict.fault is not None
    assert verdict.fault.identity == ndn.to_uri(role("decode"))
    assert verdict.fault.kind == ("kv" if kv else verdict.fault.kind)
    assert await third(world, keychain, verdict)


async def test_a_proof_about_an_honest_answer_does_not_hold(world: AuditWorld, keychain: Keychain) -> None:
    """An auditor that lies: the packets are those of an honest answer, the fault is made up."""
    async with world.producing("seed"):
        verdict = await world.auditor.tokens(await world.fetch(await world.ask(asked(world, seed=7))), AuditSample())
    async with world.producing():
        honest = await world.fetch(await world.ask(asked(world, seed=8)))
    assert verdict.proof is not None and verdict.fault is not None
    packets = tuple(segment.wire for segment in honest.segments)
    forged = replace(verdict, proof=replace(verdict.proof, packets=packets, request=honest.request_wire))
    with pytest.raises(BadRecord, match="right as far as"):
        await third(world, keychain, forged)
    other = replace(verdict, fault=replace(verdict.fault, identity="/ndn-infer/local/home/n2/decode"))
    with pytest.raises(BadRecord, match="not by the accused"):
        await third(world, keychain, other)
    wire = bytearray(verdict.proof.packets[0])
    wire[-1] ^= 1
    broken = replace(verdict, proof=replace(verdict.proof, packets=(bytes(wire), *verdict.proof.packets[1:])))
    with pytest.raises(TrustError):
        await third(world, keychain, broken)


@pytest.mark.parametrize("off", ["much", "a little"])
async def test_one_wrong_number_in_one_signed_block(world: AuditWorld, keychain: Keychain, off: str) -> None:
    async with world.producing() as node:
        request = asked(world, seed=7)
        answer = await world.fetch(await world.ask(request))
        check = world.auditor.kv_check
        blocks = await check.compute(request.prompt)
        wrong = blocks[1].clone()
        numbers = wrong[11, 0, 1, 5]
        numbers[7] = numbers[7] + (8.0 if off == "much" else numbers[7].abs() * 2**-6)
        base = check.base(check.values(request.prompt)[1])
        node.server.publish(base, check.encode(wrong), keychain.signer_for(role("decode")))
        verdict = await world.auditor.kv(answer, AuditSample())
    assert verdict.result == FAILED and verdict.fault is not None and verdict.proof is not None
    assert (verdict.fault.kind, verdict.fault.index) == ("kv", 1)
    assert verdict.fault.identity == ndn.to_uri(role("decode"))
    assert len(verdict.proof.packets) == 2
    assert await third(world, keychain, verdict)
    honest = replace(verdict, proof=replace(verdict.proof, packets=verdict.proof.packets[:1]))
    with pytest.raises(BadRecord):
        await third(world, keychain, honest)


async def test_an_edited_text_is_found(world: AuditWorld, keychain: Keychain) -> None:
    """Right tokens under another text."""
    async with world.producing():
        answer = await world.fetch(await world.ask(asked(world, seed=7)))
    said = replace(answer.said, text=answer.said.text + "!")
    verdict = await world.auditor.tokens(replace(answer, said=said), AuditSample(0.2, 1))
    assert verdict.fault is not None and verdict.fault.kind == "text"


def test_requests_and_replies_of_auditors_travel() -> None:
    from ndn_infer.records.audit import AuditRequest

    request = AuditRequest("/a/b", 0.5, 3, kv=True)
    assert records.decode(AuditRequest, records.encode(request)) == request
