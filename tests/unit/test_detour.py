"""Interests for which no route leads go by hint: one identity after another, then at once to the one that answered."""

from __future__ import annotations

import random
from collections.abc import Iterable

from ndn_infer import ndn
from ndn_infer.namespace import asks_prefix, is_question
from ndn_infer.ndn import lp
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SignatureInfo, decode_interest, digest_signer, encode_interest
from ndn_infer.transport.link.detour import MAX_LEARNED, MAX_WAITING, MAX_WAYS, Detour, with_hint

NET = ndn.from_uri("/lab")
A, B, C = (ndn.from_uri(f"/lab/s/{node}/decode") for node in "abc")
KV = ndn.from_uri("/lab/model/m/kv/public/1")


def interest(name: Name, *hints: Name) -> bytes:
    return encode_interest(name, nonce=b"abcd", hints=hints, must_be_fresh=True, lifetime_ms=900)[0]


def hints_of(wire: bytes | None) -> tuple[Name, ...]:
    assert wire is not None
    return decode_interest(wire).hints


def nack(detour: Detour, wire: bytes, reason: int = lp.REASON_NO_ROUTE, now: float = 0.0) -> bytes | None:
    """What is sent instead, b"" for nothing; None: whoever waits is told."""
    turn = detour.refused(decode_interest(wire), wire, reason, now)
    assert len(turn.send) + len(turn.told) <= 1
    return None if turn.told else b"".join(turn.send)


def out(detour: Detour, wire: bytes, now: float = 0.0) -> bytes:
    return detour.outgoing(wire, now)


def test_a_question_to_one_identity_is_asked_of_nobody_else() -> None:
    """Roles that a node has not were asked of everybody: 2,400 Nacks a call in a network of twenty producers."""
    detour = Detour(
        lambda name: (A, B), beginning=4, one_place=lambda name: is_question(NET, name)
    )  # fmt: skip
    for below in (C, C + ndn.from_uri("/instance/0123")):
        assert nack(detour, interest(asks_prefix(below) + ndn.from_uri("/offer"))) is None
    assert nack(detour, interest(KV)) and nack(detour, interest(C + ndn.from_uri("/KEY/1"))), "others may have these"


def detour_to(*identities: Name) -> Detour:
    return Detour(lambda name: identities, beginning=4)


def test_one_identity_after_another_is_asked_and_then_whoever_waits_is_told() -> None:
    detour = detour_to(A, B)
    assert out(detour, interest(KV)) == interest(KV), "the first time by its name alone"
    first = nack(detour, interest(KV))
    assert hints_of(first) == (A,)
    second = nack(detour, first or b"")
    assert hints_of(second) == (B,)
    assert nack(detour, second or b"") is None and detour.idle


def test_those_who_become_known_later_are_asked_after_the_others() -> None:
    detour, offered = detour_to(A), [A, B]
    detour.whereabouts.append(lambda name: offered)
    first = nack(detour, interest(KV))
    assert hints_of(first) == (A,) and hints_of(nack(detour, first or b"")) == (B,)


def test_who_answered_is_asked_at_once_for_names_of_the_same_beginning() -> None:
    detour = detour_to(A, B)
    second = nack(detour, nack(detour, interest(KV)) or b"")
    detour.answered(KV, 0.0)
    other = ndn.from_uri("/lab/model/m/kv/public/2")
    assert hints_of(second) == (B,) == hints_of(out(detour, interest(other)))
    assert out(detour, interest(ndn.from_uri("/lab/corpus/c/passage/2"))) == interest(
        ndn.from_uri("/lab/corpus/c/passage/2")
    )


def test_when_the_one_that_answered_is_gone_the_others_are_asked() -> None:
    detour = detour_to(A, B, C)
    nack(detour, interest(KV))
    detour.answered(KV, 0.0)
    lost = out(detour, interest(KV))
    assert hints_of(lost) == (A,)
    assert hints_of(nack(detour, lost)) == (B,)
    detour.answered(KV, 0.0)
    assert hints_of(out(detour, interest(KV))) == (B,)


def test_an_interest_without_an_answer_goes_to_the_next_when_it_is_sent_again() -> None:
    detour = detour_to(A, B)
    assert hints_of(nack(detour, interest(KV))) == (A,)
    assert hints_of(out(detour, interest(KV))) == (B,)
    assert out(detour, interest(KV)) == interest(KV), "and at last by its name alone"


def test_a_late_nack_of_an_earlier_way_does_not_end_the_later_one() -> None:
    detour = detour_to(A, B)
    first = nack(detour, interest(KV))
    assert nack(detour, interest(KV)) == b"" and hints_of(nack(detour, first or b"")) == (B,)


def test_hints_of_the_application_and_other_reasons_are_left_alone() -> None:
    detour = detour_to(A, B)
    assert nack(detour, interest(KV, C)) is None
    assert nack(detour, interest(KV), lp.REASON_CONGESTION) is None
    assert nack(detour, interest(KV), now=2.0)
    detour.answered(KV, 2.0)
    assert out(detour, interest(KV, C)) == interest(KV, C)


