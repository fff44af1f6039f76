"""The engine class of a vLLM: what decides the tokens of its answers, as far as it decides them.

Owns: which facts of vLLM's configuration count. Imports vLLM. Must not know: names, requests.

vLLM rounds by the shapes that it computes in, so two answers of one class to one request may differ in tokens that are
nearly as likely: the class says who may continue whom, not that bits are equal.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Final

import torch
import vllm

from ndn_infer.engine_class import label_of
from ndn_infer.vllm.backend.messages import EngineFacts
from ndn_infer.vllm.engine_facts import config_digest, machine_facts, parallel_facts

_SHORT: Final = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}
_CHOOSES: Final = "position-1"
"""Changed whenever the same logits would give other tokens (choosing.py)."""
_BINDING: Final = ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_ATTENTION_BACKEND")


def facts_of(config: Any) -> EngineFacts:
    """Of vLLM's whole configuration."""
    model, cache = config.model_config, config.cache_config
    dtype = str(model.dtype).removeprefix("torch.")
    short = _SHORT.get(dtype, label_of(dtype))
    version = label_of(vllm.__version__)[:16]
    return EngineFacts(
        dtype=short,
        weights=label_of(str(model.quantization)) if model.quantization else short,
        implementation=f"vllm-{version}-{_digest(config)[:16]}",
        machine=_machine(),
        context=int(model.max_model_len),
        vocabulary=int(model.get_vocab_size()),
        places=int(config.scheduler_config.max_num_seqs),
        block_tokens=int(cache.block_size),
    )


def _machine() -> str:
    from vllm.platforms import current_platform

    if current_platform.device_type == "cpu":
        return label_of(f"cpu-{torch.backends.cpu.get_cpu_capability()}")[:24]
    return label_of(str(current_platform.get_device_name()))[:24]


def _digest(config: Any) -> str:
    """Of what else decides bits: versions, the model's configuration, kinds of numbers, parallelism, kernels."""
    model, cache = config.model_config, config.cache_config
    facts = (
        vllm.__version__, torch.__version__, config_digest(model), model.dtype, model.quantization, cache.cache_dtype,
        cache.block_size, machine_facts(), parallel_facts(config.parallel_config), config.compilation_config.mode,
        model.enforce_eager, _CHOOSES, {name: os.environ.get(name, "") for name in _BINDING},
    )  # fmt: skip
    return hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()
