"""What a form of KV on the wire does to answers: greedy tokens, distributions, the numbers themselves.

    ndn-infer bench kv --accuracy      100 prompts: the first 32 greedy tokens with KV that travelled, against KV that
                                       was computed in place; divergence and error of int8

Prompts: source files of the standard library, which every Python carries, cut to 24 to 618 tokens. What may make an
answer another one is told apart:

- `bf16`: nothing but the codec, which is exact;
- `bf16_other_length`: blocks by one who knows the prompt's full blocks only, as a prefill producer does; the last bits
  of bf16 follow the length of the prompt (engine/attention.py);
- `bf16_near`: exact blocks, and the rest of the prompt computed as decoded tokens are, as is done after blocks in int8
  (Engine.start, `near`). Last bits alone differ: the floor under what any form that is not exact can reach;
- `int8`: blocks in int8, and the same.

Owns: the measurement. Must not know: names, the network; a block here goes through its codec and nothing else.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ndn_infer.config import EngineConfig
from ndn_infer.engine.engine import Engine, Stream
from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.engine.llama import Llama
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.kv.codec import BlockFormat, decode_block, encode_block
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.kv_node import format_of, load_engine

PROMPTS: Final = 100
ANSWER: Final = Sampling(max_tokens=32)
SHORTEST: Final = 24
STEP: Final = 6
"""Tokens by which each prompt is longer than the one before; no divisor or multiple of a block."""

TAIL: Final = 32
"""Tokens at the end of a prompt whose distributions are compared: everything before them comes from blocks."""

AT_A_TIME: Final = 8


def prompts(tokenizer: ChatTokenizer, count: int) -> list[list[int]]:
    """`count` beginnings of files of the standard library, no two alike in length."""
    texts, wanted = _library(), [SHORTEST + STEP * number for number in range(count)]
    found: list[list[int]] = []
    for length in wanted:
        ids: list[int] = []
        while len(ids) < length:
            ids = tokenizer.encode(next(texts)[: 8 * length])
        found.append(ids[:length])
    return found


def _library() -> Iterator[str]:
    """Texts of modules, in order."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield path.read_text("utf-8", errors="replace")


@dataclass(slots=True)
class _Errors:
    """int8 against bf16, over all prompts."""

    divergence: list[float] = field(default_factory=list)
    """Of each compared distribution, nats."""
    same_choice: int = 0
    squared: float = 0.0
    energy: float = 0.0

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.divergence)
        return {
            "int8_kl_mean_nats": sum(ordered) / len(ordered),
            "int8_kl_p99_nats": ordered[int(0.99 * (len(ordered) - 1))],
            "int8_kl_max_nats": ordered[-1],
            "int8_same_choice": self.same_choice / len(ordered),
            "int8_relative_error": (self.squared / self.energy) ** 0.5,
        }


def accuracy(folder: Path, threads: int, numbers: Sequence[int] = range(PROMPTS)) -> dict[str, Any]:
    """Figures over the prompts with these numbers. Shares are of prompts, divergence is KL(exact || int8)."""
    every = prompts(ChatTokenizer.load(folder), max(numbers) + 1)
    chosen = [every[number] for number in numbers]
    engine = load_engine(str(folder), threads)
    oracle = _answers(engine, [(ids, []) for ids in chosen], near=False)
    figures: dict[str, Any] = {"accuracy_prompts": len(chosen)}
    exact = [_computed(engine, ids, len(ids)) for ids in chosen]
    other = [_computed(engine, ids, 0) for ids in chosen]
    figures["same_bits_bf16_other_length"] = _same_bits(exact, other)
    for key, form, blocks, near in (
        ("bf16", "raw", exact, False),
        ("bf16_other_length", "raw", other, False),
        ("bf16_near", "raw", exact, True),
        ("int8", "int8", exact, True),
    ):
        fmt = format_of(engine, form)
        travelled = [(ids, [_travel(block, fmt) for block in held]) for ids, held in zip(chosen, blocks, strict=True)]
        answers = _answers(engine, travelled, near=near)
        equal = [ours == theirs for ours, theirs in zip(answers, oracle, strict=True)]
        figures[f"equal_first_32_{key}"] = sum(equal) / len(equal)
        figures[f"tokens_before_first_other_{key}"] = sum(map(_agreeing, answers, oracle)) / len(chosen)
    return {**figures, **_compare(Llama.load(folder, EngineConfig()), format_of(engine, "int8"), chosen, exact)}


def _computed(engine: Engine, ids: Sequence[int], prompt_tokens: int) -> list[Tensor]:
    """All full blocks. `prompt_tokens` 0: by one who knows the full blocks only, as a prefill producer does."""
    full = len(ids) // engine.block_tokens * engine.block_tokens
    return [block for _, block in engine.prefill(ids[:full], prompt_tokens=prompt_tokens)] if full else []


def _same_bits(one: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> float:
    """Share of blocks that are equal bit for bit."""
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=True)]
    return sum(torch.equal(a.view(torch.int16), b.view(torch.int16)) for a, b in pairs) / len(pairs)


def _travel(block: Tensor, fmt: BlockFormat) -> Tensor:
    return decode_block(encode_block(block, fmt), fmt)


def _agreeing(one: Sequence[int], other: Sequence[int]) -> int:
    """Equal tokens before the first that differs."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


def _answers(engine: Engine, asked: Sequence[tuple[list[int], list[Tensor]]], *, near: bool) -> list[list[int]]:
    """Greedy answers. Some prompts at once: that changes no token."""
    found: list[list[int]] = []
    for first in range(0, len(asked), AT_A_TIME):
        some: list[Stream] = [engine.start(ids, ANSWER, held, near=near) for ids, held in asked[first:][:AT_A_TIME]]
        while any(stream.finished is None for stream in some):
            engine.step()
        found += [list(stream.generated) for stream in some]
    return found


def _compare(
    model: Llama, fmt: BlockFormat, chosen: Sequence[Sequence[int]], exact: Sequence[Sequence[Tensor]]
) -> dict[str, float]:
    """Distributions after each of the last TAIL tokens, their prefix once exact and once through int8."""
    errors = _Errors()
    with torch.inference_mode():
        for ids, blocks in zip(chosen, exact, strict=True):
            held = blocks[: max(len(ids) - TAIL, 0) // fmt.layout.block_tokens]
            if not held:
                continue
            travelled = [_travel(block, fmt) for block in held]
            for ours, theirs in zip(travelled, held, strict=True):
                errors.squared += float((ours.float() - theirs.float()).square().sum())
                errors.energy += float(theirs.float().square().sum())
            near, right = (_distributions(model, fmt, ids, prefix)[-TAIL:] for prefix in (travelled, held))
            errors.divergence += (right.exp() * (right - near)).sum(-1).tolist()
            errors.same_choice += int((right.argmax(-1) == near.argmax(-1)).sum())
    return errors.figures() if errors.divergence else {}


def _distributions(model: Llama, fmt: BlockFormat, ids: Sequence[int], prefix: Sequence[Tensor]) -> Tensor:
    """Log probabilities after each token that follows the prefix, [tokens, vocab]."""
    cache = KvCache(fmt.layout, model.device)
    for index, block in enumerate(prefix):
        cache.import_block(index, block)
    hidden = model.prompt(torch.tensor(ids[cache.length :]), cache, len(ids))
    return torch.log_softmax(model.logits(hidden), dim=-1)
