"""How long vLLM computes prompts on this machine: without a connector, and with ours where nothing is held.

Owns: these measurements. Must not know: what the connector does. Each vLLM runs in a process of its own, as behind a
producer (vllm/backend); engine.vllm_python names its Python.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence
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


FEW: Final = 12
"""Pairs of prompts of each length of which the added time is the median."""


class MeasuredVllm:
    """One vLLM process and prompts that it never saw."""

    def __init__(self, folder: Path, config: EngineConfig, **more: Any) -> None:
        """`more`: arguments of vLLM's engine."""
        options = {**engine_args(folder, config), **more}
        self._process, self._rng = VllmProcess(config.vllm_python, options, environment(config)), random.Random(1)
        self._vocabulary = 0

    async def start(self) -> None:
        self._vocabulary = (await self._process.start()).vocabulary
        await self.first_token_s(LENGTHS[0])  # the first one warms up

    async def first_token_s(self, length: int) -> float:
        """Seconds from when vLLM has a prompt of so many tokens to its first token; nothing of it was computed."""
        ids = [self._rng.randrange(5, self._vocabulary) for _ in range(length)]
        told: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._process.begin(ids, params_of(Sampling(1, ignore_eos=True), 0), "", told.set_result)
        made = await asyncio.wait_for(told, LONGEST_S)
        assert not made.finish.startswith("error") and not made.cached, made.finish
        return made.waited_s + made.prompt_s

    async def close(self) -> None:
        await self._process.close()


async def _measure(folder: Path, config: EngineConfig, runs: int) -> dict[int, float]:
    vllm = MeasuredVllm(folder, config, enable_prefix_caching=False)
    await vllm.start()
    try:
        return {length: min([await vllm.first_token_s(length) for _ in range(runs)]) for length in LENGTHS}
    finally:
        await vllm.close()


async def _compare(folder: Path, config: EngineConfig, settings: Sequence[str]) -> dict[int, tuple[float, float]]:
    transfer = {
        "kv_connector": "NamedKVConnector", "kv_connector_module_path": "ndn_infer.vllm", "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute", "kv_connector_extra_config": {"set": list(settings)},
    }  # fmt: skip
    both = MeasuredVllm(folder, config), MeasuredVllm(folder, config, kv_transfer_config=transfer)
    try:
        for vllm in both:
            await vllm.start()
        took = {}
        for length in (LENGTHS[0], LENGTHS[-1]):
            pairs = [[await vllm.first_token_s(length) for vllm in both] for _ in range(FEW)]
            plain, named = zip(*pairs, strict=True)
            took[length] = statistics.median(plain), statistics.median(named)
        return took
    finally:
        for vllm in both:
            await vllm.close()


def prefill_seconds(folder: Path, config: EngineConfig, runs: int) -> dict[int, float]:
    """Seconds by prompt length, the best of `runs`. Raises EngineUnavailable."""
    return asyncio.run(_measure(folder, config, runs))


def first_token_seconds(folder: Path, config: EngineConfig, settings: Sequence[str]) -> dict[int, tuple[float, float]]:
    """Seconds to the first token by prompt length, medians: without a connector, and with ours in a network where
    nothing of these prompts is held. `settings`: options of ndn-infer for it. Raises EngineUnavailable."""
    return asyncio.run(_compare(folder, config, settings))
