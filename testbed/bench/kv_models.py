"""How long our engine computes prompts, with a prepared model and with random weights in the shape of larger ones.

Owns: these shapes, the folders of random weights, the measurement. Must not know: networks. What a prompt costs depends
on shapes and not on what the weights say, so nothing is downloaded; no token means anything. Seconds are those of
processors, divided by the number of threads: what a prompt takes at least where nothing else runs, also when measured
where something else does.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from ndn_infer.engine.engine import Engine
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.kv_node import load_engine, prompt
from ndn_infer.testbed.bench.kv_pays import PromptEngine, measured_engine

LENGTHS: Final = (128, 256, 512, 1024, 2048, 4096, 8000)
LONGEST_S: Final = 10.0
"""After a prompt that took longer no longer one is computed."""
FIRST: Final = Sampling(max_tokens=1)
_POOL: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's config.json, as its makers published it: what decides shapes."""

    title: str
    config: Mapping[str, Any]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all weights, by name."""
        config = self.config
        hidden, wide, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
        head = hidden // config["num_attention_heads"]
        kv = config["num_key_value_heads"] * head
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
        shapes["model.norm.weight"] = (hidden,)
        layer = {
            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide),
        }  # fmt: skip
        for number in range(config["num_hidden_layers"]):
            shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
        return shapes

    def folder(self) -> AbstractContextManager[str]:
        """A folder with the configuration and random weights, as the engine loads it."""
        folder = tempfile.TemporaryDirectory(prefix="ndn-infer-bench-")
        (Path(folder.name) / "config.json").write_text(json.dumps(dict(self.config)), encoding="utf-8")
        pool = (torch.randn(_POOL, generator=torch.Generator().manual_seed(1)) * 0.02).to(torch.bfloat16)
        weights = {}
        for name, shape in self.tensors().items():
            count = math.prod(shape)
            weights[name] = pool.repeat(-(-count // _POOL))[:count].view(shape)
        save_file(weights, Path(folder.name) / "model.safetensors")
        return folder


_COMMON: Final = {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "tie_word_embeddings": True}
LLAMA_1B: Final = Shape(
    "Llama 3.2 1B", {
        **_COMMON, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
    },
)  # fmt: skip
SMOLLM2_1700M: Final = Shape(
    "SmolLM2 1.7B", {
        **_COMMON, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 130000.0,
    },
)  # fmt: skip
SMOLLM2_135M: Final = Shape(
    "SmolLM2 135M", {
        **_COMMON, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
    },
)  # fmt: skip
SHAPES: Final = (LLAMA_1B, SMOLLM2_1700M)
"""Of 1 to 2 billion parameters: one with few heads for keys and values, one with as many as for queries."""


def of_folder(title: str, folder: Path, threads: int, runs: int, lengths: Sequence[int] = LENGTHS) -> PromptEngine:
    """Measure the model in a prepared folder: the best of `runs` at each length."""
    engine = load_engine(str(folder), threads)
    points: list[tuple[int, float]] = []
    _first_token(engine, prompt(lengths[0], engine.model_config.vocab_size))
    for length in lengths:
        ids = prompt(length, engine.model_config.vocab_size)
        points.append((length, min(_first_token(engine, ids) for _ in range(max(runs, 1)))))
        if points[-1][1] > LONGEST_S:
            break
    layout = engine.layout
    return measured_engine(title, layout.nbytes // layout.block_tokens, points, block=layout.block_tokens)


def of_shape(shape: Shape, threads: int, runs: int) -> PromptEngine:
    with shape.folder() as folder:
        return of_folder(f"{shape.title}, random weights (measured)", Path(folder), threads, runs)


def _first_token(engine: Engine, ids: Sequence[int]) -> float:
    """Processor seconds of each thread up to the first token, of an engine that was idle."""
    while engine.prepare():
        pass
    began = time.process_time()
    stream = engine.start(ids, FIRST)
    while stream.finished is None:
        engine.step()
    return (time.process_time() - began) / torch.get_num_threads()
