"""Answers and KV computed again: honest ones pass, a dishonest producer is proven to be one, by the verdict alone."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ndn_infer import clock, ndn, records  # noqa: E402
from ndn_infer.config import Config  # noqa: E402
from ndn_infer.engine.tokenizer import ChatTokenizer  # noqa: E402
from ndn_infer.errors import BadRecord, FetchIncomplete, LeftOut, TrustError, UsageError  # noqa: E402
from ndn_infer.evidence import dsse, statement  # noqa: E402
from ndn_infer.evidence.bundle import BundleNote, EvidenceBundle  # noqa: E402
from ndn_infer.evidence.verdict import EXACT, FAILED, PASSED, AuditVerdict  # noqa: E402
from ndn_infer.functions.audit.auditor import Auditor, envelope_of  # noqa: E402
from ndn_infer.functions.audit.proof_check import check_proof  # noqa: E402
from ndn_infer.functions.audit.published_answer import answer_in, base_of  # noqa: E402
from ndn_infer.functions.audit.sample import AuditSample  # noqa: E402
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.namespace import Call  # noqa: E402
from ndn_infer.node.faults import FaultFile  # noqa: E402
from ndn_infer.node.node import trust_schema  # noqa: E402
from ndn_infer.offers.live.chooser import OfferChooser  # noqa: E402
from ndn_infer.offers.live.faults import Faults  # noqa: E402
from ndn_infer.offers.live.offers import Offers, Where  # noqa: E402
from ndn_infer.records import GenerateRequest, Sampling, TokenEvent  # noqa: E402
from ndn_infer.security.keychain import Keychain  # noqa: E402
from ndn_infer.security.validator import Validator  # noqa: E402
from ndn_infer.transport.calls.ask import Ask  # noqa: E402
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES  # noqa: E402
from tests.audit_kit import KINDS, AuditWorld, Engines, audit_world  # noqa: E402
from tests.harness import NET, keychain_in, role  # noqa: E402

TOKENS = 16
QUICK = ("weights", "edit", "kv")
QUESTION = "Tell me in a few words how a lighthouse works, and who looks after it when there is a storm at sea."


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keychain(keys: Path) -> Keychain:
    return keychain_in(keys, "decode", "prefill", "user", "audit")


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


async def nothing(*_: object) -> object:
    raise TrustError("no network")


async def third(world: AuditWorld, keychain: Keychain, verdict: AuditVerdict) -> str:
    """What somebody says who has the verdict's bytes, the anchor and the model, and no network."""

    content = envelope_of(verdict, keychain.signer_for(role("audit")))
    read = AuditVerdict.of(statement.decode(dsse.decode(content).payload))
    validator = Validator(trust_schema(world.config, NET), keychain.anchor, nothing)  # type: ignore[arg-type]
    try:
        return await check_proof(read, validator, world.audit)
    finally:
        await validator.aclose()


