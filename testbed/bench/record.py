"""What a record of an answer costs: to make and sign it, at the end of an answer, and before its first token.

Making: in this process, claims with no, 64 and 512 named KV blocks, each step by itself. Asking: decode as a process of
its own, the same questions with records and without, in turns; what differs is the switch in the envelope alone. Then
how long after its last event the record can be read. Owns: the questions, the figures. Docs: docs/evidence.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Final

from ndn_infer import ndn
from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.config import Config
from ndn_infer.evidence import answer as evidence
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.answer import AnswerClaim, AskedPrompt, ToldAnswer
from ndn_infer.evidence.answer_kv import PEER, KvInput
from ndn_infer.local.network import CommonFlags, ServedParts, embedded
from ndn_infer.local.prepare import prepared
from ndn_infer.namespace import Result
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import ModelRecord, Sampling
from ndn_infer.records.receipt import PromptTokens, Receipt
from ndn_infer.security.crypto import PrivateKey, Signer
from ndn_infer.testbed.bench.ask import prompt
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, build_object

NET: Final = "/ndn-infer/local"
HEX: Final = "0123456789abcdef" * 4
BLOCKS: Final = (0, 64, 512)
TOKENS: Final = 32
TIMES: Final = 200


def run(options: argparse.Namespace, config: Config) -> int:
    ensure_keys(config)
    prepared(config, config.ask.model)
    figures = {"runs": options.runs, "answer_tokens": TOKENS}
    for blocks in BLOCKS:
        figures |= making(blocks)
    asked = asyncio.run(
        asking(config, CommonFlags(options.config, options.settings), 4 if options.quick else 10 * options.runs)
    )
    ratios = {
        f"{name}_with_over_without": asked[f"with_{name}"] / asked[f"without_{name}"]
        for name in ("ttft_ms", "total_ms")
    }
    print_report("record", {**figures, **asked}, {}, ratios)
    return 0


def claim_of(blocks: int) -> AnswerClaim:
    """Of a prompt with so many named KV blocks."""
    result = f"{NET}/model/{HEX}/result/generate/{HEX}"
    decode, kv = f"{NET}/home/n1/decode", f"{NET}/model/{HEX}/kv/public/raw.bf16.bf16.llama-torch-3.grouped.avx512"
    ids = tuple(range(100, 100 + 16 * blocks + 40))
    return AnswerClaim(
        f"{result}/v=1700000000000000", f"{result}/request", HEX, f"{NET}/model/{HEX}", "generate", decode,
        "bf16.bf16.llama-torch-3.grouped.avx512.raw", Sampling(TOKENS, seed=7), AskedPrompt.of(ids, 0),
        ToldAnswer(HEX, HEX, TOKENS, "length"),
        kv_blocks=tuple(
            KvInput(index, f"{kv}/{index:064x}/0-29", 1_700_000_000_000_000, PEER, decode) for index in range(blocks)
        ),
        receipt=Receipt("bf16", PromptTokens(peer=16 * blocks, computed=40), TOKENS, 9000, 90_000, 0, 900, 9000),
    )  # fmt: skip


def making(blocks: int) -> dict[str, float]:
    """Microseconds of CPU, medians of TIMES: the statement, a signature, the whole record, its packets."""
    key, name = PrivateKey.generate(), ndn.from_uri(f"{NET}/home/n1/decode")
    signer = Signer.of(key, name, name + ndn.generic("KEY"))
    claim, base = claim_of(blocks), ndn.from_uri(f"{NET}/record")
    payload, record = statement.encode(evidence.statement_of(claim)), evidence.encode(claim, signer)
    said = dsse.sign(payload, signer)
    parts: dict[str, Callable[[], object]] = {
        "statement": lambda: statement.encode(evidence.statement_of(claim)),
        "sign": lambda: dsse.sign(payload, signer),
        "verify": lambda: dsse.verify(said, key.public_der),
        "record": lambda: evidence.encode(claim, signer),
        "object": lambda: build_object(base, 1, record, signer.sign_data),
        "read": lambda: evidence.decode(record),
    }
    return {f"blocks_{blocks}_bytes": len(record)} | {
        f"blocks_{blocks}_{part}_us": _median_us(work) for part, work in parts.items()
    }


def _median_us(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return statistics.median(taken) * 1e6


async def asking(config: Config, flags: CommonFlags, questions: int) -> dict[str, float]:
    """Milliseconds, medians, with records and without; where what follows an answer is its record and nothing else."""
    served = ServedParts(["tokenize", "decode"], [config.ask.model], config.ask.embedder)
    network = embedded(config, served, flags, private=True)
    await network.start()
    try:
        async with await Node.join(config, ensure_keys(config), uri=network.uri) as node:
            return await _asked(node, questions)
    finally:
        await network.stop()


async def _asked(node: Node, questions: int) -> dict[str, float]:
    conversation = Client(node).conversation()
    model = await conversation.resolve_model(node.config.ask.model)
    await _one(conversation, model, -1)  # connections, certificates, allocations
    rows: dict[str, list[Answer]] = {"with": [], "without": []}
    until_record = []
    for number in range(2 * questions):
        way = ("with", "without")[(number + number // 2) % 2]  # neither is always the first of a pair
        conversation.evidence = way == "with"
        answer = await _one(conversation, model, number)
        rows[way].append(answer)
        if way == "with":
            until_record.append(await _until_record(node, conversation, answer))
    found = {"until_record_ms": statistics.median(until_record) * 1000}
    for way, answers in rows.items():
        found[f"{way}_ttft_ms"] = statistics.median(one.timing.first_token_s for one in answers) * 1000
        found[f"{way}_total_ms"] = statistics.median(one.timing.total_s for one in answers) * 1000
    found["added_ttft_ms"] = found["with_ttft_ms"] - found["without_ttft_ms"]
    found["added_total_ms"] = found["with_total_ms"] - found["without_total_ms"]
    return found


async def _one(conversation: Conversation, model: ModelRecord, number: int) -> Answer:
    answer = conversation.generate(model, prompt(number), Sampling(TOKENS, ignore_eos=True))
    async for _ in answer:
        pass
    return answer


async def _until_record(node: Node, conversation: Conversation, answer: Answer) -> float:
    """Seconds from the last event until the answer's record is here, verified."""
    began = time.perf_counter()
    result = Result.parse(node.net, ndn.prefix(ndn.from_uri(answer.stream_name), -1))
    assert result is not None
    base = result.record().to_name(node.net)
    found = await conversation.fetcher.await_object(base, hints=(answer.by,), deadline_s=10.0)
    content = (await conversation.fetcher.collect(found, most=MAX_OBJECT_BYTES, hints=(answer.by,))).content
    taken = time.perf_counter() - began
    claim, _ = evidence.decode(content)
    if claim.stream != answer.stream_name:
        raise AssertionError(f"the record of {answer.stream_name} is about {claim.stream}")
    return taken
