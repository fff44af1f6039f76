"""State Vector Sync without a network: merging, the two states, large states, bounds."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.sync.core.state import StateMessage, SyncCore, Update
from ndn_infer.sync.core.summary import Summary
from ndn_infer.sync.core.table import Bounds, MemberTable
from ndn_infer.sync.core.vector import Entry, decode_vector, encode_vector
from tests.unit.sync_kit import EPOCH, core, entries, name, state

# ---------------------------------------------------------------- merging


@given(entries, entries)
def test_merging_is_the_maximum_in_any_order(first: list[Entry], second: list[Entry]) -> None:
    expected: dict[tuple[ndn.Name, int], int] = {}
    for entry in (*first, *second):
        expected[entry[:2]] = max(expected.get(entry[:2], 0), entry.sequence)
    digests = set()
    for one, other in ((first, second), (second, first)):
        table = MemberTable(Bounds(boots=100))
        for entry in (*one, *other, *one):
            table.learn(entry, 0.0)
        assert {entry[:2]: entry.sequence for entry in table} == expected
        digests.add(table.digests)
    assert len(digests) == 1


def test_what_is_new_is_told_once() -> None:
    member = core("a")
    vector = encode_vector([Entry(name("b"), 7, 3)])
    assert member.take(0.0, vector).updates == [Update(name("b"), 7, 1, 3)]
    assert member.take(1.0, vector).updates == []
    assert member.take(2.0, encode_vector([Entry(name("b"), 7, 5)])).updates == [Update(name("b"), 7, 4, 5)]
    assert member.take(3.0, encode_vector([Entry(name("b"), 9, 1)])).updates == [Update(name("b"), 9, 1, 1)]


# ---------------------------------------------------------------- the two states (section 4.5)


def settled(label: object, *known: Entry, now: float = 100.0, **options: object) -> SyncCore:
    """A member in Steady State that has known these for long."""
    member = core(label, now - 50.0, **options)
    member.take(now - 50.0, encode_vector(known))
    return member


def test_the_first_vector_asks_soon() -> None:
    member = core("a")
    assert 0 <= member.next_wake() <= 0.2
    actions = member.tick(member.next_wake())
    assert actions.message == StateMessage(encode_vector([]), None)


def sent_by(member: SyncCore, until: float) -> list[float]:
    """When it sends a vector, if nobody says anything."""
    times = []
    while (at := member.next_wake()) <= until:
        if member.tick(at).message is not None:
            times.append(at)
    return times


def test_who_heard_nobody_asks_again_and_again_up_to_a_period() -> None:
    first, *again = sent_by(core("a"), 40.0)
    assert [round(at - first, 6) for at in again] == [1.0, 3.0, 7.0, 15.0, 31.0]
    member = core("a")
    first = member.next_wake()
    assert member.tick(first).message is not None
    member.take(first + 0.1, encode_vector([Entry(name("b"), 7, 3)]))
    assert member.next_wake() > first + 27, "it was answered"
    member.publish(first + 1.0)
    assert member.next_wake() == pytest.approx(first + 2.0), "unheard, as ever"
    by_the_letter = core("a", repeat_s=0.0)
    assert len(sent_by(by_the_letter, 27.0)) == 1


def test_a_publication_is_announced_at_once() -> None:
    member = settled("a", Entry(name("b"), 7, 3))
    actions = member.publish(100.0)
    assert actions.message is not None
    assert decode_vector(actions.message.content) == [
        Entry(name("a"), EPOCH + 50, 1),
        Entry(name("b"), 7, 3),
    ]


def test_an_equal_vector_puts_the_timer_off() -> None:
    member = settled("a", Entry(name("b"), 7, 3))
    before = member.next_wake()
    member.take(60.0, encode_vector([Entry(name("b"), 7, 3)]))
    assert member.next_wake() >= 60 + 27 > before - 60 + 27
    assert member.tick(60.5).message is None


def test_an_outdated_vector_is_answered_after_a_while() -> None:
    member = settled("a", Entry(name("b"), 7, 3))
    assert member.take(60.0, encode_vector([Entry(name("b"), 7, 2)])).message is None
    due = member.next_wake()
    assert 60.0 <= due <= 60.2
    actions = member.tick(due)
    assert actions.message is not None and decode_vector(actions.message.content) == [Entry(name("b"), 7, 3)]
    assert member.next_wake() >= due + 27


def test_somebody_elses_answer_is_enough() -> None:
    member = settled("a", Entry(name("b"), 7, 3))
    member.take(60.0, encode_vector([Entry(name("b"), 7, 2)]))
    member.take(60.0, encode_vector([Entry(name("b"), 7, 3)]))
    assert member.tick(60.3).message is None and member.next_wake() >= 60.3 + 27


def test_what_others_cannot_know_yet_is_no_inconsistency() -> None:
    """Section 4.5: outdated in what was updated within the last SuppressionPeriod only."""
    member = settled("a", Entry(name("b"), 7, 3))
    member.take(60.0, encode_vector([Entry(name("b"), 7, 4)]))
    before = member.next_wake()
    member.take(60.1, encode_vector([Entry(name("b"), 7, 3)]))
    assert member.next_wake() == before
    member.take(60.3, encode_vector([Entry(name("b"), 7, 3)]))
    assert member.next_wake() <= 60.5


def test_a_vector_may_be_newer_and_outdated() -> None:
    member = settled("a", Entry(name("b"), 7, 3), Entry(name("c"), 7, 3))
    actions = member.take(60.0, encode_vector([Entry(name("b"), 7, 4)]))
    assert actions.updates == [Update(name("b"), 7, 4, 4)] and member.next_wake() <= 60.2


def test_suppression_is_exponential() -> None:
    """Most waits are near the period, few are short: of 1,000 members some two answer in the first tenth."""
    waits = [core(label).next_wake() for label in range(1000)]
    assert sum(wait < 0.02 for wait in waits) < 40 and sum(wait > 0.15 for wait in waits) > 700


def test_an_unheard_publication_is_announced_once_more() -> None:
    lonely = settled("a")
    lonely.publish(100.0)
    assert lonely.next_wake() == 101.0 and lonely.tick(101.0).message is not None
    assert lonely.next_wake() > 120
    heard = settled("a")
    heard.publish(100.0)
    heard.take(100.5, encode_vector([Entry(name("a"), heard.boot, 1)]))
    assert heard.next_wake() > 120
    by_the_letter = settled("a", repeat_s=0.0)
    by_the_letter.publish(100.0)
    assert by_the_letter.next_wake() > 120


# ---------------------------------------------------------------- starts, deaths, bounds


def test_who_lost_its_numbers_begins_anew() -> None:
    """Section 5.3, and the lie that a member has published more than it has."""
    member = core("a")
    member.publish(10.0)
    actions = member.take(11.0, encode_vector([Entry(name("a"), member.boot, 1_000_000)]))
    assert actions.restarted and member.boot == EPOCH + 11 and member.sequence == 0
    again = member.publish(11.0).message
    assert again is not None and Entry(name("a"), EPOCH + 11, 1) in decode_vector(again.content)
    assert not member.take(12.0, encode_vector([Entry(name("a"), member.boot, 9)])).restarted, "every 10 s at most"
    assert not member.take(30.0, encode_vector([Entry(name("a"), EPOCH + 3600, 9)])).restarted, "another start of ours"
    assert state(member)[name("a"), EPOCH] == 1_000_000, "others have it too"


def test_the_silent_are_forgotten_and_not_learnt_again() -> None:
    member = core("a", bounds=Bounds(forget_s=600))
    vector = encode_vector([Entry(name("b"), 7, 3)])
    member.take(0.0, vector)
    assert member.tick(599.0).forgotten == [] and member.tick(600.0).forgotten == [name("b")]
    assert member.take(601.0, vector, origin=name("c")).updates == [], "the same number again is an echo"
    assert member.take(602.0, encode_vector([Entry(name("b"), 7, 4)])).updates, "a new one is a sign of life"


def test_who_speaks_in_person_is_alive() -> None:
    member = core("a", bounds=Bounds(forget_s=600))
    vector = encode_vector([Entry(name("b"), 7, 3)])
    member.take(0.0, vector)
    member.take(400.0, vector, origin=name("b"))
    assert member.tick(700.0).forgotten == [] and member.tick(1000.0).forgotten == [name("b")]
    assert member.take(1001.0, vector, origin=name("b")).updates == [Update(name("b"), 7, 1, 3)]


def test_nobody_is_told_of_members_that_may_be_forgotten_already() -> None:
    member = core("a", bounds=Bounds(forget_s=600))
    member.take(0.0, encode_vector([Entry(name("b"), 7, 3)]))
    member.take(290.0, encode_vector([]))
    assert member.next_wake() <= 290.2
    other = core("a", bounds=Bounds(forget_s=600))
    other.take(0.0, encode_vector([Entry(name("b"), 7, 3)]))
    other.take(301.0, encode_vector([]))
    assert other.next_wake() > 310


def test_members_and_starts_are_bounded() -> None:
    table = MemberTable(Bounds(members=10, boots=2))
    for number in range(20):
        table.learn(Entry(name(number), 7, 1), 0.0)
    assert len(table) == 10
    table = MemberTable(Bounds(members=3, boots=2))
    table.learn(Entry(name(1), 7, 1), 0.0)
    for boot in (8, 9, 7, 5):
        table.learn(Entry(name(1), boot, 1), 0.0)
    assert sorted(entry.boot for entry in table if entry.name == name(1)) == [8, 9] and len(table) == 2
    assert table.refuses(Entry(name(1), 6, 1)) and not table.refuses(Entry(name(1), 10, 1))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(1, 9), st.integers(0, 300)), max_size=60))
def test_digests_are_those_of_what_is_there(steps: list[tuple[int, int, int, int]]) -> None:
    """Whatever was learnt, replaced and forgotten on the way."""
    table, now = MemberTable(Bounds(members=8, boots=2, forget_s=600)), 0.0
    for label, boot, sequence, pause in steps:
        now += pause
        table.forget(now, (b"", 0))
        table.learn(Entry(name(label), boot, sequence), now)
    fresh = MemberTable(Bounds(members=100, boots=10))
    for entry in table:
        fresh.learn(entry, 0.0)
    assert table.digests == fresh.digests and table.bytes == fresh.bytes
    assert {entry for number in range(64) for entry in table.bucket(number)} == set(table)
    assert set(table.newest_changes()) == set(table)


# ---------------------------------------------------------------- larger than a packet


def large(label: object, count: int = 1000, *, without: Iterable[int] = ()) -> SyncCore:
    missing = set(without)
    member = core(label)
    member.learn(0.0, [Entry(name(f"member-{one}"), 7, 1) for one in range(count) if one not in missing])
    return member


def test_a_large_state_is_sent_in_part_with_a_summary() -> None:
    message = large("a").publish(100.0).message
    assert message is not None and message.summary is not None
    assert len(message.content) <= 1200 and Entry(name("a"), EPOCH, 1) in decode_vector(message.content)


def test_equal_large_states_say_nothing() -> None:
    here, there = large("a"), large("b")
    message = there.tick(100.0).message
    assert message is not None and not here.take(100.0, *message).updates
    assert here.next_wake() >= 127


def test_a_newcomer_learns_a_large_state_within_ten_answers() -> None:
    here, newcomer, now = large("a"), core("b"), 100.0
    heard = newcomer.tick(now).message
    answers = 0
    while len(newcomer.table) < 1000:
        assert heard is not None, f"stuck with {len(newcomer.table)} members"
        here.take(now, *heard)
        answer = here.tick(now := now + 0.3).message
        assert answer is not None and len(answer.content) <= 7000
        answers += 1
        newcomer.take(now, *answer)
        heard = newcomer.tick(now := now + 0.3).message
    assert answers <= 12


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 399), max_size=40), st.sets(st.integers(0, 399), max_size=40))
def test_two_large_states_become_one(lacks: set[int], other_lacks: set[int]) -> None:
    here, there = large("a", 400, without=lacks), large("b", 400, without=other_lacks)
    expected = {**state(here), **state(there)}
    now, message = 100.0, there.tick(100.0).message
    for _ in range(30):
        for member in (here, there):
            if message is not None:
                member.take(now, *message)
            now += 0.3
            message = member.tick(now).message
            if message is not None:
                (there if member is here else here).take(now, *message)
    assert state(here) == state(there) == expected


def test_a_difference_that_nobody_can_mend_is_told_less_and_less() -> None:
    """A member that others have forgotten, for example."""
    here, now, said = large("a", 400), 100.0, []
    odd = large("b", 401)
    summary = Summary(0, odd.table.digests)
    vector = encode_vector([])
    while now < 3700:
        here.take(now, vector, summary)
        if here.tick(now + 0.25).message is not None:
            said.append(now)
        now += 0.5
    assert 10 <= len(said) <= 300 and said[-1] - said[-2] > 10
