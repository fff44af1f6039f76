"""The engine's thread: when nobody waits for anything it waits, too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine, StepOutput  # noqa: E402
from ndn_infer.functions import engine_worker  # noqa: E402
from ndn_infer.functions.engine_worker import EngineWorker, OnStep  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

LONGEST_PROMPT = 120


class Counted(Engine):
    """Counts what its thread asks of it."""

    calls = 0

    def prepare(self) -> bool:
        self.calls += 1
        return super().prepare()

    def step(self) -> list[StepOutput]:
        self.calls += 1
        return super().step()


@pytest.mark.parametrize("prompts", [0, 1, 8])
def test_an_idle_engine_does_nothing_however_much_of_its_memory_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: int
) -> None:
    """All prompts come at once, so that nothing is mapped ahead between them, as where memory is large."""
    monkeypatch.setattr("ndn_infer.engine.engine._MAPPED_AHEAD", 1 << 14)
    folder = small_model(tmp_path)

    async def scenario() -> None:
        worker = EngineWorker(lambda: Counted.load(folder, EngineConfig(dtype="fp32", block_tokens=4, max_streams=1)))
        engine = await worker.start()
        assert isinstance(engine, Counted)

        async def ask(number: int) -> None:
            ids = [(number * 31 + at) % 140 + 5 for at in range(LONGEST_PROMPT)]
            ended = asyncio.Event()

            def on_step(output: StepOutput) -> None:
                if output.finished:
                    ended.set()

            await worker.generate(ids, Sampling(max_tokens=2), (), on_step)
            await ended.wait()

        await asyncio.gather(*map(ask, range(prompts)))
        pool = engine._scheduler.pool
        assert (pool.fresh == pool.blocks) is (prompts == 8), "the last case uses every block"
        await asyncio.sleep(0.2)  # what is left to be mapped takes a millisecond
        before = engine.calls
        await asyncio.sleep(0.2)
        assert engine.calls == before, "the thread of an idle engine is awake"
        await worker.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_what_one_step_gives_wakes_the_event_loop_once_and_a_failing_listener_takes_nothing_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told_at_once = small_model(tmp_path), []
    tell = engine_worker._tell

    def counted(told: Sequence[tuple[OnStep, StepOutput]]) -> None:
        told_at_once.append(len(told))
        tell(told)

    monkeypatch.setattr(engine_worker, "_tell", counted)

    async def scenario() -> list[int]:
        worker = EngineWorker(lambda: Counted.load(folder, EngineConfig(dtype="fp32", block_tokens=4)))
        await worker.start()
        tokens, ended = [0] * 4, [asyncio.Event() for _ in range(4)]

        async def ask(number: int) -> None:
            def on_step(output: StepOutput) -> None:
                tokens[number] += 1
                if output.finished:
                    ended[number].set()
                if number == 0:
                    raise ValueError("a listener fails")

            await worker.generate([7, 8, 9, 10 + number], Sampling(max_tokens=16), (), on_step)

        await asyncio.gather(*map(ask, range(4)))
        await asyncio.gather(*(event.wait() for event in ended))
        await worker.close()
        return tokens

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == [16] * 4
    assert sum(told_at_once) == 64 and max(told_at_once) >= 4 and len(told_at_once) <= 40
