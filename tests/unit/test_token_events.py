"""Which tokens leave together: none is lost, none is late, the first is alone, and every event fits a packet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn, records
from ndn_infer.functions.token_events import (
    EVENT_BYTES,
    EVENTS_A_SECOND,
    MOST_INTERVAL_S,
    MOST_TOKENS,
    SETTLED,
    SETTLED_S,
    EventPace,
    TokenEvents,
    TokenPiece,
    prompt_events,
)
from ndn_infer.ndn.tlv import MAX_PACKET_BYTES
from ndn_infer.records import KvSigner, KvSources, TokenEvent, TokenLogprobs
from ndn_infer.security.crypto import PrivateKey, Signer
from ndn_infer.security.domains import TenantDomain
from ndn_infer.wire import again

ALTERNATIVES = tuple((token, -1.5) for token in range(100_000, 100_020))
TOLD = TokenLogprobs(-0.5, ALTERNATIVES, b"token", tuple(b" alternative %d" % n for n in range(20)))

LONG = ndn.from_uri("/" + "/".join(["a-network-of-a-very-long-name"] * 8) + "/model/" + "ab" * 32)
SIGNER = Signer.of(PrivateKey.generate(), LONG, LONG + ndn.from_uri("/KEY/k/i/v=1"))


def test_the_first_token_leaves_at_once_and_later_ones_together() -> None:
    events = TokenEvents(EventPace(0.05))
    assert events.add(TokenPiece(1, "a", ()), 10.0) == [TokenEvent((1,), "a")]
    assert events.due_at is None
    assert not events.add(TokenPiece(2, "b", ()), 10.02) and not events.add(TokenPiece(3, "", ()), 10.04)
    assert events.due_at == pytest.approx(10.1)
    assert events.add(TokenPiece(4, "c", ()), 10.06) == [TokenEvent((2, 3, 4), "bc")]
    assert events.take(11.0) == []


def test_events_of_several_answers_leave_together() -> None:
    """Tokens of one step leave in one write, although the answers began at different times."""
    pace = EventPace(0.05)
    answers = [TokenEvents(pace) for _ in range(4)]
    for number, events in enumerate(answers):
        assert events.add(TokenPiece(0, "a", ()), 10.001 + 0.01 * number)
    left = {step: [bool(one.add(TokenPiece(1, "b", ()), 10.04 + 0.02 * step)) for one in answers] for step in range(6)}
    assert [any(told) for told in left.values()] == [False, True, False, False, True, False]
    assert all(len(set(told)) == 1 for told in left.values())


def test_many_answers_have_as_many_events_a_second_as_a_few() -> None:
    pace = EventPace(0.05)
    assert pace.interval_s(10.0) == 0.05
    pace.flowing.update(range(8))
    assert pace.interval_s(10.0) == 8 / EVENTS_A_SECOND
    pace.flowing.update(range(1000))
    assert pace.interval_s(10.0) == MOST_INTERVAL_S
    assert EventPace(1.0, pace.flowing).interval_s(10.0) == 1.0 and EventPace(0.0, pace.flowing).interval_s(10.0) == 0.0


def test_an_answer_that_has_begun_well_has_half_as_many_events() -> None:
    """Those of one that makes a token every 10 ms; its first second and the third."""
    events, left = TokenEvents(EventPace(0.05)), []
    for step in range(300):
        now = 10.001 + step / 100
        left += [now] * len(events.add(TokenPiece(step, "a", ()), now))
    first = [at for at in left if at < 10.0 + SETTLED_S]
    later = [at for at in left if at > 12.0]
    assert len(first) == SETTLED_S / 0.05 and len(later) == 1.0 / (SETTLED * 0.05)
    assert max(b - a for a, b in zip(left, left[1:], strict=False)) == pytest.approx(SETTLED * 0.05)


def test_what_nobody_waits_for_waits_and_leaves_when_somebody_does() -> None:
    events = TokenEvents(EventPace(0.05))
    assert events.add(TokenPiece(0, "a", ()), 10.0, wanted=False), "the first one leaves in any case"
    for step in range(1, 6):
        assert not events.add(TokenPiece(step, "a", ()), 10.0 + step, wanted=False)
    assert events.due(15.0) and [event.ids for event in events.take(15.0)] == [(1, 2, 3, 4, 5)]
    assert not events.add(TokenPiece(6, "a", ()), 15.01) and not events.due(15.01), "not before its time"
    full = [events.add(TokenPiece(step, "a", ()), 16.0, wanted=False) for step in range(2 * MOST_TOKENS)]
    assert sum(map(bool, full)) == 2, "a full event leaves"


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=64)), max_size=200))
def test_what_is_told_of_a_prompt_fits_packets(drawn: list[tuple[int, bytes]]) -> None:
    told = [TokenLogprobs(-1.5, ALTERNATIVES[:count], text, (text,) * count) for count, text in drawn]
    events = list(prompt_events(told))
    assert [one for event in events for one in event.prompt] == told
    assert all(event.prompt and not event.ids and len(records.encode(event)) <= EVENT_BYTES for event in events)
    sizes = [len(records.encode(event)) for event in events]
    assert all(left + right > EVENT_BYTES - 200 for left, right in zip(sizes, sizes[1:], strict=False)), "few events"


def test_without_an_interval_each_token_leaves_alone() -> None:
    events = TokenEvents(EventPace(0.0))
    assert [events.add(TokenPiece(token, "x", ()), 1.0) for token in range(3)] == [
        [TokenEvent((token,), "x")] for token in range(3)
    ]


def test_the_last_token_and_the_report_are_one_event_where_they_fit() -> None:
    events, report = TokenEvents(EventPace(0.0)), TokenEvent((), finish="stop", prompt_tokens=3)
    assert events.add(TokenPiece(1, "a", ()), 1.0, last=True) == []
    assert events.finish(report, 1.0) == [TokenEvent((1,), "a", finish="stop", prompt_tokens=3)]


@given(st.lists(st.floats(0, 0.2), max_size=300), st.integers(0, 300), st.booleans())
def test_every_token_that_is_wanted_leaves_once_in_order_and_in_time(
    pauses: list[float], interval_ms: int, told: bool
) -> None:
    interval_s, now = interval_ms / 1000, 0.0
    events = TokenEvents(EventPace(interval_s))
    made: dict[int, float] = {}
    left: list[TokenEvent] = []

    def leave(some: list[TokenEvent], now: float) -> None:
        for event in some:
            left.append(event)
            assert all(now - made[token] <= 2 * SETTLED * interval_s + 1e-6 for token in event.ids)
            assert len(event.ids) <= MOST_TOKENS and len(records.encode(event)) <= EVENT_BYTES
            assert len(event.logprobs) == (len(event.ids) if told else 0)

    for token, pause in enumerate(pauses):
        due_at = events.due_at
        if due_at is not None and due_at <= now + pause:  # what a timer does
            leave(events.take(due_at), due_at)
        now += pause
        made[token] = now
        leave(events.add(TokenPiece(token, f"{token} ", (TOLD,) if told else ()), now), now)
    leave(events.take(now), now)
    assert [token for event in left for token in event.ids] == list(range(len(pauses)))
    assert "".join(event.text for event in left) == "".join(f"{token} " for token in range(len(pauses)))


def repeated(texts: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    return st.builds(lambda text, count: text * count, texts, st.integers(0, most))


texts = st.one_of(st.text(max_size=20), repeated(st.sampled_from(["x", "\ufffd", "\U0001f600", "ä\n"]), 9000))
names = st.lists(repeated(st.text(min_size=1, max_size=3), 3000), max_size=9)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), texts, st.booleans(), st.booleans()), max_size=12),
    st.text(max_size=9000), names, names, st.sampled_from([0.0, 10.0]),
)  # fmt: skip
def test_no_event_is_too_large_whatever_was_held_back(
    tokens: list[tuple[int, str, bool, bool]], error: str, kv_names: list[str], holders: list[str], interval_s: float
) -> None:
    """Nothing of ids, text and log probabilities is lost; sealed, signed and inside another packet it still fits."""
    events, left = TokenEvents(EventPace(interval_s)), []
    for number, (token, text, told, more) in enumerate(tokens, 1):
        last, piece = number == len(tokens), TokenPiece(token, text, (TOLD,) if told else ())
        left += events.add(piece, float(number), last=last, more=more and not last)
    signers = tuple(KvSigner(name, 2**32 - 1) for name in holders)
    report = TokenEvent(
        (), finish="stop", error=error, kv=KvSources(*[2**32 - 1] * 6, signers=signers), prompt_tokens=2**18,
        kv_names=tuple(kv_names), kv_holders=tuple(holders),
    )  # fmt: skip
    left += events.finish(report, 99.0)
    assert [token for event in left for token in event.ids] == [token for token, *_ in tokens]
    assert "".join(event.text for event in left) == "".join(text for _, text, *_ in tokens)
    assert sum(len(event.logprobs) for event in left) == sum(told for _, _, told, _ in tokens)
    assert [event.finish for event in left] == [""] * (len(left) - 1) + ["stop"]
    domain = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(32)}).newest
    for event in left:
        content = records.encode(event)
        assert len(content) <= EVENT_BYTES and records.decode(TokenEvent, content) == event
        name = LONG + ndn.version(2**60) + ndn.segment(40_000)
        wire = SIGNER.sign_data(name, domain.seal_event(name, content), final_block=ndn.segment(40_000))
        assert len(again.wrap(again.question(name, bytes(8)), wire)) <= MAX_PACKET_BYTES
