"""The engine on a small random Llama: transformers is the oracle, all ways to the same tokens are compared."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.attention import LEAST_ROWS  # noqa: E402
from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache  # noqa: E402
from ndn_infer.engine.model_config import ModelConfig  # noqa: E402
from ndn_infer.engine.rotary import inverse_frequencies  # noqa: E402
from ndn_infer.errors import BadRecord, Busy, ConfigError, DamagedCache, EngineUnavailable, ModelError, PromptError  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402

GREEDY = Sampling(max_tokens=12)
PROMPTS = [list(range(5, 5 + n)) for n in (1, 2, 15, 16, 17, 33, 40, 77)]


def small_model(folder: Path, *, tied: bool = True, **changes: object) -> Path:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=151, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=tied, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, **changes,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def load(folder: Path, **options: object) -> Engine:
    return Engine.load(folder, EngineConfig(**{"dtype": "fp32", "chunk_tokens": 16, "block_tokens": 4, **options}))  # type: ignore[arg-type]


def run(engine: Engine, stream: Stream) -> list[int]:
    while stream.finished is None:
        engine.step()
    return stream.generated


def oracle(folder: Path, ids: Sequence[int], count: int = 12, dtype: str = "float32") -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
        max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    tokens: list[int] = out[0, len(ids) :].tolist()
    return tokens


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
    for name, value in {"dtype": "int3", "chunk_tokens": 0, "speculation": "oracle", "weights": "fp32"}.items():
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


# ------------------------------------------------------------ many streams at once


def story(number: int, length: int) -> list[int]:
    """Prompts of which some begin alike."""
    return [5 + (at * (7 + number % 3) + (number if at >= 16 else 0)) % 140 for at in range(length)]


@pytest.mark.parametrize(("dtype", "weights"), [("fp32", ""), ("bf16", ""), ("bf16", "int8"), ("bf16", "int4")])
def test_company_changes_no_token_and_no_bit(folder: Path, dtype: str, weights: str) -> None:
    """Random arrivals, cancellations, too little memory, shared beginnings: tokens, their probabilities and the KV are
    those of a stream alone, bit for bit."""
    options = {"dtype": dtype, "weights": weights}
    alone = load(folder, sharing="off", **options)
    crowded = load(folder, max_streams=5, kv_memory_mib=1, chunk_tokens=8, **options)
    room = crowded.counters.blocks_free
    crowded._scheduler.pool.allocate(room - 24)  # so that five streams do not fit
    dice = random.Random(f"{dtype}{weights}")
    wanted = [(story(number, dice.randrange(1, 50)), dice.randrange(1, 36)) for number in range(12)]
    if dtype == "bf16":
        wanted += [(wanted[0][0], 20)] * 2  # prompts shorter than 512 tokens share in bf16 when they are equal
    streams: list[Stream] = []
    said: dict[Stream, list[float]] = {}
    cancelled = set()
    while len(streams) < len(wanted) or any(stream.finished is None for stream in streams):
        if len(streams) < len(wanted) and dice.random() < 0.4:
            ids, count = wanted[len(streams)]
            streams.append(crowded.start(ids, Sampling(max_tokens=count, temperature=0.8, seed=len(streams))))
        if streams and dice.random() < 0.02:
            cancelled.add(streams[-1])
            crowded.cancel(streams[-1])
        for output in crowded.step():
            said.setdefault(output.stream, []).append(output.logprob)
    assert crowded.counters.preemptions and crowded.counters.tokens_recomputed
    assert crowded.counters.blocks_used == room - 24 and crowded.counters.streams_active == 0
    for number, (stream, (ids, count)) in enumerate(zip(streams, wanted, strict=True)):
        single = alone.start(ids, Sampling(max_tokens=count, temperature=0.8, seed=number))
        logprobs = []
        while single.finished is None:
            logprobs += [output.logprob for output in alone.step()]
        assert stream.generated == single.generated[: len(stream.generated)], number
        assert said.get(stream, []) == logprobs[: len(stream.generated)], number
        assert stream in cancelled or stream.finished == single.finished
    last = [stream for stream in streams if stream not in cancelled][-1]
    again = alone.start(
        last.prompt, Sampling(max_tokens=len(last.generated), temperature=0.8, seed=streams.index(last))
    )
    run(alone, again)
    for index in range(last.length // 4):
        assert torch.equal(crowded.export_block(last, index), alone.export_block(again, index)), index


def test_streams_with_equal_beginnings_share_blocks(folder: Path) -> None:
    engine = load(folder, sharing="near", chunk_tokens=64)
    first = engine.start(story(0, 40), GREEDY)
    engine.step()
    others = [engine.start([*story(0, 30), 9 + number], GREEDY) for number in range(3)]
    engine.step()
    assert engine.counters.tokens_shared == 3 * 20, "5 blocks of 4: 8 rows of a prompt are computed at least"
    assert all(other.table[:5] == first.table[:5] for other in others)
    for stream in (first, *others):
        assert run(engine, stream) == oracle(folder, stream.prompt)
    longer = [*first.prompt, *first.generated, 11, 12, 13]
    assert run(engine, engine.start(longer, GREEDY)) == oracle(folder, longer), "what was generated is shared as well"
    assert engine.counters.tokens_shared == 3 * 20 + 44


def test_exact_sharing_keeps_apart_what_may_differ_in_bits(folder: Path) -> None:
    engine = load(folder)
    run(engine, engine.start(story(0, 40), GREEDY))
    run(engine, engine.start(story(0, 41), GREEDY))
    assert engine.counters.tokens_shared == 0
    run(engine, engine.start(story(0, 40), GREEDY))
    assert engine.counters.tokens_shared == 32


def test_an_answer_with_penalties_goes_on_at_any_position(folder: Path) -> None:
    """In another engine, which is told how much of its prompt is answer: without that the penalties are others."""
    engine, other = load(folder), load(folder)
    params = Sampling(
        max_tokens=20, temperature=0.9, seed=5, repetition_penalty=1.3, frequency_penalty=1.5, presence_penalty=0.5
    )
    ids = story(0, 21)
    whole = run(engine, engine.start(ids, params))
    differ = 0
    for made in range(1, 20):
        rest = replace(params, max_tokens=20 - made)
        assert run(other, other.start([*ids, *whole[:made]], rest, answered=made)) == whole[made:]
        differ += run(other, other.start([*ids, *whole[:made]], rest)) != whole[made:]
    assert differ > 5


@pytest.mark.parametrize("sharing", ["exact", "near"])
def test_streams_of_another_salt_share_nothing(folder: Path, sharing: str) -> None:
    engine = load(folder, sharing=sharing)
    expected = run(engine, engine.start(story(0, 40), GREEDY))
    for salt in ("tenant", "other"):
        shared = engine.counters.tokens_shared
        assert run(engine, engine.start(story(0, 40), GREEDY, cache_salt=salt)) == expected
        assert engine.counters.tokens_shared == shared, salt
        run(engine, engine.start(story(0, 40), GREEDY, cache_salt=salt))
        assert engine.counters.tokens_shared == shared + 32


def test_every_block_boundary_is_a_place_to_move(folder: Path) -> None:
    """KV out of one engine and into another, at each boundary, while both have other streams."""
    here, there = load(folder), load(folder, chunk_tokens=8)
    ids = story(1, 41)
    expected = oracle(folder, ids)
    stream = here.start(ids, GREEDY)
    company = [engine.start(story(2, 60), GREEDY) for engine in (here, there)]
    assert run(here, stream) == expected
    tokens = [*ids, *expected]
    for index in range((len(tokens) - 2) // 4):
        blocks = [here.export_block(stream, at) for at in range(index + 1)]
        known = max(len(ids), len(blocks) * 4 + 1)
        moved = there.start(tokens[:known], Sampling(max_tokens=len(tokens) - known), blocks)
        assert [*tokens[:known], *run(there, moved)] == tokens
    assert [run(engine, other) for engine, other in zip((here, there), company, strict=True)] == [
        oracle(folder, story(2, 60))
    ] * 2


def test_prompts_without_answers_take_turns_with_streams(folder: Path) -> None:
    engine = load(folder, chunk_tokens=8)
    talking = engine.start([5, 6], Sampling(max_tokens=60))
    engine.step()
    wanted = [engine.start_prefill(story(number, 50)) for number in range(3)]
    got: dict[Stream, list[int]] = {stream: [] for stream in wanted}
    while any(stream.finished is None for stream in wanted):
        assert [output.stream for output in engine.step()] == [talking]
        for stream in wanted:
            for index, block in engine.take_blocks(stream):
                got[stream].append(index)
                assert block.shape == (3, 2, 2, 4, 16)
    assert all(indices == list(range(12)) for indices in got.values())
    assert engine.counters.blocks_used == len(talking.table)


def test_what_prefill_computes_meanwhile_is_not_lost(folder: Path) -> None:
    engine = load(folder, chunk_tokens=8)
    talking = engine.start([5, 6], GREEDY)
    assert len(list(engine.prefill(story(0, 50)))) == 12
    seen = []
    while talking.finished is None:
        engine.step()
    engine = load(folder, chunk_tokens=8)
    talking = engine.start([5, 6], GREEDY)
    for _ in engine.prefill(story(0, 50)):
        seen += [output.token_id for output in engine.step()]
    while talking.finished is None:
        seen += [output.token_id for output in engine.step()]
    assert seen == talking.generated and len(seen) == 12


def test_too_many_and_too_large(folder: Path) -> None:
    engine = load(folder, max_streams=1, queue_limit=1)
    first, second = (engine.start([5], GREEDY) for _ in range(2))
    with pytest.raises(Busy):
        engine.start([5], GREEDY)
    assert (engine.counters.streams_active, engine.counters.waiting) == (0, 2)
    engine.step()
    engine.cancel(second)
    assert (engine.counters.streams_active, engine.counters.waiting) == (1, 0)
    run(engine, first)
    assert engine.counters.blocks_used == 0 and engine.idle
    tiny = load(folder, kv_memory_mib=1)
    tiny._scheduler.pool.blocks = 4
    with pytest.raises(PromptError, match="holds 16"):
        tiny.start(list(range(5, 15)), GREEDY)
    assert len(run(tiny, tiny.start(list(range(5, 10)), GREEDY))) == 12


def test_one_stream_of_no_numbers_leaves_the_others(folder: Path) -> None:
    engine = load(folder)
    broken = [torch.full((3, 2, 2, 4, 16), float("nan"))] * 4
    bad, good = engine.start(story(0, 30), GREEDY, broken), engine.start(story(0, 33), GREEDY)
    assert run(engine, good) == oracle(folder, story(0, 33))
    assert (bad.finished or "").startswith("error: the model computed no numbers")
    assert run(engine, engine.start(story(1, 50), GREEDY)) == oracle(folder, story(1, 50)), "its blocks are used again"


def test_blocks_of_an_ended_stream_stay_until_others_need_the_room(folder: Path) -> None:
    engine = load(folder)
    engine._scheduler.pool.blocks = 12
    stream = engine.start(story(0, 12), GREEDY)
    run(engine, stream)
    block = engine.export_block(stream, 0)
    assert engine.counters.blocks_used == 0 and engine.counters.blocks_cached == 5
    run(engine, engine.start(story(1, 33), GREEDY))
    with pytest.raises(ModelError, match="memory was reused"):
        engine.export_block(stream, 4)
    assert torch.equal(block, next(iter(load(folder).prefill(story(0, 12))))[1])
    ended = engine.start([5], Sampling(max_tokens=1))
    run(engine, ended)
    engine.cancel(ended)
    with pytest.raises(ModelError, match="freed"):
        engine.export_block(ended, 0)


@pytest.mark.parametrize("right", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("params", [{}, {"temperature": 0.9, "seed": 4}])
def test_guesses_change_speed_only(folder: Path, right: float, params: dict[str, float]) -> None:
    """A drafter that knows the future, one that often does, one that never does: tokens and KV are the same."""
    chosen = Sampling(max_tokens=40, **params)  # type: ignore[arg-type]
    plain = load(folder, dtype="bf16")
    truth = plain.start(story(0, 21), chosen)
    run(plain, truth)
    dice = random.Random(1)

    class Drafter:
        def __init__(self, prompt: Sequence[int]) -> None:
            self._known = len(prompt)

        def extend(self, ids: Sequence[int]) -> None:
            self._known += len(ids)

        def propose(self, most: int) -> list[int]:
            coming = truth.tokens[self._known : self._known + most]
            return [token if dice.random() < right else (token + 1) % 151 for token in coming]

        def outcome(self, proposed: int, held: int) -> None:
            assert 0 <= held <= proposed and proposed > 0

    model = plain._model
    engine = Engine(model, EngineConfig(chunk_tokens=16, block_tokens=4, kv_memory_mib=1))
    engine._next.drafter = Drafter
    other, stream = engine.start([9, 8, 7], GREEDY), engine.start(story(0, 21), chosen)
    outputs = []
    while stream.finished is None:
        outputs += [output.token_id for output in engine.step() if output.stream is stream]
    assert outputs == stream.generated == truth.generated and stream.finished == truth.finished
    counters = engine.counters
    assert counters.tokens_guessed and (counters.tokens_accepted > 0) == (right > 0)
    if right == 1.0:
        assert counters.steps < 20
    for index in range(stream.length // 4):
        assert torch.equal(engine.export_block(stream, index), plain.export_block(truth, index))
    assert run(engine, other) == run(plain, plain.start([9, 8, 7], GREEDY)) and counters.blocks_used == 0


def test_guesses_from_the_text_itself(folder: Path) -> None:
    """Prompt lookup, with penalties that look at the text so far."""
    params = Sampling(max_tokens=60, repetition_penalty=1.05)
    plain, guessing = load(folder), load(folder, speculation="ngram")
    for ids in (story(0, 30), [5, 6, 7] * 12):
        for chosen in (params, Sampling(max_tokens=60)):
            assert run(guessing, guessing.start(ids, chosen)) == run(plain, plain.start(ids, chosen))
    assert 0 < guessing.counters.tokens_accepted <= guessing.counters.tokens_guessed
    assert guessing.counters.steps < plain.counters.steps


def test_memory_mapped_ahead_changes_nothing(folder: Path) -> None:
    """Whether blocks were never used, were mapped by an idle engine, or had another owner before."""
    prompt, expected = list(range(3, 80)), oracle(folder, range(3, 80))
    engine = load(folder, sharing="off", kv_memory_mib=1)
    for _ in range(8):
        while engine.prepare():
            pass
        assert run(engine, engine.start(prompt, Sampling(12))) == expected
