"""Precisions of weights: what quantising keeps, and the promise that a row does not depend on its neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache  # noqa: E402
from ndn_infer.engine.linear import (  # noqa: E402
    Dense,
    DenseRows,
    Halves,
    Int4,
    Int8,
    Joined,
    Matrix,
    fits_int4,
    quantise_int4,
    quantise_int8,
    relative_error,
)
from ndn_infer.engine.llama import Llama  # noqa: E402
from ndn_infer.engine.rounding import rounding_errors  # noqa: E402
from ndn_infer.engine.split_rows import sums_are_exact  # noqa: E402
from ndn_infer.engine.weights import DTYPES  # noqa: E402
from ndn_infer.errors import ConfigError, DamagedCache  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

SHAPES = [(64, 96), (576, 192), (1536, 576), (2048, 512)]
"""in, out. Above 1,024 numbers torch's bf16 product computes a single row in another way."""


def weight_of(shape: tuple[int, int], dtype: Any = torch.bfloat16) -> Any:
    return (torch.randn(shape[1], shape[0], generator=torch.Generator().manual_seed(2)) * 0.05).to(dtype)


def linear_of(precision: str, shape: tuple[int, int]) -> Any:
    if precision == "int8":
        return Int8(quantise_int8(weight_of(shape)))
    if precision == "int4":
        return Int4(quantise_int4(weight_of(shape)))
    if precision == "packed":
        return DenseRows(Matrix(weight_of(shape), packed=True))
    return DenseRows(weight_of(shape, DTYPES[precision]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("precision", ["int4", "int8", "bf16", "packed", "fp32"])
def test_rows_are_independent_bit_for_bit(precision: str, shape: tuple[int, int]) -> None:
    linear = linear_of(precision, shape)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    x = torch.randn(64, shape[0], generator=torch.Generator().manual_seed(4)).to(dtype)
    alone = torch.cat([linear(x[row : row + 1]) for row in range(64)])
    for count in (2, 3, 4, 5, 7, 8, 13, 16, 31, 64):
        for first in (0, 64 - count):
            assert torch.equal(linear(x[first : first + count]), alone[first : first + count]), (count, first)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_single_dense_row_is_the_plain_product(precision: str) -> None:
    for shape in SHAPES:
        weight = weight_of(shape, DTYPES[precision])
        x = torch.randn(1, shape[0]).to(weight.dtype)
        assert torch.equal(DenseRows(weight)(x), Dense(weight)(x))


@pytest.mark.parametrize("biased", [False, True])
def test_packed_weights_give_the_same_numbers(biased: bool) -> None:
    """Where the machine can; else nothing is packed, and this compares equals."""
    for shape in (*SHAPES, (8, 8), (576, 4096), (896, 4864), (64, 65)):
        weight = weight_of(shape)
        bias = torch.randn(shape[1], generator=torch.Generator().manual_seed(3)).bfloat16() if biased else None
        for count in (1, 2, 7, 8, 33, 256):
            x = torch.randn(count, shape[0], generator=torch.Generator().manual_seed(count)).bfloat16()
            packed = Dense(Matrix(weight, packed=True), bias)(x)
            assert torch.equal(packed, Dense(weight, bias)(x)), (shape, count)


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_kernels_compute_what_their_dense_form_says(precision: str) -> None:
    for shape in SHAPES:
        weight = weight_of(shape)
        quantised: Any = quantise_int4(weight) if precision == "int4" else quantise_int8(weight)
        bias = torch.randn(shape[1]).to(torch.bfloat16)
        x = torch.randn(3, shape[0]).to(torch.bfloat16)
        exact = x.double() @ quantised.dense().double().T + bias.double()
        got = (Int4 if precision == "int4" else Int8)(quantised, bias)(x)
        assert torch.allclose(got.double(), exact, atol=2e-2, rtol=2e-2)


def test_int4_weights_quantise_to_themselves() -> None:
    """The weights that GGUF's Q4_1 stands for: 16 levels, the least and the largest of a group both in use."""
    generator = torch.Generator().manual_seed(6)
    levels = torch.randint(0, 16, (64, 20, 32), generator=generator)
    levels[..., 0], levels[..., 1] = 0, 15
    scales = (torch.rand(64, 20, 1, generator=generator) * 0.02 + 0.001).half().float()
    lows = (-8 * scales + torch.randn(64, 20, 1, generator=generator) * scales).half().float()
    weight = (levels * scales + lows).view(64, 640)
    quantised = quantise_int4(weight.to(torch.bfloat16))
    assert torch.equal(quantised.values.view(levels.shape), levels.to(torch.uint8))
    steps = ((quantised.dense() - weight).view(levels.shape) / scales).abs()
    assert steps.max() < 0.08 and steps.pow(2).mean().sqrt() < 0.02, "in steps of the quantisation; a second one: 0.29"


def test_errors_of_rounding() -> None:
    weight = weight_of((576, 192), torch.float32)
    assert relative_error(weight, quantise_int8(weight).dense()) < 0.01
    assert 0.05 < relative_error(weight, quantise_int4(weight).dense()) < 0.1
    for nothing in (torch.zeros(16, 64), torch.full((16, 64), 0.5)):
        assert torch.allclose(quantise_int4(nothing).dense(), nothing, atol=1e-2)
        assert torch.allclose(quantise_int8(nothing).dense(), nothing, atol=1e-2)


def test_shapes_for_int4() -> None:
    assert fits_int4(torch.empty(96, 64)) and not fits_int4(torch.empty(96, 48)) and not fits_int4(torch.empty(90, 64))


def test_several_maps_of_one_input() -> None:
    first, second = weight_of((64, 32)), -weight_of((64, 32))
    x = torch.randn(3, 64).to(torch.bfloat16)
    both = Joined([Dense(first), Dense(second)])(x)
    assert torch.equal(both, torch.cat((Dense(first)(x), Dense(second)(x)), dim=1))
    left, right = Halves(Dense(torch.cat((first, second))))(x)
    assert torch.equal(left, Dense(first)(x)) and torch.equal(right, -left)


# ------------------------------------------------------------ in the engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=151, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model")
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


def empty_cache(model: Llama) -> KvCache:
    config = model.config
    return KvCache(BlockLayout(config.layers, config.kv_heads, config.head_dim, 4, model.dtype), model.device)


@torch.inference_mode()  # type: ignore[untyped-decorator, unused-ignore]
def decoded(model: Llama) -> tuple[Any, Any]:
    """KV of a prompt, and logits of four tokens after it."""
    cache = empty_cache(model)
    model.prompt(torch.arange(5, 45), cache, 40)
    logits = torch.cat([model.logits(model.decode(token, cache)) for token in (9, 60, 7, 31)])
    return torch.stack([cache.export_block(index) for index in range(10)]), logits


def test_the_kv_of_a_prompt_does_not_depend_on_the_precision_of_weights(folder: Path) -> None:
    plain, _ = decoded(Llama.load(folder, EngineConfig()))
    for precision in ("int8", "int4"):
        other, _ = decoded(Llama.load(folder, EngineConfig("bf16", precision)))
        assert torch.equal(plain, other)


def test_decoding_reads_the_weights_of_the_precision(folder: Path) -> None:
    """int8 and int4 take kernels with bf16 rows; with fp32 ones the same weights as dense numbers."""
    exact = {p: decoded(Llama.load(folder, EngineConfig("fp32", p)))[1] for p in ("fp32", "bf16", "int8", "int4")}
    wrong = {precision: float((logits - exact["fp32"]).norm()) for precision, logits in exact.items()}
    assert 0 < wrong["bf16"] < wrong["int8"] < wrong["int4"]
    for precision in ("int8", "int4"):
        kernel = decoded(Llama.load(folder, EngineConfig("bf16", precision)))[1]
        assert float((kernel - exact[precision]).norm()) < wrong["int4"] / 2, precision


def test_the_precision_is_part_of_the_engine_class_and_not_of_prompts(folder: Path) -> None:
    """What decoding adds to the KV depends on it; the KV of prompts, to the bit, does not."""
    precisions = ("", "bf16", "int8", "int4")
    models = [Llama.load(folder, EngineConfig("bf16", precision)) for precision in precisions]
    classes = [model.engine_class for model in models]
    assert [engine.precision for engine in classes] == ["bf16", "bf16", "int8", "int4"] and classes[0] == classes[1]
    assert [engine.weights.endswith("-r16") for engine in classes] == [False, False, *[sums_are_exact()] * 2]
    assert len({engine.prompts for engine in classes}) == 1
    assert [engine.decodes_as_prompts for engine in classes] == [True, True, False, False]
    blocks = []
    for model in models:
        cache = empty_cache(model)
        with torch.inference_mode():
            model.prompt(torch.arange(5, 37), cache, 32)
        blocks.append(cache.export_block(0))
    assert all(torch.equal(block, blocks[0]) for block in blocks)


def test_prompts_follow_weights_that_are_rounded_before_they_are_used(folder: Path) -> None:
    exact, rounded = (Llama.load(folder, EngineConfig("fp32", precision)) for precision in ("fp32", "bf16"))
    assert exact.engine_class.prompts != rounded.engine_class.prompts


def test_score_is_decoding_of_all_rows_at_once(folder: Path) -> None:
    ids = list(range(5, 45))
    for precision in ("int8", "int4"):
        model = Llama.load(folder, EngineConfig("bf16", precision))
        with torch.inference_mode():
            at_once = model.logits(model.score(torch.tensor(ids), empty_cache(model)))
            cache = empty_cache(model)
            one_by_one = torch.cat([model.logits(model.decode(token, cache)) for token in ids])
        assert torch.allclose(at_once, one_by_one, atol=0.5, rtol=0.05), "attention over a block rounds otherwise"
        assert torch.equal(at_once[0], one_by_one[0])


def test_the_precision_of_weights_follows_the_dtype() -> None:
    assert [EngineConfig(dtype).precision for dtype in ("bf16", "fp32")] == ["bf16", "fp32"]
    for dtype, precision in (("bf16", "int3"), ("bf16", "fp32"), ("fp16", "int4")):
        with pytest.raises(ConfigError, match="dtype|weights"):
            EngineConfig(dtype, precision)


def test_what_fewer_bits_cost_is_told(tmp_path: Path) -> None:
    folder = small_model(tmp_path)
    eight, four = rounding_errors(folder)
    assert (eight.precision, four.precision) == ("int8", "int4")
    assert 0.001 < eight.mean <= eight.most < 0.02 < four.mean <= four.most < 0.2
    assert four.mib < 0.7 * eight.mib
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DamagedCache, match="cannot be used"):
        rounding_errors(folder)


def test_packed_weights_do_not_stay_in_memory_a_second_time(tmp_path: Path) -> None:
    """Pages of the file that were read to be packed belong to nobody afterwards; they count as memory of a process."""
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=1024, num_hidden_layers=2, num_attention_heads=4
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    model = Llama.load(tmp_path, EngineConfig())
    file = tmp_path / "model.safetensors"
    mapped, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            mapped += int(line.split()[1]) * 1024
    assert not model._weights.layers[0].qkv._parts[0]._matrix._packed or mapped < file.stat().st_size / 4  # type: ignore[attr-defined]
