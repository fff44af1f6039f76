"""The engine on a GPU against the same engine on the CPU, and against transformers on the GPU.

In fp32 tokens are equal. In bf16 the order of additions differs, so logits are close and last bits are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache, KvPages  # noqa: E402
from ndn_infer.errors import EngineUnavailable  # noqa: E402
from ndn_infer.kv.codec import BlockFormat, decode_block, encode_block  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import GREEDY, PROMPTS, load, run, small_model  # noqa: E402

LONG = [5 + (at * 7) % 140 for at in range(101)]
SAMPLED = Sampling(max_tokens=12, temperature=0.9, seed=3, top_p=0.9, repetition_penalty=1.1, frequency_penalty=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def on_cpu(folder: Path) -> Engine:
    return load(folder)


def tokens(engine: Engine, ids: Sequence[int], params: Sampling = GREEDY) -> list[int]:
    return run(engine, engine.start(ids, params))


def logits(engine: Engine, ids: Sequence[int], *, decoding: bool = False) -> torch.Tensor:
    """float32 [n, vocab] on the CPU, by the weights of prompts, or of decoding."""
    model = engine._model
    with torch.inference_mode():
        cache = KvCache(engine.layout, model.device)
        given = torch.tensor(list(ids), device=model.device)
        hidden = model.score(given, cache) if decoding else model.prompt(given, cache, len(ids))
        return model.logits(hidden).cpu()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root of the mean squared difference, over that of `other`."""
    return float((one.float() - other.float()).norm() / other.float().norm())


@pytest.mark.parametrize("attention", ["grouped", "single"])
@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_tokens_in_fp32_are_those_of_the_cpu(
    folder: Path, on_cpu: Engine, device: str, attention: str, params: Sampling
) -> None:
    engine = load(folder, device=device, attention=attention)
    for ids in PROMPTS:
        assert tokens(engine, ids, params) == tokens(on_cpu, ids, params), len(ids)


def test_tokens_in_fp32_are_those_of_transformers_there(folder: Path, device: str) -> None:
    engine = load(folder, device=device)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    for ids in (PROMPTS[2], PROMPTS[7]):
        given = torch.tensor([ids], device=device)
        out = model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=12, min_new_tokens=12,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        assert tokens(engine, ids) == out[0, len(ids) :].tolist()


def test_bf16_is_as_far_from_fp32_there_as_on_the_cpu(folder: Path, on_cpu: Engine, device: str) -> None:
    right = logits(on_cpu, LONG)
    there = distance(logits(load(folder, device=device, dtype="bf16"), LONG), right)
    here = distance(logits(load(folder, dtype="bf16"), LONG), right)
    assert there < 1.5 * here < 0.15, (there, here)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_fewer_bits_are_rounded_to_as_on_the_cpu(folder: Path, device: str, weights: str) -> None:
    """There no kernel reads them, so the same rounded numbers are computed dense."""
    there, here = (load(folder, device=where, dtype="bf16", weights=weights) for where in (device, "cpu"))
    assert there.engine_class.weights.startswith(weights)
    rounded, dense = logits(there, LONG, decoding=True), logits(there, LONG)
    assert distance(rounded, logits(here, LONG, decoding=True)) < 0.15 and distance(rounded, dense) > 0.01
    assert distance(dense, logits(here, LONG)) < 0.15 and len(tokens(there, LONG)) == 12


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_prompt_in_pieces_is_the_prompt(folder: Path, device: str, dtype: str) -> None:
    whole, pieces = (load(folder, device=device, dtype=dtype, chunk_tokens=count) for count in (128, 8))
    for one, other in zip(whole.prefill(LONG), pieces.prefill(LONG), strict=True):
        assert one[0] == other[0] and distance(one[1], other[1]) < (1e-5 if dtype == "fp32" else 0.02)
    if dtype == "fp32":
        assert tokens(pieces, LONG) == tokens(whole, LONG)


def test_many_streams_together(folder: Path, on_cpu: Engine, device: str) -> None:
    """Short of memory, with guesses: preempted streams are computed again."""
    engine = load(folder, device=device, max_streams=8, speculation="ngram", sharing="exact")
    engine._scheduler.pool.allocate(engine.counters.blocks_free - 70)
    streams = [engine.start(ids, Sampling(max_tokens=30)) for ids in PROMPTS]
    while any(stream.finished is None for stream in streams):
        engine.step()
    assert engine.counters.preemptions
    for ids, stream in zip(PROMPTS, streams, strict=True):
        assert stream.generated == tokens(on_cpu, ids, Sampling(max_tokens=30))


