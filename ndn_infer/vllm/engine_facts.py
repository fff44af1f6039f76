"""What a vLLM process says about itself that decides the bytes of its blocks.

Owns: from vLLM's configuration to the facts of a cache class, and the folder of its weights. Imports vLLM. Must not
know: the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any, Final

import torch
import vllm
from vllm.config import get_layers_from_vllm_config
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

from ndn_infer.errors import ModelError
from ndn_infer.vllm.cache_class import CacheClass
from ndn_infer.vllm.pages import PagedCache

_NOT_COMPUTED_WITH: Final = ("_name_or_path", "transformers_version")
_KERNELS: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "VLLM_CPU_SGL_KERNEL", "VLLM_BATCH_INVARIANT")
"""Variables of the environment that choose kernels."""


def weights_folder(model: Any) -> Path:
    """Where the weights of vLLM's model configuration are on this machine. Raises ModelError."""
    folder = Path(model.model)
    if folder.exists():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.model, revision=model.revision, local_files_only=True))
    except Exception as error:
        raise ModelError(
            f"the weights of {model.model} are not found here", hint="say model_digest in kv_connector_extra_config"
        ) from error


def cache_class(config: Any, cache: PagedCache, rank: tuple[int, int], block_tokens: int) -> CacheClass:
    """Of the worker with this (pipeline, tensor) rank; `config` is vLLM's."""
    model = config.model_config
    return CacheClass(
        software=f"vllm {vllm.__version__} torch {torch.__version__}",
        config=config_digest(model),
        dtype=str(model.dtype),
        weights=str(model.quantization),
        kv_dtype=str(config.cache_config.cache_dtype),
        block_tokens=block_tokens,
        attention=_attention(config),
        machine=machine_facts(),
        layers=cache.facts,
        parallel=f"rank {rank} of {parallel_facts(config.parallel_config)}",
        compiled=f"{config.compilation_config.mode} eager {model.enforce_eager}",
    )


def config_digest(model: Any) -> str:
    """Of the model's configuration as vLLM reads it."""
    values = {key: value for key, value in model.hf_config.to_dict().items() if key not in _NOT_COMPUTED_WITH}
    text = json.dumps(values, sort_keys=True, default=str)
    if "longrope" in text or "dynamic" in text:  # then the length chooses the angles
        text += f" {model.max_model_len}"
    return hashlib.sha256(text.encode()).hexdigest()


def _attention(config: Any) -> str:
    kinds = set()
    for layer in get_layers_from_vllm_config(config, AttentionLayerBase).values():
        kinds.add(f"{layer.get_attn_backend().get_name()} {getattr(layer, 'isa', '')}")
    return ", ".join(sorted(kinds))


def parallel_facts(parallel: Any) -> dict[str, Any]:
    """Sizes of everything that splits a layer or the layers."""
    return {
        name: getattr(parallel, name, None)
        for name in (
            "pipeline_parallel_size", "tensor_parallel_size", "decode_context_parallel_size",
            "prefill_context_parallel_size", "enable_expert_parallel",
        )
    }  # fmt: skip


def machine_facts() -> str:
    """Device, and what its rounding and packing follow."""
    from vllm.platforms import current_platform

    kind = current_platform.device_type
    if kind == "cpu":
        capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
        kernels = {name: os.environ[name] for name in _KERNELS if name in os.environ}
        return f"cpu {platform.machine()} {_processor()} {capability} threads {threads} {kernels}"
    return f"{kind} {current_platform.get_device_name()} {current_platform.get_device_capability()}"


def _processor() -> str:
    """The kernels' blocking follows its caches."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
