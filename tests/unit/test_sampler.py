"""The choice of tokens: its distribution, its filters, and that it is a function of seed and position alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ndn_infer.engine.sampler import SamplingParams, TokenHistory, adjust, choose, distribution, sample, uniform
from ndn_infer.errors import ModelError, UsageError

EXPECTED_UNIFORM = [0.8720734548204873, 0.0828426870273763, 0.9956763359513338]
LOGITS = np.log(np.array([0.5, 0.2, 0.15, 0.1, 0.05], dtype=np.float32))


def frequencies(params: SamplingParams, draws: int = 20_000) -> np.ndarray:
    chosen = [sample(LOGITS, params, position)[0] for position in range(draws)]
    return np.bincount(chosen, minlength=len(LOGITS))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    used = expected > 0
    assert not counts[~used].any()
    wanted = expected[used] / expected.sum() * counts.sum()
    return float(((counts[used] - wanted) ** 2 / wanted).sum())


@pytest.mark.parametrize(
    ("params", "expected", "limit"),
    [  # limits: chi-square at 0.1 % for 4, 4, 1, 2 and 1 degrees of freedom; the draws are fixed, so is the outcome
        (SamplingParams(temperature=1.0), [0.5, 0.2, 0.15, 0.1, 0.05], 18.5),
        (SamplingParams(temperature=2.0), list(np.sqrt([0.5, 0.2, 0.15, 0.1, 0.05])), 18.5),
        (SamplingParams(temperature=1.0, top_k=2), [0.5, 0.2, 0, 0, 0], 10.8),
        (SamplingParams(temperature=1.0, top_p=0.8), [0.5, 0.2, 0.15, 0, 0], 13.8),
        (SamplingParams(temperature=1.0, top_k=3, top_p=0.7), [0.5, 0.2, 0, 0, 0], 10.8),
    ],
)
def test_distribution(params: SamplingParams, expected: list[float], limit: float) -> None:
    assert chi_square(frequencies(params), np.array(expected)) < limit


def test_the_test_of_the_distribution_can_fail() -> None:
    assert chi_square(frequencies(SamplingParams(temperature=1.1)), np.array([0.5, 0.2, 0.15, 0.1, 0.05])) > 18.5


def test_uniform_numbers_are_fixed_for_ever() -> None:
    """Any process of any version must continue a stream identically: these values must never change."""
    assert [uniform(7, 0), uniform(7, 1), uniform(8, 0)] == EXPECTED_UNIFORM
    values = np.array([uniform(1, position) for position in range(10_000)])
    assert 0.0 <= values.min() and values.max() < 1.0
    assert abs(values.mean() - 0.5) < 0.015 and abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_same_seed_and_position_give_the_same_token_whoever_asks() -> None:
    params = SamplingParams(temperature=1.0, seed=2**64 - 1)
    once = [sample(LOGITS, params, position) for position in range(200)]
    again = [sample(LOGITS, params, position) for position in reversed(range(200))]
    assert once == again[::-1]
    assert once != [sample(LOGITS, SamplingParams(temperature=1.0, seed=1), position) for position in range(200)]


def test_greedy_takes_the_first_of_equals_and_tells_its_probability() -> None:
    token, logprob = sample(np.array([1.0, 3.0, 3.0, 0.0], dtype=np.float32), SamplingParams(), 5)
    assert token == 1
    assert logprob == pytest.approx(3.0 - np.log(np.exp([1.0, 3.0, 3.0, 0.0]).sum()))


def test_logprob_is_the_models_not_that_of_the_filtered_choice() -> None:
    token, logprob = sample(LOGITS, SamplingParams(temperature=0.5, top_k=1), 0)
    assert (token, logprob) == (0, pytest.approx(np.log(0.5), abs=1e-6))


def reference_choices(logits: np.ndarray, params: SamplingParams) -> set[int]:
    """Which tokens may come, written down the slow way."""
    scaled = logits.astype(np.float64) / params.temperature
    probabilities = np.exp(scaled - scaled.max())
    order = sorted(range(len(logits)), key=lambda i: (-probabilities[i], i))[: params.top_k or None]
    total = probabilities[order].sum()
    kept, reached = set(), 0.0
    for index in order:
        kept.add(index)
        reached += probabilities[index]
        if params.top_p < 1.0 and reached >= params.top_p * total * (1 + 1e-9):  # at the border either may come
            break
    return kept


@given(
    arrays(np.float32, st.integers(1, 40), elements=st.floats(-20, 20, width=16)),
    st.integers(0, 45),
    st.sampled_from([1.0, 0.99, 0.9, 0.5, 0.01]),
    st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    st.integers(0, 2**64 - 1),
)
def test_no_token_outside_the_filters(
    logits: np.ndarray, top_k: int, top_p: float, temperature: float, seed: int
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    allowed = reference_choices(logits, params)
    for position in range(8):
        token, logprob = sample(logits, params, position)
        assert token in allowed
        assert logprob <= 1e-9


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_bad_parameters_are_refused_by_name(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        SamplingParams(**bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    with pytest.raises(ModelError, match="no numbers"):
        sample(np.array([0.0, value], dtype=np.float32), SamplingParams(), 0)


# ---------------------------------------------------------------- penalties, min-p, logprobs


vocab_logits = arrays(np.float32, st.integers(3, 60), elements=st.floats(-12, 12, width=32))


@settings(max_examples=80, deadline=None)
@given(
    vocab_logits, st.sampled_from([0.3, 1.0, 2.5]), st.integers(0, 30), st.sampled_from([1.0, 0.9, 0.35]),
    st.sampled_from([0.0, 0.05, 0.4, 1.0]),
)  # fmt: skip
def test_filters_leave_what_transformers_leaves(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    torch = pytest.importorskip("torch")
    from transformers.generation import logits_process as theirs

    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = logits + np.arange(len(logits), dtype=np.float32) * np.float32(1e-3)
    assume(len(set(logits.tolist())) == len(logits))  # who stays of equals is a matter of taste
    scores = torch.from_numpy(logits.astype(np.float64))[None]
    steps = [theirs.TemperatureLogitsWarper(temperature)]
    if top_k:
        steps.append(theirs.TopKLogitsWarper(top_k))
    if top_p < 1.0:
        steps.append(theirs.TopPLogitsWarper(top_p))
    if min_p:
        steps.append(theirs.MinPLogitsWarper(min_p))
    for step in steps:
        scores = step(None, scores)
    expected = torch.softmax(scores, -1)[0].numpy()
    ours = distribution(logits, params)
    border = min(abs(np.cumsum(np.sort(expected)) - (1 - top_p))) < 1e-6  # the sum hits top_p by a rounding error
    assert border or np.allclose(ours, expected, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(vocab_logits, st.lists(st.integers(0, 2), max_size=9), st.lists(st.integers(0, 2), max_size=9), st.data())
def test_penalties_are_those_of_their_inventors(
    logits: np.ndarray, prompt: list[int], generated: list[int], data: st.DataObject
) -> None:
    torch = pytest.importorskip("torch")
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    repetition, frequency, presence = (
        data.draw(st.sampled_from(values)) for values in ([1.0, 0.7, 1.8], [0.0, 0.6, -1.0], [0.0, 1.1])
    )
    params = SamplingParams(
        repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence, logit_bias=((1, 2.5),)
    )
    history = TokenHistory(prompt, generated)
    expected = torch.from_numpy(logits.copy())[None]
    expected[0, 1] += 2.5  # before the penalties, as transformers' sequence bias and vLLM's logit bias
    ids = torch.tensor([[*prompt, *generated]], dtype=torch.long)
    if ids.numel():
        expected = RepetitionPenaltyLogitsProcessor(repetition)(ids, expected)
    wanted = expected[0].numpy().astype(np.float64)
    for token in range(len(wanted)):  # OpenAI: mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence
        wanted[token] -= generated.count(token) * frequency + (generated.count(token) > 0) * presence
    before = logits.copy()
    assert np.allclose(adjust(logits, params, history), wanted, atol=1e-5)
    assert np.array_equal(logits, before)
    choice = choose(logits, params, len(prompt) + len(generated), history)
    assert wanted[choice.token] >= wanted.max() - 1e-4
    model = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert choice.logprob == pytest.approx(model[choice.token], abs=1e-5), "the model's own probability"


@given(vocab_logits, st.integers(1, 20))
def test_the_most_likely_tokens_are_reported(logits: np.ndarray, count: int) -> None:
    choice = choose(logits, SamplingParams(logprobs=count), 5)
    model = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert len(choice.top) == min(count, len(logits))
    assert [value for _, value in choice.top] == pytest.approx(sorted(model, reverse=True)[:count], abs=1e-5)
    assert choice.logprob == pytest.approx(choice.top[0][1], abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_p": 1.1}, {"min_p": -0.1}, {"repetition_penalty": 0.0}, {"repetition_penalty": float("nan")},
        {"frequency_penalty": 3.0}, {"presence_penalty": -2.1}, {"logprobs": 21}, {"logit_bias": ((-1, 0.0),)},
        {"logit_bias": ((1, 1000.0),)}, {"logit_bias": tuple((token, 1.0) for token in range(2000))},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SamplingParams(**wrong)  # type: ignore[arg-type]
