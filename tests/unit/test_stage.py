"""Layer ranges: whatever a model is cut into, the logits and the KV are those of the whole, bit for bit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.attention import LEAST_ROWS  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache  # noqa: E402
from ndn_infer.engine.llama import Llama  # noqa: E402
from ndn_infer.engine.model_config import ModelConfig  # noqa: E402
from ndn_infer.engine.stage import Sequences, Stage, piece_end  # noqa: E402
from ndn_infer.engine.weights import Part  # noqa: E402
from ndn_infer.errors import BadRecord, PromptError, UsageError  # noqa: E402
from ndn_infer.functions.stage_steps import Cutter, StageRequest  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from ndn_infer.models.store import ModelFolder  # noqa: E402
from tests.unit.test_engine_families import make  # noqa: E402

LAYERS = 5
PROMPT = [(7 * n + 3) % 151 for n in range(43)]
TAIL = [11, 90, 4, 150, 33]
BLOCK = 4
CUTS = [
    *[(at,) for at in range(1, LAYERS)],
    *itertools.combinations(range(1, LAYERS), 2),
    *itertools.combinations(range(1, LAYERS), LAYERS - 1),
]
"""Every way to cut five layers into two or three stages, and into single layers."""


def five_layers(folder: Path, **changes: object) -> Path:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=151, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        **changes,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return five_layers(tmp_path_factory.mktemp("model"), tie_word_embeddings=True)


def ranges(cut: Sequence[int], layers: int = LAYERS) -> list[tuple[int, int]]:
    edges = [0, *cut, layers]
    return [(first, end - 1) for first, end in itertools.pairwise(edges)]


def prompt_chunks(total: int, chunk: int, least: int) -> list[tuple[int, int]]:
    """(start, end) of all pieces of a prompt."""
    cuts, start = [], 0
    while start < total:
        cuts.append((start, piece_end(start, total, chunk, least)))
        start = cuts[-1][1]
    return cuts


def whole_run(
    folder: Path, prompt: Sequence[int], tail: Sequence[int], *, chunk: int, block: int = BLOCK, **options: Any
) -> tuple[Any, KvCache]:
    """Logits of every chunk's last token and of every token of `tail`, by the model in one piece."""
    model = Llama.load(folder, EngineConfig(options.get("dtype", "fp32"), options.get("weights", "")))
    config = model.config
    cache = KvCache(BlockLayout(config.layers, config.kv_heads, config.head_dim, block, model.dtype), model.device)
    out = []
    with torch.inference_mode():
        for start, end in prompt_chunks(len(prompt), chunk, LEAST_ROWS):
            out.append(model.logits(model.prompt(torch.tensor(prompt[start:end]), cache, len(prompt))[-1:]))
        out += [model.logits(model.decode(token, cache)) for token in tail]
        return torch.cat(out), cache


def staged_run(
    stages: Sequence[Stage], prompt: Sequence[int], tail: Sequence[int], *, chunk: int
) -> tuple[Any, list[KvCache]]:
    caches, out = [stage.sequence() for stage in stages], []
    for start, end in prompt_chunks(len(prompt), chunk, LEAST_ROWS):
        hidden = torch.tensor(prompt[start:end])
        for stage, cache in zip(stages, caches, strict=True):
            hidden = stage.prompt(hidden, cache, len(prompt))
        out.append(stages[-1].logits(hidden[-1:]))
    for token in tail:
        hidden = torch.tensor([token])
        for stage, cache in zip(stages, caches, strict=True):
            hidden = stage.decode(hidden, cache)
        out.append(stages[-1].logits(hidden))
    return torch.cat(out), caches


def load_all(folder: Path, cut: Sequence[int], layers: int = LAYERS, block: int = BLOCK, **options: Any) -> list[Stage]:
    options = {"dtype": "fp32", **options}
    return [Stage.load(folder, *part, EngineConfig(block_tokens=block, **options)) for part in ranges(cut, layers)]