def test_a_hint_changes_nothing_else_also_in_a_signed_interest() -> None:
    info = SignatureInfo(0, nonce=bytes(8), time_ms=1)
    wire, name = encode_interest(
        KV, nonce=b"abcd", must_be_fresh=True, parameters=b"x" * 300, info=info, signer=digest_signer
    )
    hinted = with_hint(wire, A)
    assert hinted is not None
    before, after = decode_interest(wire), decode_interest(hinted)
    assert (after.name, after.parameters, after.hints) == (
        name,
        before.parameters,
        (A,),
    ) and after.nonce != before.nonce
    assert after.parameters_digest_matches() and after.must_be_fresh
    again = with_hint(hinted, B, replace=True)
    assert hints_of(again) == (B,) and with_hint(hinted, B) is None


def test_what_would_be_too_large_or_is_no_interest_stays(seed: int = 4) -> None:
    large, _ = encode_interest(KV, nonce=b"abcd", parameters=bytes(8700))
    assert with_hint(large, A) is None
    draw = random.Random(seed)
    wire = interest(KV)
    for _ in range(3000):
        damaged = bytearray(wire)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with_hint(bytes(damaged[: draw.randrange(len(damaged) + 1)]), A)
        detour_to(A).outgoing(bytes(damaged), 0.0)


def test_what_is_remembered_is_bounded() -> None:
    def endless(name: Name) -> Iterable[Name]:
        return (ndn.from_uri(f"/lab/s/{number}/decode") for number in range(10_000))

    detour, asked = Detour(endless, beginning=4), 0
    wire = nack(detour, interest(KV))
    while wire:
        asked, wire = asked + 1, nack(detour, wire)
    assert asked == 64
    for number in range(MAX_WAYS + 100):
        name = ndn.from_uri(f"/lab/model/{number}/kv/x")
        nack(detour, interest(name))
        if number < MAX_LEARNED + 100:
            detour.answered(name, 0.0)
    assert len(detour._ways) <= MAX_WAYS and len(detour._learned) <= MAX_LEARNED


# ------------------------------------------------------------ no burst


def kv(number: int) -> Name:
    return ndn.from_uri(f"/lab/model/m/kv/public/{number}")


def refuse(detour: Detour, wire: bytes, now: float) -> tuple[tuple[bytes, ...], list[Name]]:
    turn = detour.refused(decode_interest(wire), wire, lp.REASON_NO_ROUTE, now)
    return turn.send, [interest.name for interest in turn.told]


def test_of_many_names_of_one_beginning_one_is_asked_about_and_the_others_follow_it() -> None:
    """Sixty blocks whose names lead nowhere, eight identities: not 480 Interests."""
    detour = detour_to(*(ndn.from_uri(f"/lab/s/n{number}/decode") for number in range(8)))
    sent = [wire for number in range(60) for wire in refuse(detour, interest(kv(number)), 0.0)[0]]
    assert len(sent) == 1
    (second,), told = refuse(detour, sent[0], 0.1)
    assert not told
    followers = detour.answered(kv(0), 0.2)
    assert len(followers) == 59 and {hints_of(wire) for wire in followers} == {hints_of(second)}
    assert {decode_interest(wire).name for wire in followers} == {kv(number) for number in range(1, 60)}


def test_when_nobody_has_it_all_who_wait_are_told_and_it_is_not_asked_for_again_for_a_while() -> None:
    detour, sent, at = detour_to(A, B, C), 0, 0.0
    for _ in range(10):  # whoever waits asks again each tenth of a second
        turn = refuse(detour, interest(kv(1)), at)
        refuse(detour, interest(kv(2)), at)
        told: list[Name] = turn[1]
        while not told:
            sent += 1
            turn = refuse(detour, turn[0][0], at)
            told = turn[1]
        assert kv(1) in told
        if at == 0.0:
            assert told == [kv(1), kv(2)]
        at += 0.05
    assert sent == 3
    assert nack(detour, interest(kv(1)), now=1.1), "then it may be there"


def test_a_search_without_an_answer_holds_nobody_up_for_long() -> None:
    detour = detour_to(A, B)
    assert nack(detour, interest(kv(1)))
    assert nack(detour, interest(kv(2)), now=0.4) == b""
    taken_over = nack(detour, interest(kv(3)), now=0.6)
    assert hints_of(taken_over) == (A,)
    (followed,) = detour.answered(kv(3), 0.7)
    assert decode_interest(followed).name == kv(2)


def test_searches_for_other_beginnings_go_on_at_the_same_time_and_those_who_wait_are_bounded() -> None:
    detour = detour_to(A, B)
    assert nack(detour, interest(KV)) and nack(detour, interest(ndn.from_uri("/lab/corpus/c/passage/2")))
    waiting = [nack(detour, interest(kv(number))) for number in range(2, MAX_WAITING + 10)]
    assert waiting.count(b"") == MAX_WAITING and waiting.count(None) == 8
