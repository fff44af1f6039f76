"""Which tokens leave together: none is lost, none is late, the first is alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import records
from ndn_infer.functions.token_events import MOST_TOKENS, TokenEvents
from ndn_infer.records import TokenEvent, TokenLogprobs
from ndn_infer.wire.manifest import SEGMENT_BYTES

ALTERNATIVES = tuple((token, -1.5) for token in range(100_000, 100_020))


def test_the_first_token_leaves_at_once_and_later_ones_together() -> None:
    events = TokenEvents(0.05)
    assert events.add(1, "a", (), 10.0) == TokenEvent((1,), "a")
    assert events.due_at is None
    assert events.add(2, "b", (), 10.02) is None and events.add(3, "", (), 10.04) is None
    assert events.due_at == 10.1
    assert events.add(4, "c", (), 10.06) == TokenEvent((2, 3, 4), "bc")
    assert events.take(11.0) is None


def test_without_an_interval_each_token_leaves_alone() -> None:
    events = TokenEvents(0.0)
    assert [events.add(token, "x", (), 1.0) for token in range(3)] == [TokenEvent((token,), "x") for token in range(3)]


@given(st.lists(st.floats(0, 0.2), max_size=300), st.floats(0, 0.3), st.booleans())
def test_every_token_leaves_once_in_order_and_in_time(pauses: list[float], interval_s: float, told: bool) -> None:
    events, now = TokenEvents(interval_s), 0.0
    made: dict[int, float] = {}
    left: list[TokenEvent] = []

    def leave(event: TokenEvent | None, now: float) -> None:
        if event is not None:
            left.append(event)
            assert all(now - made[token] <= 2 * interval_s + 1e-6 for token in event.ids)
            assert len(event.ids) <= MOST_TOKENS and len(records.encode(event)) < SEGMENT_BYTES
            assert len(event.logprobs) == (len(event.ids) if told else 0)

    for token, pause in enumerate(pauses):
        due_at = events.due_at
        if due_at is not None and due_at <= now + pause:  # what a timer does
            leave(events.take(due_at), due_at)
        now += pause
        made[token] = now
        leave(events.add(token, f"{token} ", (TokenLogprobs(-0.5, ALTERNATIVES),) if told else (), now), now)
    leave(events.take(now), now)
    assert [token for event in left for token in event.ids] == list(range(len(pauses)))
    assert "".join(event.text for event in left) == "".join(f"{token} " for token in range(len(pauses)))
