"""The engine on a small random Llama: transformers is the oracle, all ways to the same tokens are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.attention import LEAST_ROWS  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache  # noqa: E402
from ndn_infer.engine.model_config import ModelConfig  # noqa: E402
from ndn_infer.engine.rotary import inverse_frequencies  # noqa: E402
from ndn_infer.errors import BadRecord, ConfigError, DamagedCache, EngineUnavailable, ModelError, PromptError  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import GREEDY, PROMPTS, load, oracle, run, small_model  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_tokens_equal_transformers_in_every_way(folder: Path, dtype: str) -> None:
    engine, other = load(folder, dtype=dtype), load(folder, dtype=dtype, chunk_tokens=8)
    expected = [oracle(folder, ids, dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype]) for ids in PROMPTS]
    for ids, tokens in zip(PROMPTS, expected, strict=True):
        assert run(engine, engine.start(ids, GREEDY)) == tokens
        blocks = [block for _, block in other.prefill(ids)]
        assert run(engine, engine.start(ids, GREEDY, blocks)) == tokens
        assert run(engine, engine.start(ids, GREEDY, blocks[: len(blocks) // 2])) == tokens
    streams = [engine.start(ids, GREEDY) for ids in PROMPTS]
    assert [run(engine, stream) for stream in streams] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"tied": False},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }
        },
        {"head_dim": 24},
        {"num_key_value_heads": 4},
    ],
)  # fmt: skip
def test_relatives_of_the_family(tmp_path: Path, changes: dict[str, object]) -> None:
    if "num_key_value_heads" in changes:
        folder = small_model(tmp_path)
        config = transformers.LlamaConfig.from_pretrained(folder, **changes)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    else:
        folder = small_model(tmp_path, **changes)  # type: ignore[arg-type]
    engine = load(folder)
    assert run(engine, engine.start(PROMPTS[-1], GREEDY)) == oracle(folder, PROMPTS[-1])


def test_rotary_frequencies_of_llama3_are_those_of_transformers(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = transformers.LlamaConfig(rope_parameters=rope, hidden_size=256, num_attention_heads=4, head_dim=64)
    expected = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config).inv_freq
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    assert torch.equal(inverse_frequencies(ModelConfig.load(tmp_path)), expected)


# ------------------------------------------------------------ streams


def test_a_long_prompt_does_not_stop_others(folder: Path) -> None:
    engine = load(folder, chunk_tokens=8)
    short = engine.start([5], Sampling(max_tokens=20))
    assert [output.stream for output in engine.step()] == [short]
    long = engine.start(list(range(5, 69)), GREEDY)
    for step in range(8):
        outputs = engine.step()
        assert [output.stream for output in outputs] == ([short, long] if step == 7 else [short])


def test_more_streams_than_may_run_wait(folder: Path) -> None:
    engine = load(folder, max_streams=2)
    streams = [engine.start([5 + n], Sampling(max_tokens=2)) for n in range(5)]
    seen = [[streams.index(output.stream) for output in engine.step()] for _ in range(6)]
    assert seen == [[0, 1], [0, 1], [2, 3], [2, 3], [4], [4]]
    assert all(stream.finished == "length" for stream in streams)
    assert engine.step() == [] and engine.counters.streams_active == 0


def test_cancel(folder: Path) -> None:
    engine = load(folder, max_streams=1)
    first, second = engine.start([5, 6], GREEDY), engine.start([7], GREEDY)
    engine.step()
    engine.cancel(first)
    assert first.finished == "cancelled" and len(first.generated) == 1
    with pytest.raises(ModelError, match="freed"):
        engine.export_block(first, 0)
    assert [output.stream for output in engine.step()] == [second]
    third = engine.start([8], GREEDY)
    engine.cancel(third)
    engine.cancel(third)
    assert len(run(engine, second)) == 12


def test_a_stream_paused_at_any_moment_gives_the_same_tokens_and_is_in_nobodys_way(folder: Path) -> None:
    wanted = run(engine := load(folder), engine.start(PROMPTS[5], GREEDY))
    for moment in range(12):
        engine = load(folder, max_streams=1)
        stream = engine.start(PROMPTS[5], GREEDY)
        for _ in range(moment):
            engine.step()
        engine.pause(stream)
        assert engine.step() == [] and engine.stalled and engine.counters.blocks_used == 0
        other = engine.start(PROMPTS[6], GREEDY)
        assert len(run(engine, other)) == 12
        recomputed = engine.counters.tokens_prefilled
        engine.pause(stream, False)
        engine.pause(stream, False)
        assert run(engine, stream) == wanted and engine.idle
        assert engine.counters.tokens_prefilled - recomputed <= max(33 - 16 * moment, 16)  # what it had was kept
        engine.pause(stream, False)
        assert engine.idle


def test_how_streams_end(folder: Path) -> None:
    engine = load(folder)
    free = run(engine, engine.start([5, 6, 7], GREEDY))
    stopping = engine.start([5, 6, 7], Sampling(max_tokens=12, stop_ids=(free[3],)))
    assert run(engine, stopping) == free[: free.index(free[3]) + 1] and stopping.finished == "stop"
    limit = engine.model_config.context_length
    full = engine.start([5] * (limit - 1), GREEDY)
    assert len(run(engine, full)) == 1 and full.finished == "length"


def test_sampling_continues_on_another_engine(folder: Path) -> None:
    params = Sampling(max_tokens=16, temperature=1.0, seed=11)
    engine = load(folder)
    whole = run(engine, engine.start([5, 6], params))
    rest = Sampling(max_tokens=10, temperature=1.0, seed=11)
    other = load(folder)
    assert run(other, other.start([5, 6, *whole[:6]], rest)) == whole[6:]
    changed = Sampling(max_tokens=16, temperature=1.0, seed=12)
    assert run(engine, engine.start([5, 6], changed)) != whole


# ------------------------------------------------------------ blocks


def test_prefill_yields_blocks_as_chunks_are_done(folder: Path) -> None:
    engine = load(folder, chunk_tokens=8)
    ids = list(range(5, 5 + 27))
    seen = []
    for index, block in engine.prefill(ids):
        seen.append((index, engine.counters.tokens_prefilled))
        assert block.shape == (3, 2, 2, 4, 16) and block.dtype == torch.float32 and block.is_contiguous()
    assert seen == [(0, 8), (1, 8), (2, 16), (3, 16), (4, 24), (5, 24)]
    assert (engine.counters.blocks_prefilled, engine.counters.blocks_imported) == (6, 0)
    assert list(engine.prefill([5, 6, 7])) == []


def test_prefill_goes_on_from_a_prefix(folder: Path) -> None:
    engine, ids = load(folder), list(range(5, 5 + 40))
    blocks = [block for _, block in engine.prefill(ids)]
    more = list(load(folder).prefill(ids, blocks[:6]))
    assert [index for index, _ in more] == [6, 7, 8, 9]
    for index, block in more:
        assert torch.allclose(block, blocks[index], atol=1e-5)
    assert list(engine.prefill(ids, blocks)) == []


def test_blocks_of_a_stream_equal_those_of_prefill(folder: Path) -> None:
    engine = load(folder)
    stream = engine.start(list(range(5, 5 + 10)), GREEDY)
    run(engine, stream)
    ids = [*stream.prompt, *stream.generated[:-1]]
    for index, block in load(folder).prefill(ids):
        assert torch.allclose(engine.export_block(stream, index), block, atol=1e-4)
    with pytest.raises(ModelError, match="not computed"):
        engine.export_block(stream, len(ids) // 4)
    with pytest.raises(ModelError, match="not computed"):
        engine.export_block(stream, -1)


def test_imported_blocks_are_used_and_counted(folder: Path) -> None:
    engine, ids = load(folder), list(range(5, 5 + 16))
    blocks = [block for _, block in load(folder).prefill(ids)]
    right = run(engine, engine.start(ids, GREEDY, blocks))
    assert engine.counters.blocks_imported == 4
    assert engine.counters.tokens_prefilled <= LEAST_ROWS, "the last token, and what its arithmetic needs beside it"
    assert engine.counters.blocks_prefilled == 0
    wrong = [torch.zeros_like(block) for block in blocks]
    assert run(engine, engine.start(ids, GREEDY, wrong)) != right, "imported KV must matter"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda block: block[:2],
        lambda block: block.to(torch.bfloat16),
        lambda block: block[:, :, :, :3],
        lambda block: block.flatten(),
    ],
)
def test_foreign_blocks_are_refused(folder: Path, spoil: object) -> None:
    engine, ids = load(folder), list(range(5, 5 + 16))
    blocks = [block for _, block in engine.prefill(ids)]
    blocks[1] = spoil(blocks[1])  # type: ignore[operator]
    with pytest.raises(BadRecord, match="KV block 1 is"):
        engine.start(ids, GREEDY, blocks)
    assert engine.step() == []


def test_blocks_must_come_in_order() -> None:
    cache = KvCache(BlockLayout(1, 1, 2, 4, torch.float32), torch.device("cpu"), capacity=4)
    block = torch.arange(16.0).reshape(1, 2, 1, 4, 2)
    with pytest.raises(BadRecord, match="does not follow"):
        cache.import_block(1, block)
    for index in range(3):
        cache.import_block(index, block + index)
    assert (cache.length, cache.capacity) == (12, 16)
    assert torch.equal(cache.export_block(2), block + 2)
    with pytest.raises(BadRecord, match="does not follow"):
        cache.import_block(2, block)


# ------------------------------------------------------------ what is refused


def test_bad_prompts(folder: Path) -> None:
    engine = load(folder)
    for ids, words in (([], "empty"), ([151], "0 to 150"), ([-1], "0 to 150"), ([5] * 128, "takes 127")):
        with pytest.raises(PromptError, match=words):
            engine.start(ids, GREEDY)
    with pytest.raises(PromptError, match="takes 128"):
        next(engine.prefill([5] * 129))


def test_bad_options(folder: Path) -> None:
    for name, value in {"dtype": "int3", "chunk_tokens": -1, "speculation": "oracle", "weights": "fp32"}.items():
        with pytest.raises(ConfigError, match=name):
            EngineConfig(**{name: value})  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailable, match="CUDA"):
            load(folder, device="cuda")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["QwenForCausalLM"]}, "not compute QwenForCausalLM"),
        ({"hidden_act": "gelu"}, "SiLU"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "kind yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None}, "kind dynamic"),
    ],
)
def test_other_architectures_are_refused(folder: Path, tmp_path: Path, change: dict[str, object], words: str) -> None:
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineUnavailable, match=words):
        load(tmp_path)


def test_damaged_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DamagedCache, match=r"config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(DamagedCache, match=r"model\.safetensors"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(DamagedCache, match=r"model\.safetensors"):
        load(tmp_path)
