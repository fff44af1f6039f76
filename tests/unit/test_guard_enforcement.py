"""The reader's core shows what valid verdicts cover, whatever happens to verdicts and answer."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.guard.enforcement import BLOCKED, EXPIRED, LATE, Demand, Enforcer
from ndn_infer.records import TokenEvent, TokenLogprobs
from tests.guard_play import ATTACKS, GUARD, RULES, answer, play, verdicts

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

NAME = "/n/answer/v=1"
PLAIN = [TokenEvent((1, 2), "It rains "), TokenEvent((3,), "in Spain, they say; "), TokenEvent((4,), "", "stop")]


def reader(hold_back: int = 8) -> Enforcer:
    return Enforcer(Demand(RULES.policy.digest, hold_back, 2.0, (GUARD,)), NAME)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(ATTACKS))
def test_nothing_is_shown_that_no_valid_verdict_covers(rng: random.Random, attack: str) -> None:
    played = play(rng, attack)
    assert played.uncovered == 0 and not played.leaked
    assert played.complete or played.stopped


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_honest_verdicts_show_every_honest_answer_whole(rng: random.Random) -> None:
    events = answer(rng)
    text = "".join(event.text for event in events)
    played = play(random.Random(rng.random()), "none")
    assert played.stopped in ("", BLOCKED) and played.complete is (played.stopped == "")
    shown, told = reader(), ""
    for number, event in enumerate(events):
        told += "".join(one.text for one in shown.on_event(event, 0.0, 0))
        for _, verdict in [one for one in verdicts(events, NAME, 0) if one[0] == number]:
            told += "".join(one.text for one in shown.on_verdict(verdict, GUARD, 0.0, 0))
    if shown.complete:
        assert told == text.replace("jo.doe@example.com", "[email]")
    else:
        assert shown.stopped is not None and shown.stopped.reason == BLOCKED
        assert shown.stopped.rules == ("held-too-long",) or "project nightingale" in text


def test_a_verdict_that_runs_out_before_its_tokens_come_shows_nothing() -> None:
    shown = reader()
    ((_, first), *_) = verdicts(PLAIN, NAME, 0)
    assert shown.on_verdict(replace(first, until_us=10), GUARD, 0.0, 5) == []
    assert shown.on_event(PLAIN[0], 0.0, 20) == [] and shown.on_event(PLAIN[1], 0.0, 20) == []
    assert shown.on_event(PLAIN[2], 0.0, 20) == []
    assert shown.stopped is not None and shown.stopped.reason == EXPIRED


def test_a_verdict_is_due_when_more_waits_than_may_be_held_back_and_at_the_end() -> None:
    shown = reader(hold_back=2)
    shown.on_event(PLAIN[0], 1.0, 0)
    assert shown.due_at() is None
    shown.on_event(PLAIN[1], 2.0, 0)
    assert shown.due_at() is None, "the first event counts as one token"
    shown.on_event(PLAIN[2], 3.0, 0)
    assert shown.due_at() == 5.0
    shown.tick(4.9)
    assert shown.stopped is None
    shown.tick(5.0)
    assert shown.stopped is not None and shown.stopped.reason == LATE
    assert shown.on_verdict(next(verdicts(PLAIN, NAME, 0))[1], GUARD, 5.0, 0) == []


def test_another_guard_goes_on_where_the_first_one_was_lost() -> None:
    said = [verdict for _, verdict in verdicts(PLAIN, NAME, 0)]
    shown, told = reader(), []
    for event in PLAIN[:2]:
        told += shown.on_event(event, 0.0, 0)
    shown.on_guard_gone("it died")
    assert shown.stopped is not None and not told
    shown.another_guard()
    told += shown.on_event(PLAIN[2], 0.0, 0)
    for verdict in said:
        told += shown.on_verdict(verdict, GUARD, 0.0, 0)
    assert shown.complete and "".join(event.text for event in told) == "It rains in Spain, they say; "


def test_what_no_digest_covers_is_not_shown() -> None:
    told = (TokenLogprobs(-0.5, ((7, -0.6),), b"project", (b"nightingale",)),)
    last = TokenEvent((1,), "It rains.", "stop", logprobs=told, prompt=told, stopped_by="project nightingale")
    bare = (TokenLogprobs(-0.5),)
    for stops, stopped_by in (((), ""), (("project nightingale",), "project nightingale")):
        shown = Enforcer(Demand(RULES.policy.digest, 8, 2.0, (GUARD,), stops), NAME)
        ((_, verdict),) = verdicts([last], NAME, 0)
        shown.on_event(last, 0.0, 0)
        (seen,) = shown.on_verdict(verdict, GUARD, 0.0, 0)
        assert seen == TokenEvent((1,), "It rains.", "stop", logprobs=bare, prompt=bare, stopped_by=stopped_by)
