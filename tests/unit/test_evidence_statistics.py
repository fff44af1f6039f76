"""Statistics of scores, against numbers that others computed and against brute force."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.evidence import statistics as s


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # R 4: prop.test(k, n, correct = FALSE)$conf.int
        (5, 10, 0.2365931, 0.7634069),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (1, 3, 0.0614919, 0.7923404),
        (81, 263, 0.2553, 0.3662),  # Newcombe, 1998, table I
    ],
)
def test_wilson_has_the_published_numbers(k: int, n: int, low: float, high: float) -> None:
    found = s.wilson(k, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_in_its_range(case: tuple[int, int]) -> None:
    k, n = case
    found = s.wilson(k, n)
    assert 0.0 <= found.low <= k / n <= found.high <= 1.0


def test_mcnemar_is_the_exact_two_sided_probability() -> None:
    for b, c in product(range(7), range(7)):
        n = b + c
        splits = [bin(bits).count("1") for bits in range(1 << n)]
        brute = sum(min(one, n - one) <= min(b, c) for one in splits) / len(splits) if b != c else 1.0
        assert s.mcnemar(b, c) == pytest.approx(brute), (b, c)
    assert s.mcnemar(0, 10) == 2 / 1024
    assert 0 < s.mcnemar(4000, 4500) < 1e-6  # beyond what floats hold in between
    assert s.mcnemar(5000, 5000) == 1.0


def test_the_bootstrap_gives_everybody_the_same_numbers() -> None:
    values = [0.0, 0.25, 1.0, 0.01, 1.0, 0.5]
    first = s.interval_of(values)
    assert first == s.interval_of(values) and first.method == "bootstrap"
    assert (first.low, first.high) == (pytest.approx(0.1316667), pytest.approx(0.8333333))
    assert first.low <= s.mean(values) <= first.high
    means = s.bootstrap_means(values)
    spread = math.sqrt(sum((one - s.mean(values)) ** 2 for one in means) / len(means))
    theory = math.sqrt(sum((one - s.mean(values)) ** 2 for one in values)) / len(values)
    assert spread == pytest.approx(theory, rel=0.05)


def test_outcomes_of_0_and_1_have_wilsons_interval() -> None:
    assert s.interval_of([1.0, 0.0, 1.0]) == s.wilson(2, 3)


def test_comparison_counts_pairs_and_is_antisymmetric() -> None:
    a, b = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    there, back = s.compare(a, b), s.compare(b, a)
    assert (there.both, there.neither, there.a_only, there.b_only) == (1, 1, 3, 1)
    assert there.difference == pytest.approx(-2 / 6) == pytest.approx(-back.difference)
    assert there.p_value == back.p_value == 0.625
    same = s.compare(a, a)
    assert same.p_value == 1.0 and (same.interval.low, same.interval.high) == (0.0, 0.0)
