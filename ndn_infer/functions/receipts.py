"""What goes into the receipt of an answer.

Owns: which tokens of a prompt came from where, and how an engine's costs become whole numbers. Must not know: how costs
are measured (engine/step_costs.py), who is told.
"""

from __future__ import annotations

from collections import Counter

from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.records import KvSources
from ndn_infer.records.receipt import Energy, PromptTokens, Receipt


def prompt_tokens(total: int, sources: KvSources, block_tokens: int, shared_blocks: int = 0) -> PromptTokens:
    """The `total` tokens of a prompt by source; `shared_blocks` of it other streams of the engine had computed."""
    left = total

    def take(blocks: int) -> int:
        nonlocal left
        tokens = min(blocks * block_tokens, left)
        left -= tokens
        return tokens

    content_store = take(sources.content_store)
    peer = take(max(sources.named - sources.content_store, 0))
    producer = take(sources.prefilled)
    return PromptTokens(content_store, peer, producer, take(sources.local + shared_blocks), left)


def receipt_of(engine: str, prompt: PromptTokens, spent: EngineSpent, *, bytes_in: int, meter: str = "") -> Receipt:
    """`meter`: name of the one that `spent` was read from, "" without one."""
    return Receipt(
        engine=engine,
        prompt=prompt,
        prefill_us=_us(spent.prefill_s),
        decode_us=_us(spent.decode_s),
        helpers_us=_us(spent.helpers_s),
        bytes_in=bytes_in,
        energy=Energy(round(spent.joules * 1000), meter) if meter else None,
    )


def count_receipt(counters: Counter[str], receipt: Receipt) -> None:
    """Sums of receipts, in the counters of a producer's status."""
    prompt = receipt.prompt
    counters["receipts"] += 1
    counters["receipt_prompt_tokens"] += prompt.total
    counters["receipt_prompt_tokens_computed"] += prompt.computed
    counters["receipt_output_tokens"] += receipt.output_tokens
    counters["receipt_prefill_us"] += receipt.prefill_us
    counters["receipt_decode_us"] += receipt.decode_us
    counters["receipt_helpers_us"] += receipt.helpers_us
    counters["receipt_bytes_in"] += receipt.bytes_in
    counters["receipt_bytes_out"] += receipt.bytes_out


def count_prefill(counters: Counter[str], spent: EngineSpent) -> None:
    """What a prompt took that was computed for others: no receipt has it, but these counters."""
    counters["prefill_us"] += _us(spent.prefill_s)
    counters["prefill_helpers_us"] += _us(spent.helpers_s)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
