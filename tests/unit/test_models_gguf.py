"""Reading GGUF and safetensors: right values from right files, one clear error from all others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import ModelError, NdnInferError
from ndn_infer.models import gguf_convert, weights_file
from ndn_infer.models.gguf_file import GgufFile
from ndn_infer.models.store import prepare

gguf = pytest.importorskip("gguf")

HIDDEN, HEADS, KV_HEADS, FFN, VOCAB = 64, 4, 2, 96, 260
RNG = np.random.default_rng(0)
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]


def byte_tokens() -> list[str]:
    """The 256 characters that stand for bytes in byte-level BPE (GPT-2's table)."""
    rest = [byte for byte in range(256) if byte not in BYTES]
    return sorted([*(chr(byte) for byte in BYTES), *(chr(256 + index) for index in range(len(rest)))])


def tensors() -> dict[str, np.ndarray]:
    shapes = {
        "token_embd.weight": (VOCAB, HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.attn_q.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_k.weight": (HIDDEN // 2, HIDDEN),
        "blk.0.attn_v.weight": (HIDDEN // 2, HIDDEN),
        "blk.0.attn_output.weight": (HIDDEN, HIDDEN),
        "blk.0.ffn_norm.weight": (HIDDEN,),
        "blk.0.ffn_gate.weight": (FFN, HIDDEN),
        "blk.0.ffn_up.weight": (FFN, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, FFN),
    }
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_gguf(
    path: Path, values: dict[str, np.ndarray], *, arch: str = "llama", pre: str = "smollm",
    more: Callable[[Any], object] = lambda writer: None,
) -> Path:  # fmt: skip
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*byte_tokens(), "he", "ll", "<|start|>", "<|end|>"])
    writer.add_token_types([1] * 256 + [4, 1] + [3, 3])  # "he" is one that a user defined
    writer.add_token_merges(["h e", "l l"])
    writer.add_bos_token_id(258)
    writer.add_eos_token_id(259)
    more(writer)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for name, value in values.items():
        if value.ndim == 2 and "ffn" in name:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
        elif name == "token_embd.weight":
            writer.add_tensor(name, value.astype(np.float16))
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    return tensors()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, values: dict[str, np.ndarray]) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", values)


def test_values_of_every_kind(small: Path, values: dict[str, np.ndarray]) -> None:
    with GgufFile(small) as file:
        assert file.fields["general.architecture"] == "llama"
        assert file.tensors["blk.0.ffn_down.weight"].shape == (HIDDEN, FFN)
        assert np.array_equal(file.load("blk.0.attn_q.weight"), values["blk.0.attn_q.weight"])
        half = values["token_embd.weight"].astype(np.float16).astype(np.float32)
        assert np.array_equal(file.load("token_embd.weight"), half)
        kind = gguf.GGMLQuantizationType.Q4_1
        coarse = gguf.dequantize(gguf.quantize(values["blk.0.ffn_up.weight"], kind), kind)
        assert np.array_equal(file.load("blk.0.ffn_up.weight"), coarse)
        with pytest.raises(ModelError, match="no tensor"):
            file.load("missing")


def test_a_converted_file_is_a_model(small: Path, values: dict[str, np.ndarray], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    model = prepare(str(small), tmp_path / "cache")
    weights = load_file(model.path / "model.safetensors")
    q = torch.from_numpy(values["blk.0.attn_q.weight"])
    back = q.reshape(HEADS, 8, 2, HIDDEN).transpose(1, 2).reshape(HIDDEN, HIDDEN).to(torch.bfloat16)
    assert torch.equal(weights["model.layers.0.self_attn.q_proj.weight"], back)
    norm = torch.from_numpy(values["output_norm.weight"]).to(torch.bfloat16)
    assert torch.equal(weights["model.norm.weight"], norm)
    config = json.loads((model.path / "config.json").read_text())
    assert config["tie_word_embeddings"] is True and config["num_key_value_heads"] == KV_HEADS
    assert not any("version" in name for name in config), "digests must not follow the version of a library"
    tokenizer = ChatTokenizer.load(model.path)
    assert tokenizer.eos_ids == (259,)
    text = "hello 12  34 ü🙂"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.apply_chat([{"role": "user", "content": "he"}]) == [258, 256]
    assert prepare(str(small), tmp_path / "other").digest == model.digest


@pytest.mark.parametrize(
    ("arch", "pre", "words"), [("qwen2", "smollm", "architecture qwen2"), ("llama", "qwen2", "kind gpt2/qwen2")]
)
def test_what_is_not_supported_is_said(
    arch: str, pre: str, words: str, values: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "x.gguf", values, arch=arch, pre=pre)
    with pytest.raises(ModelError, match=words) as caught:
        prepare(str(path), tmp_path / "cache")
    assert "safetensors" in caught.value.hint


@pytest.mark.parametrize(
    ("more", "rope"),
    [
        (lambda writer: writer.add_float32("llama.rope.scaling.factor", 4.0), {"rope_type": "linear", "factor": 4.0}),
        (lambda writer: writer.add_float32("llama.rope.scale_linear", 2.0), {"rope_type": "linear", "factor": 2.0}),
        (lambda writer: writer.add_string("llama.rope.scaling.type", "none"), {"rope_type": "default"}),
        (lambda writer: writer.add_uint32("llama.rope.dimension_count", 16), {"rope_type": "default"}),
    ],
)
def test_scaled_positions_are_read_as_llama_cpp_reads_them(
    more: Callable[[Any], object], rope: dict[str, Any], values: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = prepare(str(write_gguf(tmp_path / "rope.gguf", values, more=more)), tmp_path / "cache")
    assert json.loads((model.path / "config.json").read_text())["rope_parameters"] == {"rope_theta": 10000.0, **rope}


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("yarn", lambda writer: writer.add_string("llama.rope.scaling.type", "yarn")),
        ("dimension_count", lambda writer: writer.add_uint32("llama.rope.dimension_count", 8)),
        ("value_length", lambda writer: writer.add_uint32("llama.attention.value_length", 8)),
        ("expert_count", lambda writer: writer.add_uint32("llama.expert_count", 8)),
        ("logit_scale", lambda writer: writer.add_float32("llama.logit_scale", 0.5)),
    ],
)
def test_keys_of_another_computation_are_refused_by_name(
    key: str, more: Callable[[Any], object], values: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=key):
        prepare(str(write_gguf(tmp_path / "other.gguf", values, more=more)), tmp_path / "cache")


