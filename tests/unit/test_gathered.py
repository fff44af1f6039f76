"""Tokens that wait for the event in which they leave: when they are handed on, and what is marked."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.engine.stream import StepOutput
from ndn_infer.functions.gathered import Gathered, Listener
from ndn_infer.functions.token_events import EventPace


def output(token: int, finished: str | None = None) -> StepOutput:
    return StepOutput(None, token, 0.0, finished)  # type: ignore[arg-type]


@dataclass
class Heard:
    outputs: list[StepOutput] = field(default_factory=list)

    def hear(self, gathered: Gathered) -> None:
        for on_step, told in gathered.take():
            on_step(told)


def listener(heard: Heard, interval_s: float) -> Listener:
    return Listener(heard.outputs.append, EventPace(interval_s))


def test_the_first_token_and_the_last_one_wait_for_nothing_and_others_for_the_next_interval() -> None:
    heard, gathered = Heard(), Gathered()
    one = listener(heard, 0.05)
    gathered.add(one, output(1), 10.0)
    assert gathered.give(10.0)
    heard.hear(gathered)
    for token, now in ((2, 10.02), (3, 10.04)):
        gathered.add(one, output(token), now)
        assert not gathered.give(now)
    gathered.add(one, output(4), 10.06)
    assert gathered.give(10.06) and not gathered.give(10.06), "posted once"
    heard.hear(gathered)
    gathered.add(one, output(5, "length"), 10.07)
    assert gathered.give(10.07)
    heard.hear(gathered)
    assert [(told.token_id, told.more) for told in heard.outputs] == [
        (1, False), (2, True), (3, True), (4, False), (5, False)
    ]  # fmt: skip
    assert [told.at for told in heard.outputs] == [10.0, 10.02, 10.04, 10.06, 10.07]


def test_before_a_step_that_may_take_long_all_that_waits_is_handed_on() -> None:
    heard, gathered = Heard(), Gathered()
    one = listener(heard, 0.05)
    assert not gathered.give(10.0, at_once=True), "nothing waits: nobody is woken"
    for token in (1, 2):
        gathered.add(one, output(token), 10.0)
        gathered.give(10.0)
        heard.hear(gathered)
    gathered.add(one, output(3), 10.001)
    assert not gathered.give(10.001) and gathered.give(10.001, at_once=True)


def test_who_has_no_pace_waits_for_nothing_and_takes_the_others_along() -> None:
    heard, other, gathered = Heard(), Heard(), Gathered()
    paced, plain = listener(heard, 0.05), Listener(other.outputs.append)
    for token in (1, 2):
        gathered.add(paced, output(token), 10.0)
    gathered.give(10.0)
    heard.hear(gathered)
    gathered.add(paced, output(3), 10.001)
    assert not gathered.give(10.001)
    gathered.add(plain, output(9), 10.002)
    assert gathered.give(10.002)
    heard.hear(gathered)
    assert [told.token_id for told in heard.outputs] == [1, 2, 3] and other.outputs == [output(9)]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.1), st.booleans()), max_size=100), st.sampled_from([0, 0.05])
)
def test_every_output_comes_once_and_in_order_and_the_last_of_a_turn_is_not_marked(
    drawn: list[tuple[int, float, bool]], interval_s: float
) -> None:
    gathered, heard, now = Gathered(), [Heard() for _ in range(4)], 0.0
    listeners = [listener(one, interval_s) for one in heard]
    for token, (stream, pause, taken) in enumerate(drawn):
        now += pause
        gathered.add(listeners[stream], output(token), now)
        gathered.give(now)
        if taken:
            for on_step, told in gathered.take():
                on_step(told)
            assert not any(one.outputs and one.outputs[-1].more for one in heard) and not len(gathered)
    for on_step, told in gathered.take():
        on_step(told)
    for stream, one in enumerate(heard):
        assert [told.token_id for told in one.outputs] == [
            token for token, (of, _, _) in enumerate(drawn) if of == stream
        ]  # fmt: skip
