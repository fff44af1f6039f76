"""Models of real shapes with random weights: as many numbers as their makers say, and the engine computes them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch")

from ndn_infer.testbed.bench.kv_models import LLAMA_1B, SMOLLM2_135M, SMOLLM2_1700M, Shape, of_folder


@pytest.mark.parametrize(
    ("shape", "parameters"), [(LLAMA_1B, 1_235_814_400), (SMOLLM2_1700M, 1_711_376_384), (SMOLLM2_135M, 134_515_008)]
)
def test_as_many_parameters_as_published(shape: Shape, parameters: int) -> None:
    assert sum(map(math.prod, shape.tensors().values())) == parameters


def test_a_prompt_costs_time_and_a_token_its_keys_and_values() -> None:
    small = {
        **LLAMA_1B.config, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 512,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    with Shape("small", small).folder() as folder:
        engine = of_folder("small", Path(folder), 0, 1, (32, 64))
    assert engine.kv_bytes == 2 * 2 * 2 * 16 * 2, "layers, keys and values, heads, numbers, bytes"
    assert engine.block == 16 and engine.longest == 64 and engine.seconds(64) > 0 and engine.measured
