"""A published answer computed again: the honest one holds bit for bit, any other is found where it first differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.engine.fallback import load_model  # noqa: E402
from ndn_infer.engine.kv_cache import KvPages, KvSequence  # noqa: E402
from ndn_infer.engine.published import AGREES, DIFFERS, MOST_ROWS, Difference, PublishedAnswer, Top  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from ndn_infer.records.sampling import Sampling, TokenBias  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

MADE = 100
PROMPT = [3 + (7 * at) % 140 for at in range(45)]
GREEDY = Sampling(max_tokens=MADE, logprobs=3)
SEEDED = replace(GREEDY, temperature=0.9, top_p=0.95, seed=5)
PENALTIES = replace(
    SEEDED, seed=6, repetition_penalty=1.1, frequency_penalty=0.5, presence_penalty=0.3, logit_bias=(TokenBias(9, 1.0),)
)
WEIGHTS = ("", "int8", "int4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"), tied=False, max_position_embeddings=512)


@pytest.fixture(scope="module")
def as_wide_as_smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of its widths: the kernels that are taken follow from these."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(4)
    config = transformers.LlamaConfig(
        vocab_size=2048, hidden_size=576, intermediate_size=1536, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=512, initializer_range=0.1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Answer:
    """What an engine says, and engines that check it."""

    def __init__(self, folder: Path, weights: str, params: Sampling) -> None:
        self.params = params
        self._model = load_model(folder, EngineConfig("bf16", weights))
        engine = self.engine()
        stream = engine.start(PROMPT, params)
        self.blocks: list[torch.Tensor] = []
        self.ids: list[int] = []
        self.told: list[tuple[float, Top]] = []
        while stream.finished is None:
            for output in engine.step():
                self.ids.append(output.token_id)
                self.told.append((output.logprob, output.top))
        for index in range((len(PROMPT) + len(self.ids) - 1) // engine.block_tokens):
            self.blocks.append(engine.export_block(stream, index))

    def engine(self) -> Engine:
        return Engine(self._model, EngineConfig(chunk_tokens=256, block_tokens=16))

    def check(
        self, ids: Sequence[int], told: Sequence[tuple[float, Top]] = (), params: Sampling | None = None
    ) -> tuple[str | None, PublishedAnswer, int]:
        """How the stream ended, what was compared, steps it took."""
        engine, published = self.engine(), PublishedAnswer(ids, told)
        stream, steps = engine.start_check(PROMPT, params or self.params, published), 0
        while stream.finished is None:
            engine.step()
            steps += 1
        assert engine.idle and engine.counters.blocks_used == 0
        return stream.finished, published, steps


@pytest.mark.parametrize("params", [GREEDY, SEEDED, PENALTIES], ids=["greedy", "seeded", "penalties"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_honest_answer_holds_with_its_log_probabilities(folder: Path, weights: str, params: Sampling) -> None:
    answer = Answer(folder, weights, params)
    finished, published, steps = answer.check(answer.ids, answer.told)
    assert (published.difference, published.checked) == (None, len(answer.ids))
    assert finished in ("length", "stop")
    assert steps <= 2 + -(-len(answer.ids) // MOST_ROWS)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("at", [0, 17, 64])
def test_an_edited_token_is_found_where_it_stands(folder: Path, weights: str, at: int) -> None:
    answer = Answer(folder, weights, SEEDED)
    at = min(at, len(answer.ids) - 1)
    other = (answer.ids[at] + 1) % 140 + 3
    finished, published, _ = answer.check([*answer.ids[:at], other, *answer.ids[at + 1 :]])
    assert finished == DIFFERS and published.difference is not None
    assert (published.difference.index, published.difference.published) == (at, other)
    assert published.difference.recomputed == answer.ids[at]
    assert published.difference.margin > 0


def test_an_answer_that_is_cut_agrees_as_far_as_it_goes(folder: Path) -> None:
    answer = Answer(folder, "", GREEDY)
    finished, published, _ = answer.check(answer.ids[:40])
    assert finished == AGREES and published.checked == 40 and published.difference is None


def test_what_is_told_of_a_token_is_compared(folder: Path) -> None:
    answer = Answer(folder, "int8", GREEDY)
    told = [*answer.told]
    told[20] = (told[20][0] + 1e-6, told[20][1])
    _, published, _ = answer.check(answer.ids, told)
    assert published.difference == Difference(20, answer.ids[20], answer.ids[20], 0.0, "logprob")


@pytest.mark.parametrize("params", [SEEDED, replace(SEEDED, temperature=0.7, top_k=20)], ids=["top-p", "top-k"])
def test_another_seed_is_found(folder: Path, params: Sampling) -> None:
    answer = Answer(folder, "", params)
    _, published, _ = answer.check(answer.ids, params=replace(params, seed=99))
    assert published.difference is not None


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("params", [GREEDY, SEEDED, PENALTIES], ids=["greedy", "seeded", "penalties"])
def test_a_span_is_computed_after_kv_of_others_alone(folder: Path, weights: str, params: Sampling) -> None:
    """With the bits that it had in the answer, in one step, whatever is before it."""
    answer = Answer(folder, weights, params)
    first = 5 * 16 - len(PROMPT)
    for edited in (False, True):
        ids = answer.ids[first : first + 16]
        ids[9] = (ids[9] + 1) % 140 + 3 if edited else ids[9]
        published = PublishedAnswer(ids, answer.told[first : first + 16])
        engine = answer.engine()
        stream = engine.start_check(
            [*PROMPT, *answer.ids[:first]], replace(params, max_tokens=MADE - first), published, answer.blocks[:5],
            answered=first,
        )  # fmt: skip
        engine.step()
        assert stream.finished == (DIFFERS if edited else AGREES) and published.checked == (9 if edited else 16)
        assert engine.counters.tokens_prefilled == 0


def test_the_first_layer_follows_from_the_tokens_alone(folder: Path) -> None:
    answer = Answer(folder, "", SEEDED)
    ids = [*PROMPT, *answer.ids][: 16 * len(answer.blocks)]
    said = torch.cat([block[0] for block in answer.blocks], dim=2)
    assert torch.equal(answer.engine().first_layer(ids), said)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("rows", [7, MOST_ROWS])
def test_rows_of_several_tokens_have_the_bits_of_single_ones(as_wide_as_smollm2: Path, weights: str, rows: int) -> None:
    model = load_model(as_wide_as_smollm2, EngineConfig("bf16", weights))
    config = model.config
    layout = BlockLayout(config.layers, config.kv_heads, config.head_dim, 16, model.dtype)
    ids = [(31 * at) % 2000 for at in range(MOST_ROWS)]
    said, kept = [], []
    for at_once in (1, rows):
        pages = KvPages(layout, model.device, 6)
        cache = KvSequence(pages, [0, 1, 2, 3, 4, 5], 0)
        with torch.inference_mode():
            parts = [model.rows([(cache, ids[at : at + at_once])]) for at in range(0, len(ids), at_once)]
            said.append(model.logits(torch.cat(parts)))
        kept.append(torch.stack([cache.export_block(block) for block in range(4)]))
    assert torch.equal(said[0], said[1]) and torch.equal(kept[0], kept[1])


# ------------------------------------------------------------ read as a prompt


@pytest.mark.parametrize("params", [GREEDY, SEEDED, PENALTIES], ids=["greedy", "seeded", "penalties"])
def test_margins_of_an_honest_answer_are_small_and_those_of_another_are_not(folder: Path, params: Sampling) -> None:
    answer = Answer(folder, "", params)
    ids, places = list(answer.ids), range(len(answer.ids))
    margins = read(answer, ids, places)
    assert sorted(margins) == list(places)
    assert sum(margin > 0.5 for margin in margins.values()) == 0
    ids[30] = (ids[30] + 1) % 140 + 3
    edited = read(answer, ids, places)
    assert edited[30] > margins[30] and all(edited[at] == margins[at] for at in range(30))


def test_only_the_positions_that_are_asked_for_are_looked_at(folder: Path) -> None:
    answer = Answer(folder, "", SEEDED)
    everywhere = read(answer, answer.ids, range(len(answer.ids)))
    assert read(answer, answer.ids, [5, 40]) == {at: everywhere[at] for at in (5, 40)}


def test_another_reading_finds_the_prompt_there(folder: Path) -> None:
    answer, margins = Answer(folder, "", SEEDED), []
    engine = answer.engine()
    for _ in range(2):
        stream, reading = engine.start_reading(PROMPT, SEEDED, answer.ids, range(MADE), cache_salt="audit")
        while stream.finished is None:
            engine.step()
        margins.append(reading.margins)
    assert margins[0] == margins[1] and engine.counters.tokens_shared == len(PROMPT) // 16 * 16


def read(answer: Answer, ids: Sequence[int], positions: Sequence[int]) -> dict[int, float]:
    engine = answer.engine()
    stream, reading = engine.start_reading(PROMPT, answer.params, ids, positions)
    while stream.finished is None:
        engine.step()
    return reading.margins