@pytest.mark.parametrize(
    "options", [{"dtype": "fp32"}, {"dtype": "bf16"}, {"dtype": "bf16", "weights": "int4"}], ids=str
)
def test_every_cut_gives_the_logits_and_the_kv_of_the_whole(folder: Path, options: dict[str, Any]) -> None:
    for chunk in (16, 200):
        expected, whole = whole_run(folder, PROMPT, TAIL, chunk=chunk, **options)
        for cut in CUTS:
            got, caches = staged_run(load_all(folder, cut, **options), PROMPT, TAIL, chunk=chunk)
            assert torch.equal(got, expected), (cut, chunk)
            for index in range(whole.length // BLOCK):
                slices = torch.cat([cache.export_block(index) for cache in caches])
                assert torch.equal(slices, whole.export_block(index)), (cut, chunk, index)


@pytest.mark.parametrize("name", ["mistral-window", "qwen2-window", "qwen3", "llama-biases"])
def test_other_families_and_windows_that_differ_by_layer(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path, name)
    expected, _ = whole_run(folder, PROMPT, TAIL, chunk=16)
    for cut in ((1,), (2,), (1, 2)):
        assert torch.equal(staged_run(load_all(folder, cut, 3), PROMPT, TAIL, chunk=16)[0], expected), cut


def test_a_head_of_its_own(tmp_path: Path) -> None:
    folder = five_layers(tmp_path, tie_word_embeddings=False)
    expected, _ = whole_run(folder, PROMPT, TAIL, chunk=16)
    assert torch.equal(staged_run(load_all(folder, (2,)), PROMPT, TAIL, chunk=16)[0], expected)


def test_a_part_reads_its_own_weights_only(folder: Path) -> None:
    config = ModelConfig.load(folder)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        stored = list(file.keys())
    parts = [Part(first, last, LAYERS).names(stored, config) for first, last in ranges((2, 4))]
    assert set().union(*parts) == set(stored)
    embedding = "model.embed_tokens.weight"
    assert [embedding in part for part in parts] == [True, False, True], "the tied head is the embedding"
    assert ["model.norm.weight" in part for part in parts] == [False, False, True]
    assert {key: name for key, name in parts[1].items() if "o_proj" in key} == {
        "model.layers.2.self_attn.o_proj.weight": "model.layers.0.self_attn.o_proj.weight",
        "model.layers.3.self_attn.o_proj.weight": "model.layers.1.self_attn.o_proj.weight",
    }


def test_kv_out_of_one_stage_and_into_another(folder: Path) -> None:
    """At every block boundary a fresh stage goes on where another one was."""
    one, two = load_all(folder, (2,), dtype="bf16")
    chunks = [(start, start + BLOCK) for start in range(0, 40, BLOCK)]
    expected, _ = whole_run(folder, PROMPT[:40], TAIL, chunk=200, dtype="bf16")
    _, caches = staged_run([one, two], PROMPT[:40], [], chunk=200)
    for _, end in chunks[:-2]:
        fresh = two.sequence()
        for index in range(end // BLOCK):
            fresh.import_block(index, caches[1].export_block(index))
        first = one.sequence()
        hidden = one.prompt(torch.tensor(PROMPT[:40]), first, 40)
        out = [two.logits(two.prompt(hidden[end:], fresh, 40)[-1:])]
        out += [two.logits(two.decode(one.decode(torch.tensor([token]), first), fresh)) for token in TAIL]
        assert torch.equal(torch.cat(out), expected), end
    with pytest.raises(BadRecord, match="KV block"):
        one.sequence().import_block(0, caches[1].export_block(0))  # of three layers, not two


def test_what_is_refused(folder: Path) -> None:
    for first, last in ((0, LAYERS), (3, 2), (-1, 2)):
        with pytest.raises(UsageError, match="layers 0-4"):
            Stage.load(folder, first, last, EngineConfig())
    one, two = load_all(folder, (2,))
    hidden = one.prompt(torch.tensor(PROMPT), one.sequence(), len(PROMPT))
    for wrong in (hidden[:, :-1], hidden.bfloat16(), torch.tensor(PROMPT)):
        with pytest.raises(BadRecord, match="take torch.float32"):
            two.prompt(wrong, two.sequence(), len(PROMPT))
    with pytest.raises(BadRecord, match="token ids"):
        one.decode(hidden[:1], one.sequence())
    with pytest.raises(PromptError, match="0 to 150"):
        one.prompt(torch.tensor([3, 151]), one.sequence(), 2)
    with pytest.raises(PromptError, match="of a prompt of 12"):
        one.prompt(torch.tensor(PROMPT), one.sequence(), 12)
    with pytest.raises(UsageError, match="no logits"):
        one.logits(hidden)


def test_chunks_leave_no_short_rest() -> None:
    assert prompt_chunks(5, 16, 8) == [(0, 5)]
    assert prompt_chunks(40, 16, 8) == [(0, 16), (16, 32), (32, 40)]
    assert prompt_chunks(39, 16, 8) == [(0, 16), (16, 39)]
    assert prompt_chunks(16, 16, 8) == [(0, 16)]
    starts = [start for start in range(39) if piece_end(start, 39, 16, 8) > start]
    assert starts == [0, 16], "no other token begins a piece"


# ------------------------------------------------------------ steps


def test_steps_cut_a_sequence_and_go_on_alike() -> None:
    cutter = Cutter("bf16", 16)
    tokens = [*PROMPT, *TAIL]
    steps = cutter.steps(tokens, len(PROMPT))
    assert [(step.start, step.end) for step in steps] == [
        (0, 16),
        (16, 32),
        (32, 43),
        *[(n, n + 1) for n in range(43, 48)],
    ]
    assert [token for step in steps for token in step.ids] == tokens
    assert [step.parent for step in steps] == [cutter.seed, *[step.value for step in steps[:-1]]]
    for count in (16, 32, 43, 45):
        known = cutter.steps(tokens[:count], len(PROMPT))
        assert known == steps[: len(known)] and known[-1].end == count
    assert cutter.step((33,), 47, 43, steps[-2].value) == steps[-1]


def test_tokens_after_a_prompt_are_joined_to_runs_that_end_as_they_do() -> None:
    cutter, tokens = Cutter("bf16", 16), [*PROMPT, *(n % 151 for n in range(20))]
    steps = cutter.steps(tokens, len(PROMPT))
    *pieces, first, second = cutter.joined(steps)
    assert pieces == steps[:3]
    assert [(run.start, run.end) for run in (first, second)] == [(43, 59), (59, 63)]
    assert first.parent == steps[2].value and second.parent == first.value == steps[18].value
    assert second.value == steps[-1].value
    assert second == cutter.step(tokens[59:], 59, 43, first.value), "asked for as it is"
    assert [*cutter.apart(first), *cutter.apart(second)] == steps[3:]
    assert len({step.name for step in [*steps, first, second]}) == len(steps) + 2, "a run has more rows"
    assert cutter.joined(steps[3:4]) == steps[3:4] and steps[3].name == steps[3].value
    assert cutter.joined([]) == []


def test_the_value_of_a_step_says_all_that_its_numbers_depend_on() -> None:
    """Tokens, cuts, and in bf16 the prompt's length in classes; a decoded token is not the same as one of a prompt."""
    long = [n % 151 for n in range(700)]
    exact, wide = Cutter("bf16", 16), Cutter("fp32", 16)

    def value(cutter: Cutter, total: int, number: int) -> bytes:
        return cutter.steps(long[:total], total)[number].value

    assert value(exact, 40, 0) != value(exact, 48, 0)
    assert value(exact, 600, 0) == value(exact, 700, 0)
    assert value(exact, 600, 36) != value(exact, 700, 36), "what lies in the last tile follows the length"
    assert value(wide, 40, 0) == value(wide, 48, 0)
    assert value(wide, 48, 0) != Cutter("fp32", 8).steps(long[:48], 48)[0].value
    prompt, decoded = wide.steps(long[:16], 16)[0], wide.steps(long[:16], 15)
    assert prompt.value != decoded[-1].value
    assert wide.step((5,), 16, 17, prompt.value).value != wide.step((5,), 16, 16, prompt.value).value
    assert wide.step((5,), 16, 16, prompt.value).value != wide.step((6,), 16, 16, prompt.value).value


def test_a_request_is_compared_with_the_model_before_anything_is_done_with_it() -> None:
    """One of 435 bytes that spoke of a prompt of 2^32 tokens took 3.7 s and 1.5 GB."""
    cutter = Cutter("bf16", 16)
    steps = cutter.steps([*PROMPT, *TAIL], len(PROMPT))
    for step in steps:
        before = tuple([*PROMPT, *TAIL][: step.start])
        good = StageRequest("m", "c", step.start, step.prompt, step.ids, step.parent.hex(), 16, before)
        assert cutter.check(good, 48, 151) == step
        bad: list[dict[str, Any]] = [
            {"prompt": 1 << 32}, {"prompt": 1 << 18}, {"prompt": 0}, {"ids": ()}, {"ids": (*step.ids, *range(16))},
            {"ids": step.ids[:-1]}, {"ids": (151, *step.ids[1:])}, {"start": step.start + 1}, {"start": 1 << 31},
            {"before": (*before, 1)}, {"before": (151, *before[1:])},
            {"parent": cutter.seed.hex() if before else "00" * 32},
        ]  # fmt: skip
        if step.start < step.prompt:
            bad.append({"ids": (*step.ids, 1)})
        for change in bad:
            with pytest.raises(BadRecord):
                cutter.check(replace(good, **change), 48, 151)
        with pytest.raises(BadRecord, match="a context is 47"):
            cutter.check(replace(good, prompt=48), 47, 151)


# ------------------------------------------------------------ sequences


def extend(stage: Stage, kept: Sequences, parent: bytes, key: bytes, ids: Sequence[int]) -> Any:
    cache = kept.take(parent) if parent else stage.sequence()
    assert cache is not None
    hidden = stage.decode(torch.tensor(ids), cache)
    kept.keep(parent, key, cache)
    return hidden


def test_a_fork_does_not_disturb_the_other_branch(folder: Path) -> None:
    stage = Stage.load(folder, 0, 2, EngineConfig("fp32", block_tokens=BLOCK))
    kept = Sequences(stage, 1 << 30)
    extend(stage, kept, b"", b"a", [5, 6, 7])
    straight = extend(stage, kept, b"a", b"ab", [8, 9])
    assert len(kept) == 1, "nothing is copied without need"
    other = extend(stage, kept, b"a", b"ac", [10, 11])
    assert len(kept) == 2
    again = extend(stage, kept, b"ab", b"abd", [12])
    assert torch.equal(straight, stage.decode(torch.tensor([5, 6, 7, 8, 9]), stage.sequence())[3:])
    assert torch.equal(other, stage.decode(torch.tensor([5, 6, 7, 10, 11]), stage.sequence())[3:])
    assert torch.equal(again, stage.decode(torch.tensor([5, 6, 7, 8, 9, 12]), stage.sequence())[5:])
    assert kept.take(b"nothing") is None


def test_the_least_recently_used_sequence_goes(folder: Path) -> None:
    stage = Stage.load(folder, 0, 0, EngineConfig("fp32", block_tokens=BLOCK))
    one = stage.sequence().pages.blocks * stage.layout.nbytes
    kept = Sequences(stage, 2 * one)
    for key in (b"a", b"b"):
        extend(stage, kept, b"", key, [5])
    extend(stage, kept, b"a", b"aa", [6])
    extend(stage, kept, b"", b"c", [7])
    assert (b"a" in kept, b"aa" in kept, b"b" in kept, b"c" in kept) == (True, True, False, True)
    assert kept.bytes == 2 * one


# ------------------------------------------------------------ the model that is shipped


@pytest.mark.model
@pytest.mark.parametrize("options", [{"dtype": "fp32"}, {"dtype": "bf16"}], ids=str)
def test_smollm2(smollm2: ModelFolder, options: dict[str, Any]) -> None:
    facts = json.loads((smollm2.path / "config.json").read_text())
    prompt = [(7919 * n + 11) % 40000 for n in range(150)]
    expected, _ = whole_run(smollm2.path, prompt, TAIL, chunk=64, block=16, **options)
    for cut in ((1,), (15,), (29,), (10, 20)):
        stages = load_all(smollm2.path, cut, facts["num_hidden_layers"], 16, **options)
        assert torch.equal(staged_run(stages, prompt, TAIL, chunk=64)[0], expected), cut
