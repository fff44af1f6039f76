"""Records of answers of a real engine (small, random weights), over a real forwarder core: what they say can be
computed again from what anybody can fetch, and who wants none has none."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ndn_infer import ndn, records
from ndn_infer.errors import Nacked
from ndn_infer.evidence import answer as evidence
from ndn_infer.evidence import dsse
from ndn_infer.evidence.answer import AnswerClaim
from ndn_infer.functions import answer_records
from ndn_infer.namespace import AnswerRecord, Result, function_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import GenerateRequest, Sampling, TokenEvent
from ndn_infer.records.receipt import Receipt
from ndn_infer.security.domains import PUBLIC, Domain, SealBroken, TenantDomain, parse_request
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.engine_kit import engine_here
from tests.harness import NET, role
from tests.inprocess.test_streams import until
from tests.integration.test_answers import MODEL, World, folder, world  # noqa: F401

MEMBER = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(range(32))})
PROMPT = tuple(range(5, 45))
BLOCK = 16


@pytest.fixture
async def w(tmp_path: Path, folder: Path) -> AsyncIterator[World]:  # noqa: F811
    async with world(tmp_path / "keys", folder, block_tokens=BLOCK) as found:
        for node in (found.producer, found.reader):
            node.domains.append(MEMBER)
        yield found


async def ask(w: World, sampling: Sampling, domain: str = PUBLIC.label, **options: object) -> tuple[Name, list[bytes]]:
    """The stream's name, and its events as they came."""
    request = GenerateRequest(sampling, prompt=PROMPT, engine=engine_here(w.reader.config.engine))
    call = Ask(("model", MODEL), "generate", request, domain, **options)  # type: ignore[arg-type]
    events, name = [], b""
    async for event, answered in w.reader.caller.stream(call, TokenEvent):
        events.append(records.encode(event))
        name = ndn.from_uri(answered.answer.result)
    return name, events


async def fetched(w: World, base: Name, domain: Domain = PUBLIC) -> bytes:
    found = await w.reader.fetcher.fetch(base, most=MAX_OBJECT_BYTES)
    assert found.signed_by.identity == role("decode")
    return domain.open(base, found.content)


def result_of(stream: Name) -> Result:
    result = Result.parse(NET, ndn.prefix(stream, -1))
    assert result is not None
    return result


async def claimed(w: World, stream: Name, domain: Domain = PUBLIC) -> AnswerClaim:
    claim, envelopes = evidence.decode(await fetched(w, result_of(stream).record().to_name(NET), domain))
    key = w.producer.keychain.signer_for(role("decode")).public_der
    assert dsse.verify(envelopes.statement, key) and dsse.verify(envelopes.link, key)
    return claim


async def test_a_record_says_what_can_be_computed_again(w: World) -> None:
    sampling = Sampling(12, 0.8, seed=3, ignore_eos=True)
    stream, events = await ask(w, sampling, context="/a/context/" + "ab" * 32)
    claim = await claimed(w, stream)
    told = [records.decode(TokenEvent, event) for event in events]
    ids = [token for event in told for token in event.ids]
    last = told[-1]
    assert claim.stream == ndn.to_uri(stream) and claim.answer.finish == "length" == last.finish
    assert claim.answer.events_sha256 == hashlib.sha256(b"".join(events)).hexdigest()
    assert claim.answer.ids_sha256 == evidence.ids_digest(ids) and claim.answer.tokens == len(ids) == 12
    assert claim.sampling == sampling and claim.engine == engine_here(w.reader.config.engine)
    assert (claim.producer, claim.model_digest) == (ndn.to_uri(role("decode")), MODEL)
    assert claim.prompt.tokens == len(PROMPT) and claim.prompt.sha256 == evidence.ids_digest(PROMPT)
    assert claim.prompt.last_block.split("/")[-2] == PUBLIC.label and claim.context_digest == "ab" * 32
    assert (claim.kv, claim.receipt) == (last.kv, last.receipt) and claim.kv.recomputed == len(PROMPT) // BLOCK
    request = await fetched(w, result_of(stream).asked().to_name(NET))
    assert hashlib.sha256(request).hexdigest() == claim.request == result_of(stream).request
    assert records.decode(GenerateRequest, request).prompt == PROMPT
    found = await w.reader.fetcher.discover(AnswerRecord.to_name(result_of(stream).record(), NET))
    assert found.manifest is not None and found.manifest.name[-10:] == stream[-10:], "its version is the stream's"


async def test_kv_that_was_there_is_named_with_its_source(w: World) -> None:
    first, _ = await ask(w, Sampling(40, ignore_eos=True))
    assert not (await claimed(w, first)).kv_blocks
    second, events = await ask(w, Sampling(3, ignore_eos=True))
    claim = await claimed(w, second)
    assert claim.kv.local == len(claim.kv_blocks) == len(PROMPT) // BLOCK
    assert [block.index for block in claim.kv_blocks] == list(range(claim.kv.local))
    assert {block.source for block in claim.kv_blocks} == {"local"}
    receipt = records.decode(TokenEvent, events[-1]).receipt
    assert receipt is not None and receipt.prompt.local == claim.kv.local * BLOCK
    base = ndn.from_uri(claim.kv_blocks[0].uri)
    assert (await w.reader.fetcher.discover(base)).manifest is not None


