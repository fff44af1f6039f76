"""The life of a call as a table: every path ends, in every order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.wire.call import TRANSITIONS, CallEvent, CallMachine, CallState

ENDED = {CallState.DONE, CallState.FAILED}


@given(st.lists(st.tuples(st.sampled_from(list(CallEvent)), st.floats(0, 3)), min_size=80, max_size=80))
def test_every_call_ends_within_its_attempts_and_its_time(events: list[tuple[CallEvent, float]]) -> None:
    """Whatever is answered, asking stops after `max_attempts` Interests or `max_rounds` lost results."""
    machine, now = CallMachine(give_up_at=30.0), 0.0
    for event, pause_s in events:
        if machine.state in ENDED:
            break
        now += pause_s
        if (machine.state, event) not in TRANSITIONS:
            continue  # it cannot happen to this call now
        if machine.state is CallState.ASKING:
            machine.ask()
        machine.on(event, now)
        assert machine.attempts <= machine.max_attempts and machine.rounds <= machine.max_rounds + 1
        assert machine.state is not CallState.ASKING or now < 30.0
    if machine.state is CallState.ASKING:
        assert machine.attempts <= 80


@pytest.mark.parametrize("state", list(CallState), ids=lambda state: state.name)
@pytest.mark.parametrize("event", list(CallEvent), ids=lambda event: event.name)
def test_an_event_out_of_place_is_a_defect(state: CallState, event: CallEvent) -> None:
    machine = CallMachine(10.0, state=state)
    if (state, event) in TRANSITIONS:
        machine.on(event, 0.0)
        return
    with pytest.raises(KeyError):
        machine.on(event, 0.0)
    assert machine.state is state


def test_a_cached_answer_is_passed_only_after_it_disappointed() -> None:
    machine = CallMachine(give_up_at=100.0)
    for event, salt in ((CallEvent.NO_ANSWER, 0), (CallEvent.DISTRUSTED, 1), (CallEvent.DISTRUSTED, 2)):
        machine.ask()
        assert machine.on(event, 1.0) is CallState.ASKING and machine.salt == salt


def test_pauses_double_up_to_a_limit() -> None:
    machine, pauses = CallMachine(give_up_at=100.0), []
    for _ in range(8):
        machine.ask()
        pauses.append(machine.pause_s())
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6, 1.6])


def test_time_up_ends_a_call_also_while_it_reads() -> None:
    machine = CallMachine(give_up_at=5.0)
    machine.ask()
    machine.on(CallEvent.ELSEWHERE, 1.0)
    assert machine.on(CallEvent.RESULT_LOST, 6.0) is CallState.FAILED
