"""State Vector Sync without a network: vectors as bytes, merging, the two states, large states, bounds."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn.packet import DIGEST_INFO, decode_data, decode_interest, digest_signer
from ndn_infer.ndn.tlv import encode_tlv
from ndn_infer.sync.core import packets
from ndn_infer.sync.core.state import FUTURE_S, Options, StateMessage, SyncCore, Update
from ndn_infer.sync.core.summary import ALL_BUCKETS, Summary, decode_summary, encode_summary
from ndn_infer.sync.core.table import Bounds, MemberTable
from ndn_infer.sync.core.vector import Entry, decode_mapping, decode_vector, encode_mapping, encode_vector

EPOCH = 1_700_000_000
GROUP = ndn.from_uri("/g")


def name(label: object) -> ndn.Name:
    return ndn.from_uri(f"/node/{label}")


def core(label: object, now: float = 0.0, **options: object) -> SyncCore:
    return SyncCore(name(label), now, epoch=EPOCH, seed=hash(str(label)) % 1000, options=Options(**options))  # type: ignore[arg-type]


def state(member: SyncCore) -> dict[tuple[ndn.Name, int], int]:
    return {entry[:2]: entry.sequence for entry in member.table}


# ---------------------------------------------------------------- bytes


def test_golden_bytes_of_a_vector() -> None:
    """Section 3 by hand: 201 { 202 { Name, 210 { 212 boot, 214 seq }, ... }, ... }, names in canonical order."""
    wire = encode_vector([Entry(name("b"), 7, 1), Entry(name("a"), EPOCH, 300), Entry(name("a"), 5, 2)])
    assert wire.hex() == (
        "c936"
        "ca1f" "0709" "08046e6f6465" "080161" "d206d40105d60102" "d20ad4046553f100d602012c"
        "ca13" "0709" "08046e6f6465" "080162" "d206d40107d60101"
    )  # fmt: skip
    assert decode_vector(wire) == [
        Entry(name("a"), 5, 2),
        Entry(name("a"), EPOCH, 300),
        Entry(name("b"), 7, 1),
    ]


def test_canonical_order_is_that_of_ndn() -> None:
    """Shorter components first, whatever their bytes; a prefix before what goes on."""
    names = [ndn.from_uri(uri) for uri in ("/a", "/a/b", "/b", "/aa", "/" + "z" * 300, "/32=a")]
    assert [entry.name for entry in decode_vector(encode_vector(Entry(one, 1, 1) for one in reversed(names)))] == names


entries = st.lists(
    st.builds(
        Entry,
        st.lists(st.binary(max_size=6), min_size=1, max_size=3).map(lambda parts: b"".join(map(ndn.generic, parts))),
        st.integers(0, 1 << 40),
        st.integers(1, (1 << 64) - 1),
    ),
    unique_by=lambda entry: entry[:2],
    max_size=30,
)


@given(entries)
def test_vectors_round_trip(found: list[Entry]) -> None:
    assert decode_vector(encode_vector(found)) == sorted(found)


@settings(max_examples=300)
@given(entries, st.randoms(use_true_random=False), st.integers(1, 6))
def test_damaged_vectors_are_read_or_refused(found: list[Entry], rng: random.Random, times: int) -> None:
    """Only BadPacket comes out, and what decodes is a vector."""
    wire = bytearray(encode_vector(found))
    for _ in range(times):
        at = rng.randrange(len(wire) + 1)
        match rng.randrange(3):
            case 0:
                wire[at:at] = bytes([rng.randrange(256)])
            case 1:
                del wire[at : at + rng.randrange(1, 4)]
            case _:
                wire[at : at + 1] = bytes([rng.choice((0, 1, 7, 201, 202, 210, 212, 214, 253, 255))])
    try:
        decoded = decode_vector(bytes(wire))
    except BadPacket:
        return
    names = [entry.name for entry in decoded]
    assert names == sorted(names) and all(entry.sequence and len(entry.name) <= 512 for entry in decoded)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_one_error(wire: bytes) -> None:
    for decode in (decode_vector, decode_mapping, decode_summary, packets.parse_asked):
        try:
            decode(wire)
        except BadPacket:
            pass
    try:
        packets.vector_data(GROUP, wire)
    except BadPacket:
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"",
        encode_tlv(200, b""),
        encode_vector([]) + b"\xcb\x00",  # something critical after it
        encode_tlv(201, encode_tlv(204, b"")),
        encode_tlv(201, encode_tlv(202, encode_tlv(7, b""))),  # no name
        encode_tlv(201, encode_tlv(202, encode_tlv(7, ndn.generic("x" * 600)))),
        encode_tlv(201, b"".join(encode_tlv(202, encode_tlv(7, ndn.generic(one))) for one in "ba")),  # order
        encode_tlv(201, encode_tlv(202, encode_tlv(7, ndn.generic("a"))) * 2),  # twice
        encode_vector([Entry(b"\x08\x01a", 7, 0)]),  # number 0
        encode_vector([Entry(b"\x08\x01a", EPOCH + FUTURE_S + 1, 1)]),
        bytes(9000),
    ],
)
def test_vectors_that_are_refused_change_nothing(content: bytes) -> None:
    member = core("a")
    with pytest.raises(BadPacket):
        member.take(0.0, content)
    assert not state(member)


def test_a_vector_of_a_million_entries_costs_nothing() -> None:
    """It is refused for its length before it is read."""
    with pytest.raises(BadPacket, match="a state vector of"):
        decode_vector(bytes(20_000_000))


def test_blocks_after_the_vector_are_skipped() -> None:
    found = [Entry(name("a"), 7, 3)]
    assert decode_vector(encode_vector(found) + encode_mapping(name("a"), [(3, name("x"))]) + b"\xf0\x00") == found
    with pytest.raises(BadPacket):
        decode_vector(encode_vector(found) + b"\x09\x00")


def test_mapping_data_round_trips() -> None:
    """Publication layer, "Name Mapping"; what follows a name in an entry is skipped."""
    wire = encode_mapping(name("a"), [(1, name("x")), (70_000, name("y"))])
    assert decode_mapping(wire) == (name("a"), {1: name("x"), 70_000: name("y")})
    timed = encode_tlv(206, b"\xcc\x01\x05" + ndn.encode_name(name("z")) + ndn.timestamp(9))
    assert decode_mapping(encode_tlv(205, ndn.encode_name(name("a")) + timed)) == (name("a"), {5: name("z")})


@given(st.integers(0, ALL_BUCKETS), st.lists(st.integers(0, 2**32 - 1), min_size=64, max_size=64))
def test_summaries_travel_in_the_metainfo(covered: int, digests: list[int]) -> None:
    summary = Summary(covered, tuple(digests))
    assert len(encode_summary(summary)) == 268
    wire = packets.sign_message(GROUP + ndn.version(3), StateMessage(encode_vector([]), summary), Digest(), 500)
    data = decode_data(wire)
    assert packets.summary_of(data) == summary and data.freshness_ms == 500
    assert digest_signer(data.signed_portion) == data.signature


class Digest:
    info = DIGEST_INFO
    sign = staticmethod(digest_signer)


def test_a_sync_interest_has_the_names_of_the_specification() -> None:
    message = StateMessage(encode_vector([Entry(name("a"), 7, 1)]), None)
    vector = packets.sign_message(packets.vector_name(GROUP), message, Digest())
    interest = decode_interest(packets.sync_interest(GROUP, vector))
    assert ndn.to_uri(ndn.prefix(interest.name, 2)) == "/g/v=3" and interest.parameters_digest_matches()
    assert interest.lifetime_ms == 1000
    data = packets.vector_data(GROUP, interest.parameters)
    assert data.content == message.content and packets.summary_of(data) is None
    with pytest.raises(BadPacket, match="another group"):
        packets.vector_data(ndn.from_uri("/h"), interest.parameters)
    assert (
        ndn.to_uri(packets.mapping_name(name("a"), GROUP, 1784322744, 2, 7))
        == "/node/a/g/t=1784322744/MAPPING/seq=2/seq=7"
    )
    assert ndn.to_uri(packets.publication_name(name("a"), GROUP, 1784322744, 7)) == "/node/a/g/t=1784322744/seq=7"


@given(st.binary(max_size=20_000), st.booleans())
def test_publications_come_out_as_they_went_in(content: bytes, signed: bool) -> None:
    outer, inner = packets.publication_name(name("a"), GROUP, 7, 1), name("data")
    made = [
        decode_data(wire) for wire in packets.encapsulate(outer, inner, content, Digest(), Digest() if signed else None)
    ]
    found = [packets.decapsulate(data, outer) for data in made]
    assert b"".join(one.content for one in found) == content and {one.name for one in found} == {inner}
    if len(made) > 1:
        assert [ndn.to_uri(data.name) for data in made] == [
            ndn.to_uri(outer) + f"/v=0/seg={number}" for number in range(len(made))
        ]
        assert {one.last for one in found} == {len(made) - 1}
    else:
        assert made[0].name == outer and made[0].final_block is None and made[0].content_type == 6


@pytest.mark.parametrize(
    ("uri", "asked"),
    [
        ("/t=7/seq=3", packets.SyncQuery(7, 3)),
        ("/t=7/seq=3/v=0/seg=2", packets.SyncQuery(7, 3, segment=2)),
        ("/t=7/MAPPING/seq=2/seq=7", packets.SyncQuery(7, 2, high=7)),
        ("/32=state/%00%00%00%00%00%00%00%05", packets.SyncQuery(buckets=5)),
        ("/", None),
        ("/t=7", None),
        ("/t=7/seq=3/v=1/seg=2", None),
        ("/%07/seq=3", None),
        ("/77/x/y", None),
        ("/%07", packets.SyncQuery(sequence=7, older=True)),
        ("/%01%02/v=0/seg=1", packets.SyncQuery(sequence=258, segment=1, older=True)),
        ("/MAPPING/%01/%02", packets.SyncQuery(sequence=1, high=2, older=True)),
        ("/32=state/5", None),
    ],
)
def test_names_that_are_answered(uri: str, asked: packets.SyncQuery | None) -> None:
    assert packets.parse_asked(ndn.from_uri(uri)) == asked


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