async def test_receipts_sum_to_what_the_producer_counts(w: World) -> None:
    receipts: list[Receipt] = []
    for seed in range(3):
        _, events = await ask(w, Sampling(9, 0.5, seed=seed, ignore_eos=True))
        receipt = records.decode(TokenEvent, events[-1]).receipt
        assert receipt is not None
        assert receipt.bytes_out == sum(map(len, events[:-1])) and receipt.bytes_in > 4 * len(PROMPT)
        assert receipt.output_tokens == 9 and receipt.prompt.total == len(PROMPT)
        assert receipt.decode_us > 0 and (receipt.prefill_us > 0 or receipt.prompt.computed <= BLOCK)
        receipts.append(receipt)
    counters = w.producer.counters
    assert counters["receipts"] == 3
    for name in ("prefill_us", "decode_us", "helpers_us", "output_tokens", "bytes_in", "bytes_out"):
        assert counters[f"receipt_{name}"] == sum(getattr(one, name) for one in receipts), name
    assert counters["receipt_prompt_tokens"] == 3 * len(PROMPT)
    again, _ = await ask(w, Sampling(9, 0.5, seed=0, ignore_eos=True))
    assert counters["receipts"] == 3, "an answer that is there takes nothing"


async def test_a_private_answers_record_is_sealed(w: World) -> None:
    stream, _ = await ask(w, Sampling(4, ignore_eos=True), MEMBER.newest.label)
    result, epoch = result_of(stream), MEMBER.newest
    with pytest.raises(SealBroken):
        epoch.open(
            ndn.from_uri("/elsewhere"),
            (await w.reader.fetcher.fetch(result.record().to_name(NET), most=MAX_OBJECT_BYTES)).content,
        )
    claim = await claimed(w, stream, epoch)
    assert claim.domain == epoch.label and claim.caller == ndn.to_uri(role("user"))
    wire = await fetched(w, result.asked().to_name(NET))  # sealed as it came: nothing to open
    assert hashlib.sha256(wire).hexdigest() == result.request
    prefix = function_prefix(NET, "model", MODEL, "generate")
    plain = epoch.open_request(prefix, ndn.from_uri(claim.caller), parse_request(wire))
    assert records.decode(GenerateRequest, plain).prompt == PROMPT


async def nobody_has(w: World, base: Name) -> bool:
    try:
        return (await w.reader.fetcher.discover(base)).manifest is None
    except Nacked:
        return True


async def test_who_wants_no_record_has_none(w: World) -> None:
    stream, events = await ask(w, Sampling(4, ignore_eos=True), evidence=False)
    assert records.decode(TokenEvent, events[-1]).receipt is not None
    for base in (result_of(stream).record().to_name(NET), result_of(stream).asked().to_name(NET)):
        assert await nobody_has(w, base)


async def test_a_producer_may_make_none(tmp_path: Path, folder: Path) -> None:  # noqa: F811
    async with world(tmp_path / "keys", folder, records="off", block_tokens=BLOCK) as w:
        stream, _ = await ask(w, Sampling(5, ignore_eos=True))
        assert await nobody_has(w, result_of(stream).record().to_name(NET))
        assert w.producer.counters["records"] == 0


async def test_a_record_leaves_with_its_answer(w: World) -> None:
    stream, _ = await ask(w, Sampling(4, ignore_eos=True))
    await claimed(w, stream)
    store, result = w.producer.server.store, result_of(stream)
    assert result.record().to_name(NET) in store and result.asked().to_name(NET) in store
    store.remove(result.to_name(NET))
    assert result.record().to_name(NET) not in store and result.asked().to_name(NET) not in store


async def test_a_record_is_signed_when_somebody_asks_for_it(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or where so many answers came after it that no more are remembered; never without its stream."""
    counters, store = w.producer.counters, w.producer.server.store
    first, _ = await ask(w, Sampling(4, ignore_eos=True))
    assert counters["records"] == 0
    assert (await claimed(w, first)).answer.tokens == 4 and counters["records"] == 1
    await claimed(w, first)
    assert counters["records"] == 1, "it is made once"
    second, _ = await ask(w, Sampling(5, ignore_eos=True))
    store.remove(result_of(second).to_name(NET))
    assert await nobody_has(w, result_of(second).record().to_name(NET)) and counters["records"] == 1
    monkeypatch.setattr(answer_records, "MOST_ANSWERS", 1)
    third, _ = await ask(w, Sampling(6, ignore_eos=True))
    await ask(w, Sampling(7, ignore_eos=True))
    await until(lambda: counters["records"] == 2)
    assert result_of(third).record().to_name(NET) in store