@pytest.mark.parametrize("into", ["device", "cpu"])
def test_blocks_go_over_the_wire_between_gpu_and_cpu(folder: Path, on_cpu: Engine, device: str, into: str) -> None:
    there = load(folder, device=device)
    source, sink = (on_cpu, there) if into == "device" else (there, on_cpu)
    form = BlockFormat(source.layout, "wire", "raw")
    contents = [encode_block(block, form) for _, block in source.prefill(LONG)]
    arrived = [decode_block(content, form) for content in contents]
    stream = sink.start(LONG, GREEDY, arrived)
    assert len(arrived) == 25 and run(sink, stream) == tokens(on_cpu, LONG)
    assert sink.counters.blocks_imported >= 25
    for index, block in enumerate(arrived[:-2]):  # the last rows of a prompt are computed together, and stored anew
        assert torch.equal(sink.export_block(stream, index), block)


def test_layers_are_computed_while_later_ones_arrive(folder: Path, on_cpu: Engine, device: str) -> None:
    engine = load(folder, device=device)
    arriving = [block.clone() for _, block in on_cpu.prefill(LONG)]
    stream = engine.start(LONG, GREEDY, arriving, arriving=True)
    for layers in (1, 2, 3):
        engine.step()
        assert not stream.generated
        engine.supply(stream, layers)
    assert run(engine, stream) == tokens(on_cpu, LONG)


def test_probabilities_of_the_prompt(folder: Path, on_cpu: Engine, device: str) -> None:
    told = []
    for engine in (load(folder, device=device), on_cpu):
        engine.start(LONG, Sampling(max_tokens=1, score_prompt=True))
        scores = []
        while not engine.idle:
            scores += [choice.logprob for output in engine.step() for choice in output.scores]
        told.append(scores)
    assert len(told[0]) == len(LONG) and told[0] == pytest.approx(told[1], abs=1e-3)


def test_stages_there_are_the_whole_model(folder: Path, on_cpu: Engine, device: str) -> None:
    from ndn_infer.config import EngineConfig
    from ndn_infer.engine.stage import Stage

    options = EngineConfig(dtype="fp32", device=device, block_tokens=4)
    passed = torch.tensor(LONG)
    for first, last in ((0, 1), (2, 2)):
        stage = Stage.load(folder, first, last, options)
        passed = stage.prompt(passed, stage.sequence(), len(LONG)).cpu()  # as it goes from node to node
    assert int(stage.logits(passed[-1:].to(device))[0].argmax()) == tokens(on_cpu, LONG)[0]


def test_other_families_by_modules(tmp_path: Path, device: str) -> None:
    torch.manual_seed(1)
    config = transformers.GPT2Config(vocab_size=151, n_positions=128, n_embd=32, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    assert tokens(load(tmp_path, device=device), LONG) == tokens(load(tmp_path), LONG)


def test_steps_are_recorded_and_played_again(folder: Path, on_cpu: Engine, cuda: str) -> None:
    """Through several shapes, beside each other and after one another, in fp32 with the tokens of the CPU."""
    engine = load(folder, device=cuda, max_streams=4)
    for count in (1, 3, 4, 1):
        streams = [engine.start(LONG[: 40 + number], Sampling(max_tokens=25)) for number in range(count)]
        while not engine.idle:
            engine.step()
        for number, stream in enumerate(streams):
            assert stream.generated == tokens(on_cpu, LONG[: 40 + number], Sampling(max_tokens=25))
    steps = engine._model._together._steps
    assert {shape for shape, step in steps.items() if step.recording is not None} >= {(1, 256), (4, 256)}


def test_blocks_are_taken_together(folder: Path, device: str) -> None:
    pages = KvPages(load(folder).layout, torch.device(device), 6)
    made = [torch.randn(pages.layout.shape) for _ in range(6)]
    for number, block in enumerate(made):
        pages.put(number, block)
    taken = pages.take_all([4, 0, 5])
    assert all(torch.equal(one, made[number]) for one, number in zip(taken, (4, 0, 5), strict=True))
    assert all(one.untyped_storage().nbytes() == one.nbytes and one.is_contiguous() for one in taken)


def test_the_class_names_the_device(folder: Path, cuda: str) -> None:
    engine = load(folder, device=cuda)
    major, minor = torch.cuda.get_device_capability(cuda)
    assert str(engine.engine_class) == f"fp32.fp32.llama-torch-3.grouped.cuda{major}-{minor}.raw"
    with pytest.raises(EngineUnavailable, match="there is no cuda:99"):
        load(folder, device="cuda:99")
