"""How long vLLM computes prompts on this machine, without any connector.

Owns: this measurement. Must not know: networks. vLLM runs in a process of its own, as behind a producer
(vllm/backend); engine.vllm_python names its Python.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, Final

from ndn_infer.config import EngineConfig
from ndn_infer.functions.vllm_answer import engine_args, environment
from ndn_infer.records.sampling import Sampling
from ndn_infer.vllm.backend.mapping import params_of
from ndn_infer.vllm.backend.messages import Made
from ndn_infer.vllm.backend.process import VllmProcess

LENGTHS: Final = (129, 257, 513, 1025, 1921)
LONGEST_S: Final = 120.0


async def _prompt(process: VllmProcess, ids: list[int]) -> float:
    told: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
    process.begin(ids, params_of(Sampling(1, ignore_eos=True), 0), "", told.set_result)
    made = await asyncio.wait_for(told, LONGEST_S)
    assert not made.finish.startswith("error") and not made.cached, made.finish
    return made.prompt_s


async def _measure(folder: Path, config: EngineConfig, runs: int) -> dict[int, float]:
    options: dict[str, Any] = {**engine_args(folder, config), "enable_prefix_caching": False}
    process, rng = VllmProcess(config.vllm_python, options, environment(config)), random.Random(1)
    facts = await process.start()

    async def one(length: int) -> float:
        return await _prompt(process, [rng.randrange(5, facts.vocabulary) for _ in range(length)])

    try:
        await one(LENGTHS[0])  # the first one warms up
        return {length: min([await one(length) for _ in range(runs)]) for length in LENGTHS}
    finally:
        await process.close()


def prefill_seconds(folder: Path, config: EngineConfig, runs: int) -> dict[int, float]:
    """Seconds by prompt length, the best of `runs`. Raises EngineUnavailable."""
    return asyncio.run(_measure(folder, config, runs))
