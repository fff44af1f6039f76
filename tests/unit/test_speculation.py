"""Speculation never changes a token, keeps the distribution, and guesses what repeats."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.engine.sampler import TokenHistory, choose
from ndn_infer.engine.speculation import (
    LONGEST,
    MATCHES,
    MOST_DRAFTS,
    CopyDrafter,
    Drafter,
    NgramDrafter,
    RowPrice,
    verify,
)
from ndn_infer.records.sampling import Sampling

VOCAB = 6
TABLE = np.random.default_rng(3).normal(0, 1.5, (VOCAB, VOCAB)).astype(np.float32)
"""Logits of a toy model: the next token depends on the last one."""


def logits_after(ids: list[int]) -> np.ndarray:
    return TABLE[ids[-1]]


class Made(NamedTuple):
    token_id: int
    finished: str | None


def accept(
    rows: np.ndarray, draft: list[int], params: Sampling, first: int, history: TokenHistory | None = None
) -> list[int]:
    """Tokens that hold of a draft, chosen as the engine does."""
    positions = itertools.count(first)

    def next_of(row: np.ndarray) -> Made:
        token = choose(row, params, next(positions), history).token
        if history is not None:
            history.add(token)
        return Made(token, "stop" if token in params.stop_ids else None)

    return [made.token_id for made in verify(draft, rows, next_of)]


def one_by_one(prompt: list[int], params: Sampling) -> list[int]:
    ids, history = list(prompt), TokenHistory(prompt)
    while len(ids) - len(prompt) < params.max_tokens:
        choice = choose(logits_after(ids), params, len(ids), history)
        history.add(choice.token)
        ids.append(choice.token)
        if choice.token in params.stop_ids:
            break
    return ids[len(prompt) :]


def with_drafts(
    prompt: list[int], params: Sampling, drafts: st.DataObject | None = None,
    make: Callable[[list[int]], Drafter] = NgramDrafter,
) -> list[int]:  # fmt: skip
    ids, history, drafter = list(prompt), TokenHistory(prompt), make(prompt)
    while len(ids) - len(prompt) < params.max_tokens:
        room = params.max_tokens - (len(ids) - len(prompt)) - 1
        if drafts is None:
            draft = drafter.propose(room, 0.1)
        else:
            draft = drafts.draw(st.lists(st.integers(0, VOCAB - 1), max_size=min(room, 5)))
        rows = np.stack([logits_after(ids + draft[:row]) for row in range(len(draft) + 1)])
        chosen = accept(rows, draft, params, len(ids), history)
        drafter.outcome(len(draft), len(chosen) - 1)
        drafter.extend(chosen)
        ids += chosen
        if chosen[-1] in params.stop_ids:
            break
    return ids[len(prompt) :]


params_of = st.builds(
    Sampling,
    max_tokens=st.integers(1, 30),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.integers(0, 4),
    top_p=st.sampled_from([1.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 2**64 - 1),
    stop_ids=st.sampled_from([(), (2,)]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20), params_of, st.data())
def test_any_drafts_give_the_same_tokens(prompt: list[int], params: Sampling, data: st.DataObject) -> None:
    expected = one_by_one(prompt, params)
    assert with_drafts(prompt, params, data) == expected
    assert with_drafts(prompt, params) == with_drafts(prompt, params, make=CopyDrafter) == expected


def test_the_distribution_is_kept() -> None:
    """20,000 seeds, the token after the first drafted one: chi-square at 0.1 % for five degrees of freedom is 20.5."""
    params = [Sampling(temperature=1.0, seed=seed, max_tokens=2) for seed in range(20_000)]
    counts = np.zeros((VOCAB, VOCAB))
    for one in params:
        rows = np.stack([TABLE[0], TABLE[3]])
        chosen = accept(rows, [3], one, 10)
        if len(chosen) == 2:
            counts[chosen[0], chosen[1]] += 1
    expected = np.exp(TABLE[3]) / np.exp(TABLE[3]).sum() * counts[3].sum()
    assert counts[[0, 1, 2, 4, 5]].sum() == 0, "a second token only after a guess that held"
    assert float(((counts[3] - expected) ** 2 / expected).sum()) < 20.5
    first = np.exp(TABLE[0]) / np.exp(TABLE[0]).sum()
    assert abs(counts.sum() / 20_000 - first[3]) < 0.012


def test_a_stream_with_random_drafts_follows_the_chain() -> None:
    """20,000 tokens of the toy model, drafts at random, half of them what comes most often. Chi-square over all
    transitions, 30 degrees of freedom: 66.6 at one in 10,000."""
    dice, params, prompt = np.random.default_rng(8), Sampling(temperature=2.0, seed=5), [0]
    ids = list(prompt)
    several = 0
    while len(ids) < 20_001:
        draft: list[int] = []
        for _ in range(dice.integers(0, 5)):
            likely = dice.random() < 0.5
            draft.append(int(TABLE[(ids + draft)[-1]].argmax()) if likely else int(dice.integers(VOCAB)))
        rows = np.stack([logits_after(ids + draft[:row]) for row in range(len(draft) + 1)])
        chosen = accept(rows, draft, params, len(ids))
        several += len(chosen) > 1
        ids += chosen
    counts = np.zeros((VOCAB, VOCAB))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    spread = np.exp(TABLE / 2) / np.exp(TABLE / 2).sum(axis=1, keepdims=True)
    expected = spread * counts.sum(axis=1, keepdims=True)
    assert expected.min() > 5 and several > 2000
    assert float(((counts - expected) ** 2 / expected).sum()) < 66.6


def test_another_process_continues_with_the_same_tokens() -> None:
    params = Sampling(temperature=1.0, seed=99, max_tokens=20, frequency_penalty=0.4)
    whole = one_by_one([1, 2, 3], params)
    code = (
        "from tests.unit.test_speculation import *\n"
        f"ids, done = [1, 2, 3], {whole[:9]}\n"
        "params = Sampling(temperature=1.0, seed=99, frequency_penalty=0.4)\n"
        "history, ids = TokenHistory(ids, done), ids + done\n"
        "for _ in range(11):\n"
        "    token = choose(logits_after(ids), params, len(ids), history).token\n"
        "    history.add(token); ids.append(token)\n"
        "print(ids[12:])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(whole[9:])


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 10))
def test_guesses_are_what_followed_the_last_time(ids: list[int], most: int) -> None:
    guess = NgramDrafter(ids).propose(most)
    assert len(guess) <= min(most, MOST_DRAFTS)
    expected: list[int] = []
    for size in range(min(LONGEST, len(ids)), 0, -1):
        places = [at for at in range(size, len(ids)) if ids[at - size : at] == ids[len(ids) - size :]]
        if places:
            expected = ids[places[-1] :][: min(most, 4)]
            break
    assert guess == expected


def test_a_sequence_that_grows_is_indexed_as_one_that_is_given_whole() -> None:
    ids = [1, 2, 3, 1, 2, 4, 1, 2, 3, 3, 1, 2]
    grown = NgramDrafter()
    for token in ids:
        grown.extend([token])
    assert grown.propose(8) == NgramDrafter(ids).propose(8) == [4, 1, 2, 3]


@pytest.mark.parametrize(("outcomes", "expected"), [([(4, 4)], 8), ([(4, 1)], 2), ([(4, 2)], 4), ([(4, 0)] * 5, 1)])
def test_it_guesses_more_where_guesses_hold(outcomes: list[tuple[int, int]], expected: int) -> None:
    drafter = NgramDrafter([1, 2] * 20)
    for proposed, held in outcomes:
        drafter.outcome(proposed, held)
    assert len(drafter.propose(100)) == min(expected, 2), "no more than what followed"
    drafter = NgramDrafter([*range(50), *range(3)])
    for proposed, held in outcomes:
        drafter.outcome(proposed, held)
    assert len(drafter.propose(100)) == expected


# ------------------------------------------------------------ guesses that pay


def followed(drafter: CopyDrafter, answer: list[int], price: float) -> tuple[int, int, int]:
    """(steps, guesses, those that held) of a stream that says `answer`, whatever is guessed."""
    steps = guessed = held = at = 0
    while at < len(answer):
        draft = drafter.propose(min(7, len(answer) - at - 1), price)
        right = next((n for n, token in enumerate(draft) if token != answer[at + n]), len(draft))
        drafter.extend(answer[at : at + right + 1])
        steps, guessed, held, at = steps + 1, guessed + len(draft), held + right, at + right + 1
    return steps, guessed, held


def words(seed: int, count: int, vocabulary: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(vocabulary) for _ in range(count)]


def test_an_answer_that_copies_takes_few_steps() -> None:
    """A passage of the prompt, between words of its own."""
    prompt = words(1, 400, 40_000)
    answer = [*words(2, 20, 40_000), *prompt[100:200], *words(3, 20, 40_000)]
    steps, guessed, held = followed(CopyDrafter(prompt), answer, 0.3)
    assert steps < 65 and held > 0.9 * guessed


@pytest.mark.parametrize("vocabulary", [4, 12, 40, 40_000])
@pytest.mark.parametrize("price", [0.2, 0.5, 0.9])
def test_what_does_not_copy_is_next_to_never_guessed(vocabulary: int, price: float) -> None:
    """Tokens at random, of so few that every pair was there before: whoever guesses then loses, so it stops soon."""
    answer = words(5, 2000, vocabulary)
    _, guessed, held = followed(CopyDrafter(words(6, 300, vocabulary)), answer, price)
    assert guessed * price - held < 25


def test_it_stops_when_the_copying_ends_and_begins_again() -> None:
    prompt = words(1, 300, 50)
    drafter = CopyDrafter(prompt)
    followed(drafter, prompt[50:250], 0.4)
    _, wrong, held = followed(drafter, words(7, 500, 50), 0.4)
    assert wrong - held < 30
    steps, _, _ = followed(drafter, prompt[20:220], 0.4)
    assert steps < 80


def test_nothing_is_guessed_at_the_price_of_a_step() -> None:
    prompt = words(1, 50, 1000)
    assert followed(CopyDrafter(prompt), prompt * 3, 1.0)[1] == 0


def test_the_price_of_a_row_rises_with_company() -> None:
    assert RowPrice(0.25).of(1) == 0.25 and RowPrice(1.0).of(1) == RowPrice(1.0).of(9) == 1.0
    prices = [RowPrice(0.25).of(streams) for streams in range(1, 40)]
    assert prices == sorted(prices) and prices[-1] < 1.0


def test_the_price_of_a_row_is_what_steps_took() -> None:
    """Rows that add 60 % of a step where 10 % were expected; another number of streams is another price."""
    price = RowPrice(0.1)
    for _ in range(30):
        price.took(1, 1, 0.020)
        price.took(1, 4, 0.020 + 3 * 0.012)
    assert 0.5 < price.of(1) < 0.61 and price.of(2) == RowPrice(0.1).of(2)


def test_one_slow_step_does_not_end_guessing_for_ever() -> None:
    price = RowPrice(0.2)
    price.took(1, 1, 0.020)
    for _ in range(50):
        price.took(1, 2, 9.0)
    assert price.of(1) > 0.99
    for _ in range(300):
        price.took(1, 1, 0.020)
    assert price.of(1) < 0.22, "what is not tried is not known"


@given(
    st.floats(0, 1), st.lists(st.tuples(st.integers(1, 5), st.integers(0, 7), st.floats(0, 10)), max_size=60)
)  # fmt: skip
def test_a_price_is_a_share_of_a_token(share: float, steps: list[tuple[int, int, float]]) -> None:
    price = RowPrice(share)
    for streams, guesses, seconds in steps:
        price.took(streams, streams + guesses, seconds)
        assert 0 <= price.of(streams) <= 1


@given(st.lists(st.integers(0, 3), max_size=60), st.lists(st.integers(0, 3), max_size=20), st.floats(0, 1))
def test_a_guess_is_what_followed_the_same_words(ids: list[int], more: list[int], price: float) -> None:
    drafter = CopyDrafter(ids)
    drafter.extend(more)
    whole = [*ids, *more]
    guess = drafter.propose(7, price)
    assert len(guess) <= 7 and guess == drafter.propose(7, price), "asking changes nothing"
    if guess:
        places = [at for at in range(2, len(whole)) if whole[at - 2 : at] == whole[-2:]]
        assert any(whole[at : at + len(guess)] == guess for at in places)
    assert [least for least, _ in MATCHES] == sorted(least for least, _ in MATCHES)
