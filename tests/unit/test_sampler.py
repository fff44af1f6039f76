"""The choice of tokens: its distribution, its filters, and that it is a function of seed and position alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ndn_infer.engine import sampler
from ndn_infer.engine.sampler import GREEDY_BELOW, TokenHistory, _best, _candidates, adjust, choose, told_of, uniform
from ndn_infer.errors import ModelError, UsageError
from ndn_infer.records.sampling import Sampling, TokenBias, range_of, words_of

EXPECTED_UNIFORM = [0.8720734548204873, 0.0828426870273763, 0.9956763359513338]
LOGITS = np.log(np.array([0.5, 0.2, 0.15, 0.1, 0.05], dtype=np.float32))


def sample(
    logits: np.ndarray, params: Sampling, position: int, history: TokenHistory | None = None
) -> tuple[int, float]:
    return choose(logits, params, position, history)[:2]


def distribution(logits: np.ndarray, params: Sampling) -> np.ndarray:
    """[vocab]: with which probability `choose` takes each token, over all seeds."""
    spread = np.zeros(len(logits))
    best, peak = _best(logits)
    if params.temperature < GREEDY_BELOW:
        spread[best] = 1.0
        return spread
    ids, weights = _candidates(logits, peak, params)
    spread[ids] = weights / weights.sum(dtype=np.float64)
    return spread


def frequencies(params: Sampling, draws: int = 20_000) -> np.ndarray:
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
        (Sampling(temperature=1.0), [0.5, 0.2, 0.15, 0.1, 0.05], 18.5),
        (Sampling(temperature=2.0), list(np.sqrt([0.5, 0.2, 0.15, 0.1, 0.05])), 18.5),
        (Sampling(temperature=1.0, top_k=2), [0.5, 0.2, 0, 0, 0], 10.8),
        (Sampling(temperature=1.0, top_p=0.8), [0.5, 0.2, 0.15, 0, 0], 13.8),
        (Sampling(temperature=1.0, top_k=3, top_p=0.7), [0.5, 0.2, 0, 0, 0], 10.8),
    ],
)
def test_distribution(params: Sampling, expected: list[float], limit: float) -> None:
    assert chi_square(frequencies(params), np.array(expected)) < limit


def test_the_test_of_the_distribution_can_fail() -> None:
    assert chi_square(frequencies(Sampling(temperature=1.1)), np.array([0.5, 0.2, 0.15, 0.1, 0.05])) > 18.5


def test_uniform_numbers_are_fixed_for_ever() -> None:
    """Any process of any version must continue a stream identically: these values must never change."""
    assert [uniform(7, 0), uniform(7, 1), uniform(8, 0)] == EXPECTED_UNIFORM
    values = np.array([uniform(1, position) for position in range(10_000)])
    assert 0.0 <= values.min() and values.max() < 1.0
    assert abs(values.mean() - 0.5) < 0.015 and abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_same_seed_and_position_give_the_same_token_whoever_asks() -> None:
    params = Sampling(temperature=1.0, seed=2**64 - 1)
    once = [sample(LOGITS, params, position) for position in range(200)]
    again = [sample(LOGITS, params, position) for position in reversed(range(200))]
    assert once == again[::-1]
    assert once != [sample(LOGITS, Sampling(temperature=1.0, seed=1), position) for position in range(200)]


def test_greedy_takes_the_first_of_equals_and_tells_its_probability() -> None:
    token, logprob = sample(np.array([1.0, 3.0, 3.0, 0.0], dtype=np.float32), Sampling(), 5)
    assert token == 1
    assert logprob == pytest.approx(3.0 - np.log(np.exp([1.0, 3.0, 3.0, 0.0]).sum()))


def test_logprob_is_the_models_not_that_of_the_filtered_choice() -> None:
    token, logprob = sample(LOGITS, Sampling(temperature=0.5, top_k=1), 0)
    assert (token, logprob) == (0, pytest.approx(np.log(0.5), abs=1e-6))


def reference_choices(logits: np.ndarray, params: Sampling) -> set[int]:
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
    params = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    allowed = reference_choices(logits, params)
    for position in range(8):
        token, logprob = sample(logits, params, position)
        assert token in allowed
        assert logprob <= 1e-9


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -2},
        {"top_p": -0.1},
        {"top_p": 1.5},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_bad_parameters_are_refused_by_name(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        Sampling(**bad).check(1000)


def test_filters_have_two_ways_to_be_off() -> None:
    """Zero, as in llama.cpp and vLLM, and what has no effect."""
    for position in range(20):
        plain = sample(LOGITS, Sampling(temperature=1.0, seed=3), position)
        assert sample(LOGITS, Sampling(temperature=1.0, seed=3, top_p=0.0, top_k=-1), position) == plain


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    with pytest.raises(ModelError, match="no numbers"):
        sample(np.array([0.0, value], dtype=np.float32), Sampling(), 0)


# ---------------------------------------------------------------- penalties, min-p, logprobs


vocab_logits = arrays(np.float32, st.integers(3, 60), elements=st.floats(-12, 12, width=32))


def theirs(logits: np.ndarray, params: Sampling) -> np.ndarray:
    """The distribution that transformers samples from, its warpers in the order of its `generate`."""
    torch = pytest.importorskip("torch")
    from transformers.generation import logits_process as warpers

    scores = warpers.TemperatureLogitsWarper(params.temperature)(
        None, torch.from_numpy(logits.astype(np.float64))[None]
    )
    if params.top_k:
        scores = warpers.TopKLogitsWarper(params.top_k)(None, scores)
    if params.top_p < 1.0:
        scores = warpers.TopPLogitsWarper(params.top_p)(None, scores)
    if params.min_p:
        scores = warpers.MinPLogitsWarper(params.min_p)(None, scores)
    return torch.softmax(scores, -1)[0].numpy()


def at_a_border(logits: np.ndarray, params: Sampling) -> bool:
    """Whether a rounding error decides if a token stays: then the two may differ."""
    scaled = np.sort(logits.astype(np.float64) / params.temperature)[::-1]
    weights = np.exp(scaled - scaled[0])[: params.top_k or None]
    shares = np.cumsum(weights) / weights.sum()
    return bool((abs(shares - params.top_p) < 1e-6).any() or (abs(weights - params.min_p) < 1e-6 * weights).any())


@settings(max_examples=80, deadline=None)
@given(
    vocab_logits, st.sampled_from([0.3, 1.0, 2.5]), st.integers(0, 30), st.sampled_from([1.0, 0.9, 0.35]),
    st.sampled_from([0.0, 0.05, 0.4, 1.0]),
)  # fmt: skip
def test_filters_leave_what_transformers_leaves(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = logits + np.arange(len(logits), dtype=np.float32) * np.float32(1e-3)
    assume(len(set(logits.tolist())) == len(logits))  # who stays of equals is a matter of taste
    assume(top_p == 1.0 or not at_a_border(logits, params))
    assert np.allclose(distribution(logits, params), theirs(logits, params), atol=1e-6, rtol=0)


@pytest.mark.parametrize("top_k", [0, 50, 20_000])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.3])
@pytest.mark.parametrize("min_p", [0.0, 0.02])
@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_a_whole_vocabulary_agrees_with_transformers(
    temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """Here weights are computed in float32, in blocks."""
    params = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = np.random.default_rng(top_k).normal(0, 3, 49_153).astype(np.float32)
    ours, expected = distribution(logits, params), theirs(logits, params)
    assert np.abs(ours - expected).max() < 1e-6
    assert abs(np.count_nonzero(ours) - np.count_nonzero(expected)) <= 1 + np.count_nonzero(ours) // 1000, (
        "equal logits"
    )
    for position in range(50):
        token, point = choose(logits, params, position).token, uniform(params.seed, position)
        bounds = np.cumsum(ours)
        assert bounds[token] - ours[token] - 1e-6 <= point <= bounds[token] + 1e-6, "the token in whose share it lies"


def test_min_p_comes_after_top_p_as_in_transformers() -> None:
    """Top-p leaves 0.5, 0.2 and 0.15, and min-p all of them. The other way round min-p leaves these three, and top-p
    two of them: 0.5 and 0.2 are 0.82 of 0.85."""
    spread = distribution(LOGITS, Sampling(temperature=1.0, top_p=0.8, min_p=0.25))
    assert np.count_nonzero(spread) == 3


def test_temperatures_next_to_zero_are_greedy() -> None:
    for temperature in (1e-300, 1e-6):
        assert sample(LOGITS[::-1].copy(), Sampling(temperature=temperature), 3)[0] == len(LOGITS) - 1
    assert distribution(LOGITS, Sampling(temperature=1e-5)).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert distribution(LOGITS, Sampling()).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


@given(st.integers(0, 2**64 - 1), st.integers(0, 700))
def test_a_token_that_cannot_come_never_comes(seed: int, top_k: int) -> None:
    logits = np.full(600, -np.inf, dtype=np.float32)
    logits[[3, 300, 301, 555]] = [0.0, 1.0, -60.0, 0.5]
    for top_p in (1.0, 0.99):
        params = Sampling(temperature=1.0, top_k=top_k, top_p=top_p, seed=seed)
        assert sample(logits, params, 1)[0] in (3, 300, 301, 555)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0 - 2.0**-53])
def test_the_ends_of_the_draw(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "uniform", lambda seed, position: share)
    logits = np.full(1000, -np.inf, dtype=np.float32)
    logits[[2, 500, 700]] = [0.0, 5.0, 0.0]
    assert sample(logits, Sampling(temperature=1.0), 0)[0] == {0.0: 2, 0.5: 500}.get(share, 700)


def test_a_history_grows_as_one_that_is_given_whole() -> None:
    prompt, answer = [5, 5, 9, 2] * 3, [7, 2, 7, *range(200)]
    whole, grown = TokenHistory(prompt, answer), TokenHistory(prompt)
    for token in answer:
        grown.add(token)
    counts = dict(zip(whole.ids.tolist(), whole.counts.tolist(), strict=True))
    assert counts == dict(zip(grown.ids.tolist(), grown.counts.tolist(), strict=True))
    assert counts == {token: answer.count(token) for token in {*prompt, *answer}}


def test_a_stream_with_penalties_needs_its_tokens() -> None:
    params = Sampling(presence_penalty=0.5)
    assert params.needs_history and not Sampling(temperature=1.0, logit_bias=(TokenBias(1, 1.0),)).needs_history
    with pytest.raises(ModelError, match="penalties need the tokens"):
        sample(LOGITS, params, 0)
    assert sample(LOGITS, params, 0, TokenHistory([], [0]))[0] == 0
    assert sample(LOGITS, Sampling(presence_penalty=1.0), 0, TokenHistory([], [0]))[0] == 1
    assert sample(LOGITS, Sampling(presence_penalty=1.0), 0, TokenHistory([0], []))[0] == 0, "not the prompt"


def test_a_bias_beyond_the_vocabulary_is_refused() -> None:
    params = Sampling(logit_bias=(TokenBias(0, -100.0), TokenBias(5, 1.0)))
    params.check(6)
    with pytest.raises(UsageError, match="token 5"):
        params.check(5)
    with pytest.raises(ModelError, match="token 5"):
        sample(LOGITS, params, 0)
    assert sample(LOGITS, Sampling(logit_bias=(TokenBias(0, -100.0),)), 0)[0] == 1


def test_every_range_is_the_requests() -> None:
    ranges = {
        "temperature": (0, 100), "min_p": (0, 1), "repetition_penalty": (0.01, 100), "frequency_penalty": (-2, 2),
        "presence_penalty": (-2, 2), "logprobs": (0, 20), "top_p": (0, 1),
    }  # fmt: skip
    for name, (least, most) in ranges.items():
        assert range_of(name) == (least, most)
        for value in (least, most):
            assert Sampling(**{name: value}).refused() is None
        for value in (least - 1, most + 1):
            assert Sampling(**{name: value}).refused() == (name, words_of(name))


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
    params = Sampling(
        repetition_penalty=repetition,
        frequency_penalty=frequency,
        presence_penalty=presence,
        logit_bias=(TokenBias(1, 2.5),),
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
    choice = choose(logits, Sampling(logprobs=count), 5)
    model = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert len(choice.top) == min(count, len(logits))
    assert [value for _, value in choice.top] == pytest.approx(sorted(model, reverse=True)[:count], abs=1e-5)
    assert choice.logprob == pytest.approx(choice.top[0][1], abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_p": 1.1}, {"min_p": -0.1}, {"repetition_penalty": 0.0}, {"repetition_penalty": float("nan")},
        {"frequency_penalty": 3.0}, {"presence_penalty": -2.1}, {"logprobs": 21}, {"logit_bias": (TokenBias(-1, 0.0),)},
        {"logit_bias": (TokenBias(1, 1000.0),)}, {"logit_bias": tuple(TokenBias(token, 1.0) for token in range(2000))},
        {"logit_bias": (TokenBias(1, 1.0), TokenBias(1, 2.0))}, {"logprobs": -1}, {"presence_penalty": float("nan")},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong).check(1 << 20)  # type: ignore[arg-type]


@pytest.mark.parametrize("params", [Sampling(), Sampling(temperature=1.0, top_p=0.9, top_k=50, min_p=0.01, seed=3)])
def test_what_is_not_allowed_is_never_chosen_and_the_rest_is_as_if_it_were_not_there(params: Sampling) -> None:
    logits = np.random.default_rng(1).normal(size=400).astype(np.float32) * 3
    before = logits.copy()
    allowed = np.zeros(400, dtype=np.bool_)
    allowed[[3, 77, 200, 399]] = True
    low = np.where(allowed, logits, np.float32(-1e30))
    for position in range(60):
        one = choose(logits, params, position, allowed=allowed)
        assert allowed[one.token]
        assert one.token == choose(low, params, position).token
    assert one.logprob == pytest.approx(told_of(before, one.token, 0).logprob), "told without the mask"
    assert np.array_equal(logits, before)
