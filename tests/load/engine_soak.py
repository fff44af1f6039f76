"""The engine under callers who come, wait, go and err.

    python -m tests.load.engine_soak SECONDS CALLERS [FOLDER [WEIGHTS]]

Each caller sends one request after the other to one engine thread, as functions/ do: short and long prompts, prompts
with equal beginnings, prefill only, some with KV from elsewhere, some malformed, some given up after a random number of
tokens or milliseconds. Without a folder a small random Llama is made.

Times as `vllm bench serve` defines them: TTFT from sending a request to its first token, ITL every gap between two
tokens of a request. What must hold is in `failures`: nobody waits for ever, no block stays behind, refusals are of the
right kind.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ndn_infer.config import EngineConfig
from ndn_infer.engine.engine import Engine, StepOutput
from ndn_infer.errors import BadRecord, Busy, PromptError
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.records.sampling import Sampling

PATIENCE_S = 120.0
"""A stream that gives no token for so long has stalled."""


@dataclass(slots=True)
class Report:
    seconds: float = 0.0
    tokens: int = 0
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    itl_s: list[float] = field(default_factory=list)
    counters: Any = None

    def failures(self) -> list[str]:
        failures = list(self.wrong)
        if self.counters.blocks_used or self.counters.streams_active or self.counters.waiting:
            failures.append(f"left behind: {self.counters}")
        return failures

    def __str__(self) -> str:
        def of(times: list[float], share: float) -> str:
            return f"{sorted(times)[int(share * (len(times) - 1))] * 1000:.1f}" if times else "-"

        return (
            f"{self.seconds:.0f} s, {self.tokens} tokens, {self.tokens / max(self.seconds, 1e-9):.0f} tokens/s, "
            f"{dict(sorted(self.done.items()))}\n"
            f"TTFT p50 {of(self.ttft_s, 0.5)} ms, p99 {of(self.ttft_s, 0.99)} ms; "
            f"ITL p50 {of(self.itl_s, 0.5)} ms, p99 {of(self.itl_s, 0.99)} ms\n{self.counters}"
        )


def small_model(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=151, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Caller:
    def __init__(self, worker: EngineWorker, engine: Engine, report: Report, seed: int) -> None:
        self._worker, self._engine, self._report = worker, engine, report
        self._dice = random.Random(seed)

    async def run(self, until: float) -> None:
        kinds = ("answer", "answer", "answer", "give-up", "prefill", "give-up-prefill", "malformed")
        while time.monotonic() < until:
            kind = self._dice.choice(kinds)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await getattr(self, "_" + kind.replace("-", "_"))()
                self._report.done[kind] += 1
            except Busy:
                self._report.done["busy"] += 1
                await asyncio.sleep(0.01)
            except TimeoutError:
                self._report.wrong.append(f"{kind} stalled")

    def _prompt(self) -> list[int]:
        longest = min(self._engine.model_config.context_length - 40, 4000)
        length = self._dice.choice((self._dice.randrange(1, 40), self._dice.randrange(1, longest)))
        story = self._dice.randrange(4)
        words = self._engine.model_config.vocab_size - 10
        ids = [5 + at * (7 + story) % words for at in range(length)]
        return ids[: self._dice.randrange(length)] + [5 + self._dice.randrange(words)] if story else ids

    def _params(self) -> Sampling:
        return Sampling(max_tokens=self._dice.randrange(1, 32), temperature=self._dice.choice((0.0, 1.0)))

    async def _answer(self, give_up_after: int = 1 << 30) -> None:
        ended = asyncio.Event()
        times: list[float] = []

        def on_step(output: StepOutput) -> None:
            if output.token_id < 0:
                self._report.wrong.append(str(output.finished))
            times.append(time.monotonic())
            if output.finished or len(times) >= give_up_after:
                ended.set()

        params, sent = self._params(), time.monotonic()
        stream = await self._worker.generate(self._prompt(), params, (), on_step)
        try:
            await ended.wait()
        finally:
            self._worker.cancel(stream)
        self._report.tokens += len(times)
        self._report.ttft_s.append(times[0] - sent)
        self._report.itl_s.extend(b - a for a, b in zip(times, times[1:], strict=False))

    async def _give_up(self) -> None:
        await self._answer(give_up_after=self._dice.randrange(1, 8))

    async def _prefill(self) -> None:
        ids, got = self._prompt(), []
        await self._worker.prefill(ids, (), lambda index, block: got.append(index))
        if got != list(range(len(ids) // self._engine.block_tokens)):
            self._report.wrong.append(f"blocks {got} of {len(ids)} tokens")

    async def _give_up_prefill(self) -> None:
        try:
            async with asyncio.timeout(self._dice.random() * 0.1):
                await self._worker.prefill(self._prompt(), (), lambda index, block: None)
        except TimeoutError:
            pass

    async def _malformed(self) -> None:
        vocab, limit = self._engine.model_config.vocab_size, self._engine.model_config.context_length
        ids = self._dice.choice(([], [vocab], [-1], [5] * (limit + 1)))
        blocks: list[Any] = []
        if self._dice.random() < 0.3:
            import torch

            ids, blocks = [5] * 64, [torch.zeros(3)] * 2
        try:
            await self._worker.generate(ids, self._params(), blocks, lambda output: None)
        except (PromptError, BadRecord):
            return
        self._report.wrong.append("a malformed request was taken")


async def soak(seconds: float, callers: int, folder: Path, **options: Any) -> Report:
    """Run the load; `options` go to `Engine.load`."""
    worker, report = EngineWorker(lambda: Engine.load(folder, EngineConfig(**options))), Report()
    engine = await worker.start()
    started = time.monotonic()
    crowd = [Caller(worker, engine, report, seed) for seed in range(callers)]
    await asyncio.gather(*(caller.run(started + seconds) for caller in crowd))
    report.seconds = time.monotonic() - started
    await worker.run(lambda engine: None)  # what was cancelled last has been
    report.counters = engine.counters
    await worker.close()
    return report


def main() -> int:
    seconds, callers = float(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[3]) if len(sys.argv) > 3 else small_model(Path(scratch))
        weights = sys.argv[4] if len(sys.argv) > 4 else ""
        report = asyncio.run(soak(seconds, callers, folder, weights=weights, max_streams=max(callers * 3 // 4, 1)))
    print(report)
    for failure in report.failures():
        print("FAILED:", failure)
    return bool(report.failures())


if __name__ == "__main__":
    sys.exit(main())
