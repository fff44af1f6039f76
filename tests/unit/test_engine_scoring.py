"""How likely a prompt's own tokens are: what transformers says, however the prompt is cut, shared or preempted."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch  # noqa: E402

from ndn_infer.engine import scoring  # noqa: E402
from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.engine.sampler import Choice  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import load, small_model  # noqa: E402

PROMPTS = [tuple((7 * at + 3 * length) % 150 for at in range(length)) for length in (1, 2, 16, 17, 33, 100)]
SCORED = Sampling(max_tokens=3, logprobs=2, score_prompt=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def oracle(folder: Path, prompt: tuple[int, ...]) -> torch.Tensor:
    """Log probabilities [tokens, vocabulary] of what follows each token, by transformers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    with torch.inference_mode():
        return torch.log_softmax(model.eval()(torch.tensor([prompt])).logits[0], dim=-1)


def scores(engine: Engine, streams: list[Stream]) -> list[list[Choice]]:
    found: dict[Stream, list[Choice]] = {stream: [] for stream in streams}
    while any(stream.finished is None for stream in streams):
        for output in engine.step():
            assert output.scores or output.token_id >= 0
            assert not output.scores or not output.stream.generated or output.token_id == output.stream.generated[0]
            found[output.stream] += output.scores
    return [found[stream] for stream in streams]


def check(folder: Path, prompt: tuple[int, ...], told: list[Choice]) -> None:
    assert [one.token for one in told] == list(prompt)
    assert told[0] == Choice(prompt[0], 0.0)
    expected = oracle(folder, prompt)
    for position, one in enumerate(told[1:], 1):
        row = expected[position - 1]
        assert one.logprob == pytest.approx(float(row[one.token]), abs=2e-4)
        best = row.topk(2)
        assert [token for token, _ in one.top] == best.indices.tolist()
        assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=2e-4)


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_scores_are_those_of_transformers(folder: Path, prompt: tuple[int, ...]) -> None:
    engine = load(folder)
    stream = engine.start(prompt, SCORED)
    [told] = scores(engine, [stream])
    check(folder, prompt, told)
    plain = engine.start(prompt, Sampling(max_tokens=3))
    scores(engine, [plain])
    assert plain.generated == stream.generated, "the tokens after it are the same"


def test_side_by_side_and_with_kv_that_is_there(folder: Path) -> None:
    """KV that another stream computed has no logits: it is not taken."""
    engine = load(folder)
    scores(engine, [engine.start(PROMPTS[-1], Sampling(max_tokens=1))])
    shared = engine.counters.tokens_shared
    streams = [engine.start(prompt, SCORED) for prompt in (PROMPTS[-1], PROMPTS[-1], PROMPTS[-2])]
    for stream, told in zip(streams, scores(engine, streams), strict=True):
        check(folder, stream.prompt, told)
    assert engine.counters.tokens_shared == shared


def test_a_stream_that_loses_its_turn_tells_nothing_twice(folder: Path) -> None:
    engine = load(folder)
    stream = engine.start(PROMPTS[-1], SCORED)
    told = [one for output in (*engine.step(), *engine.step()) for one in output.scores]
    assert 0 < len(told) < len(PROMPTS[-1])
    engine.pause(stream)
    engine.step()
    engine.pause(stream, False)
    [rest] = scores(engine, [stream])
    check(folder, PROMPTS[-1], told + rest)


def test_a_few_rows_of_logits_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "ROWS", 4)
    engine = load(folder, chunk_tokens=64)
    most, model = 0, engine._model
    compute = model.logits

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        nonlocal most
        most = max(most, hidden.shape[0])
        return compute(hidden)

    monkeypatch.setattr(model, "logits", logits)
    [told] = scores(engine, [engine.start(PROMPTS[-1], SCORED)])
    check(folder, PROMPTS[-1], told)
    assert most == 4


def test_logits_that_are_no_numbers_end_that_stream_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(folder)
    other = engine.start(PROMPTS[3], Sampling(max_tokens=2))
    compute = engine._model.logits
    monkeypatch.setattr(
        engine._model, "logits", lambda hidden: compute(hidden) * float("nan" if hidden.shape[0] > 1 else 1)
    )
    stream = engine.start(PROMPTS[-1], SCORED)
    outputs = [output for _ in range(20) for output in engine.step()]
    assert stream.finished is not None and stream.finished.startswith("error")
    assert [output.finished for output in outputs if output.stream is stream] == [stream.finished]
    assert other.finished == "length" and len(other.generated) == 2