def third_process(file: Path, keys: Path, folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """`audit --verify` on a machine that has the anchor and the model, and no forwarder."""
    config = replace(Config(), paths=replace(Config().paths, data_dir=str(folder / "data"), cache_dir=str(cache)))
    config = replace(config, network=replace(config.network, net=ndn.to_uri(NET)))
    shutil.copytree(keys, config.keys_dir)
    settings = (f"paths.data_dir={folder / 'data'}", f"paths.cache_dir={cache}", f"network.net={ndn.to_uri(NET)}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NDN_CLIENT_TRANSPORT": "unix:///nowhere.sock"}
    return subprocess.run(
        [sys.executable, "-m", "ndn_infer", "audit", "--verify", str(file), "--json",
         *(f"--set={setting}" for setting in settings)],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.mark.parametrize("share", [1.0, 0.25])
async def test_honest_answers_and_their_kv_pass(world: AuditWorld, share: float) -> None:
    async with world.producing():
        for request in (asked(world, logprobs=2), asked(world, seed=7)):
            answer = await world.fetch(await world.ask(request))
            verdict = await world.auditor.tokens(answer, AuditSample(share, 3))
            assert (verdict.result, verdict.method, verdict.fault) == (PASSED, EXACT, None)
            assert verdict.units == len(answer.said.ids)
            spans = AuditSample(share, 3).spans(len(request.prompt), verdict.units, world.config.engine.block_tokens)
            assert verdict.checked == (verdict.units if share == 1.0 else sum(end - first for first, end in spans))
            kv = await world.auditor.kv(answer, AuditSample(share, 3))
            assert (kv.result, kv.fault) == (PASSED, None) and kv.checked > 0


async def test_an_answer_that_was_kept_is_computed_without_a_network(world: AuditWorld, keychain: Keychain) -> None:
    async with world.producing():
        answer = await world.fetch(await world.ask(asked(world, seed=7)))
        base, _ = base_of(answer.name)
        request = await world.consumer.fetcher.discover(base + ndn.generic("request"))
    bundle = EvidenceBundle(BundleNote(answer.uri))
    bundle.add(request.data.wire, *(one.wire for one in keychain.certificates()))
    validator = Validator(trust_schema(world.config, NET), keychain.anchor, nothing)  # type: ignore[arg-type]
    with pytest.raises(FetchIncomplete, match="not all"):
        await answer_in(bundle, validator)
    bundle.add(*(segment.wire for segment in answer.segments))
    kept = await answer_in(bundle, validator)
    assert (kept.digest, kept.request, kept.said, kept.uri) == (answer.digest, answer.request, answer.said, answer.uri)
    alone = Auditor(None, validator, world.audit)
    for share in (1.0, 0.1):
        verdict = await alone.tokens(kept, AuditSample(share, 1))
        assert (verdict.result, verdict.checked) == (PASSED, verdict.units)
    with pytest.raises(UsageError, match="network"):
        await alone.kv(kept, AuditSample())
    bundle.packets[answer.segments[0].name] = answer.segments[0].wire[:-1] + b"?"
    with pytest.raises(TrustError):
        await answer_in(bundle, validator)
    await validator.aclose()


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
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
async def test_one_wrong_number_in_one_signed_block(
    world: AuditWorld, keychain: Keychain, off: str, keys: Path, tmp_path: Path, model_cache: Path
) -> None:  # fmt: skip
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
    if off == "much":
        file = tmp_path / "verdict.json"
        file.write_bytes(envelope_of(verdict, keychain.signer_for(role("user"))))
        done = await asyncio.to_thread(third_process, file, keys, tmp_path, model_cache)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["identity"] == ndn.to_uri(role("decode"))
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


async def test_the_role_audits_what_it_hears_of_and_who_is_at_fault_is_left_out(
    world: AuditWorld, keychain: Keychain
) -> None:  # fmt: skip
    async with world.producing("seed"), world.auditing() as (auditor, function, host):
        signer = keychain.signer_for(role("audit"))
        await world.ask(asked(world, seed=7))
        assert await function.look(host, signer, random.Random(1)) == 1
        assert host.counters["audits_failed"] == 1
        assert await function.look(host, signer, random.Random(1)) == 0

        known = FaultFile(world.consumer.config)
        faults = Faults(known, [role("audit")])
        await faults.ask(world.consumer.caller.direct)
        assert "token" in faults.why(role("decode")) and not faults.why(role("audit"))
        (fault,) = known.all()
        assert fault.until_us > clock.wall_us()

        found = await world.consumer.fetcher.fetch(ndn.from_uri(fault.verdict), most=MAX_OBJECT_BYTES)
        verdict = AuditVerdict.of(statement.decode(dsse.decode(bytes(found.content)).payload))
        assert await third(world, keychain, verdict)

        offers = Offers(Where.of(NET, world.consumer.endpoint, world.consumer.validator, auditor.config))
        await offers.look()
        chooser = OfferChooser(offers, faults)
        request = asked(world, seed=8)
        call = Call("model", world.model, "generate", "shared", "ab" * 32)
        assert [entry.identity for entry in offers.entries()] != [] and chooser.order(call, request) == []
        assert OfferChooser(offers).order(call, request) != []
        caller = world.consumer.joined.caller(chooser=chooser)
        with pytest.raises(LeftOut, match="left out"):
            async with asyncio.timeout(60):
                async for _ in caller.stream(Ask(("model", world.model), "generate", request), TokenEvent):
                    pytest.fail("an answer of who is left out")
        await offers.close()
