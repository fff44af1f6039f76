"""Phrases of policies: what is found of them, what they take of a guard's memory, and that callers cannot fill it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from random import Random
from string import ascii_letters
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord, Busy
from ndn_infer.functions.guard import policies as made_ready
from ndn_infer.functions.guard.policies import MOST_STATES, ReadyPolicies, ready_rules
from ndn_infer.guard import phrases as looked_for
from ndn_infer.guard.needles import ROOT, Needles
from ndn_infer.guard.phrases import MOST, MOST_DEEPER, MOST_ENCODED, PhraseBook
from ndn_infer.guard.policy import GuardPolicy
from ndn_infer.guard.policy_form import encode, policy_of

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

LETTERS = st.sampled_from("abcdef\u00e9\U0001f600")
JOB: Any = None
"""Of no use where the policy is given."""


@given(st.sets(st.text(LETTERS, min_size=1, max_size=6), max_size=12), st.text(LETTERS, max_size=30))
def test_all_needles_are_found_where_they_end(needles: set[str], text: str) -> None:
    search, node = Needles({needle: needle.upper() for needle in needles}), ROOT
    for end in range(1, len(text) + 1):
        before = text[:end]
        node = search.step(node, text[end - 1])
        begun = [size for size in range(end + 1) if any(one.startswith(before[end - size :]) for one in needles)]
        assert search.depth(node) == max(begun, default=0)
        found = sorted((one for one in needles if before.endswith(one)), key=len, reverse=True)
        assert list(search.ends(node)) == [(len(one), one.upper()) for one in found]


def random_phrases(count: int, length: int, seed: int = 1) -> list[str]:
    random = Random(seed)
    return ["".join(random.choice(ascii_letters) for _ in range(length)) for _ in range(count)]


def test_a_state_takes_little_memory() -> None:
    needles = dict.fromkeys(random_phrases(300, 120), "rule")
    Needles(needles)
    tracemalloc.start()
    search = Needles(needles)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(search) > 30_000 and taken / len(search) < 40


@pytest.mark.parametrize(("deeper", "encoded", "most"), [(640, 0, 8000), (0, 640, 40_000), (0, 0, MOST)])
def test_no_more_states_are_made_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, deeper: int, encoded: int, most: int
) -> None:
    """A tenth and less of each bound: states grow with characters, and no faster."""
    assert most in (MOST_DEEPER, MOST_ENCODED, MOST)
    monkeypatch.setattr(looked_for, "MOST_DEEPER", deeper)
    monkeypatch.setattr(looked_for, "MOST_ENCODED", max(deeper, encoded))
    states = PhraseBook(("r", phrase) for phrase in random_phrases(5, 128)).states
    assert 4 * 640 < states and states * most / 640 < MOST_STATES / 2


def test_phrases_that_fold_into_many_more_characters_are_counted_so() -> None:
    with pytest.raises(BadRecord, match="are the most"):
        PhraseBook(("r", "\ufdfa" * 128 + str(number)) for number in range(MOST // (128 * 18) + 1))


def policy(seed: int, **changes: Any) -> GuardPolicy:
    phrases = {"id": "x", "kind": "phrases", "phrases": random_phrases(2, 30, seed), **changes}
    return policy_of({"name": "a", "rules": [phrases, {"id": "y", "kind": "length", "tokens": 9}]})


async def rules(ready: ReadyPolicies, one: GuardPolicy) -> Any:
    return await ready.rules(one.digest, encode(one), "prompt", JOB)


def test_prompts_and_answers_share_what_is_the_same() -> None:
    made = ready_rules(policy(1))
    assert made["prompt"].book is made["answer"].book
    apart = ready_rules(policy(1, where=["prompt"]))
    assert apart["prompt"].book is not apart["answer"].book and not len(apart["answer"].book.words) > 1


async def test_policies_that_are_ready_have_a_bound_together_and_those_in_use_count() -> None:
    one, two, three = (policy(seed) for seed in range(3))
    states = ready_rules(one)["prompt"].book.states
    ready = ReadyPolicies(most_states=int(2.5 * states))
    first = await rules(ready, one)
    assert await rules(ready, one) is first
    second = await rules(ready, two)
    with pytest.raises(Busy, match="in use"):
        await rules(ready, three)
    assert first.book is not second.book
    del first, second
    gc.collect()
    assert (await rules(ready, three)).book.states > states // 2
    assert (await rules(ready, one)).book.states == states


async def test_policies_are_made_one_at_a_time_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, working = list[str](), threading.Lock()

    def counted(one: GuardPolicy) -> Any:
        assert working.acquire(blocking=False), "two at a time"
        time.sleep(0.005)
        made.append(one.digest)
        working.release()
        return ready_rules(one)

    monkeypatch.setattr(made_ready, "ready_rules", counted)
    ready, several = ReadyPolicies(), [policy(seed) for seed in range(3)]
    await asyncio.gather(*(rules(ready, one) for one in several * 3))
    assert sorted(made) == sorted(one.digest for one in several)