def test_every_token_that_ends_a_turn_ends_an_answer(values: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "eot.gguf", values, more=lambda writer: writer.add_eot_token_id(258))
    assert ChatTokenizer.load(prepare(str(path), tmp_path / "cache").path).eos_ids == (259, 258)


def test_tokens_that_a_user_defined_are_never_split_and_are_text(small: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.load(prepare(str(small), tmp_path / "cache").path)
    raw = json.loads((prepare(str(small), tmp_path / "cache").path / "tokenizer.json").read_text())
    assert {token["content"]: token["special"] for token in raw["added_tokens"]} == {
        "he": False, "<|start|>": True, "<|end|>": True,
    }  # fmt: skip
    assert tokenizer.decode(tokenizer.encode("hehe")) == "hehe" and len(tokenizer.encode("hehe")) == 2


def test_values_that_are_no_numbers_are_refused(values: dict[str, np.ndarray], tmp_path: Path) -> None:
    spoilt = dict(values)
    spoilt["output_norm.weight"] = np.full(HIDDEN, np.nan, dtype=np.float32)
    with pytest.raises(ModelError, match="not numbers"):
        prepare(str(write_gguf(tmp_path / "x.gguf", spoilt)), tmp_path / "cache")


def test_rounding_to_bf16_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    bits = np.concatenate([RNG.integers(0, 0x7F800000, 5000), np.arange(0x3F800000, 0x3F840000, 0x800)])
    numbers = bits.astype(np.uint32).view(np.float32)
    expected = torch.from_numpy(numbers.copy()).to(torch.bfloat16).view(torch.uint16).numpy()
    finite = np.isfinite(torch.from_numpy(numbers.copy()).to(torch.bfloat16).float().numpy())
    ours = np.frombuffer(gguf_convert._to_bf16(numbers, "x"), dtype="<u2")
    assert finite.sum() > 5000 and np.array_equal(ours[finite], expected[finite])


def test_a_cut_file_is_an_error_wherever_it_is_cut(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    for end in [0, 3, 4, 10, 24, 100, 1000, len(data) // 2, len(data) - 1]:
        path = tmp_path / "cut.gguf"
        path.write_bytes(data[:end])
        with pytest.raises(ModelError):
            prepare(str(path), tmp_path / "cache")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 12_000), st.binary(min_size=1, max_size=9))
@example(4965, b"\x01")  # found by chance: a scale and an offset that are infinite, of opposite signs
def test_hostile_gguf_bytes_give_only_our_errors(small: Path, tmp_path: Path, at: int, junk: bytes) -> None:
    data = bytearray(small.read_bytes())
    data[at : at + len(junk)] = junk
    path, target = tmp_path / "hostile.gguf", tmp_path / "out"
    path.write_bytes(data)
    target.mkdir(exist_ok=True)
    try:
        gguf_convert.convert(path, target, lambda stage, done, total: None)
    except NdnInferError as error:
        assert str(error)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=200), st.dictionaries(st.text(max_size=3), st.dictionaries(
    st.sampled_from(["dtype", "shape", "data_offsets"]),
    st.one_of(st.sampled_from(["F32", "BF16", "no"]), st.lists(st.integers(-9, 1 << 40), max_size=3), st.none()),
))))  # fmt: skip
def test_hostile_safetensors_headers_give_only_our_errors(tmp_path: Path, header: bytes | dict[str, object]) -> None:
    path = tmp_path / "x.safetensors"
    if isinstance(header, bytes):
        path.write_bytes(header)
    else:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    try:
        start, specs = weights_file.read_header(path)
    except ModelError:
        return
    assert all(0 <= spec.offset and start + spec.offset + spec.nbytes <= path.stat().st_size for spec in specs)
