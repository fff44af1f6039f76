"""An answer that goes on in a fresh engine, cut at any position: the tokens and log probabilities it would have had."""

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
from ndn_infer.records.sampling import Sampling, TokenBias  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

MADE = 200
PROMPT = [3 + (7 * at) % 140 for at in range(45)]
GREEDY = Sampling(max_tokens=MADE, logprobs=3)
SEEDED = replace(GREEDY, temperature=0.9, top_p=0.95, seed=5)
PENALTIES = replace(
    SEEDED, seed=6, repetition_penalty=1.1, frequency_penalty=0.5, presence_penalty=0.3, logit_bias=(TokenBias(9, 1.0),)
)

Said = list[tuple[int, float, tuple[tuple[int, float], ...]]]
"""Token, its log probability, and what was likely in its place."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"), tied=False, max_position_embeddings=512)


class Fresh:
    """Engines without a memory of what was computed before, over the same weights."""

    def __init__(self, folder: Path, dtype: str, weights: str, attention: str) -> None:
        self._model = load_model(folder, EngineConfig(dtype, weights, attention))

    def say(
        self, ids: Sequence[int], params: Sampling, blocks: Sequence[torch.Tensor] = (), *, answered: int = 0,
        **options: object,
    ) -> Said:  # fmt: skip
        engine = Engine(self._model, EngineConfig(**{"chunk_tokens": 32, "block_tokens": 16, **options}))  # type: ignore[arg-type]
        stream = engine.start(ids, params, blocks, answered=answered)
        said: Said = []
        while stream.finished is None:
            said += [(output.token_id, output.logprob, output.top) for output in engine.step()]
        return said

    def blocks(self, ids: Sequence[int]) -> list[torch.Tensor]:
        return [block for _, block in Engine(self._model, EngineConfig(block_tokens=16, chunk_tokens=24)).prefill(ids)]


@pytest.mark.parametrize(
    ("dtype", "weights", "attention", "params", "every"),
    [
        ("bf16", "int4", "grouped", PENALTIES, 1),
        ("bf16", "int4", "grouped", GREEDY, 9),
        ("bf16", "", "grouped", SEEDED, 7),
        ("bf16", "", "single", GREEDY, 17),
    ],
)
def test_an_answer_goes_on_bit_for_bit_from_every_position(
    folder: Path, dtype: str, weights: str, attention: str, params: Sampling, every: int
) -> None:
    """KV of the prompt is there in part, in whole, or not at all; that of the answer died with its holder."""
    fresh = Fresh(folder, dtype, weights, attention)
    whole = fresh.say(PROMPT, params)
    assert len(whole) == MADE
    tokens = [token for token, *_ in whole]
    held = fresh.blocks(PROMPT) if attention == "grouped" else []
    for made in range(1, MADE, every):
        rest, blocks = replace(params, max_tokens=min(MADE - made, 3)), held[: made % (len(held) + 1)]
        said = fresh.say([*PROMPT, *tokens[:made]], rest, blocks, answered=made, chunk_tokens=16 + made % 50)
        assert said == whole[made : made + 3], made


def test_an_answer_that_is_read_again_as_a_prompt_has_other_bits(folder: Path) -> None:
    """What the test above would miss if it compared tokens of likely answers alone."""
    fresh = Fresh(folder, "bf16", "int4", "grouped")
    whole = fresh.say(PROMPT, GREEDY)
    asked = [*PROMPT, *(token for token, *_ in whole[:150])]
    assert fresh.say(asked, replace(GREEDY, max_tokens=3)) != whole[150:153]


@pytest.mark.parametrize("asked", [32, 33, 45])
def test_rows_wait_for_kv_of_the_prompt_that_is_on_its_way(folder: Path, asked: int) -> None:
    fresh = Fresh(folder, "bf16", "", "grouped")
    whole = fresh.say(PROMPT[:asked], GREEDY)
    tokens, held = [token for token, *_ in whole], fresh.blocks(PROMPT[:asked])
    engine = Engine(fresh._model, EngineConfig(block_tokens=16, chunk_tokens=32))
    ids = [*PROMPT[:asked], *tokens[:50]]
    stream = engine.start(ids, replace(GREEDY, max_tokens=5), held, arriving=True, answered=50)
    assert engine.step() == []
    engine.supply(stream, 2)
    assert engine.step() == []
    engine.supply(stream, 3)
    said: Said = []
    while stream.finished is None:
        said += [(output.token_id, output.logprob, output.top) for output in engine.step()]
    assert said == whole[50:55]
