"""Interests for which no route leads go by hint: one identity after another, then at once to the one that answered."""

from __future__ import annotations

import random
from collections.abc import Iterable

from ndn_infer import ndn
from ndn_infer.ndn import lp
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SignatureInfo, decode_interest, digest_signer, encode_interest
from ndn_infer.transport.link.detour import MAX_LEARNED, MAX_WAYS, Detour, with_hint

NET = ndn.from_uri("/lab")
A, B, C = (ndn.from_uri(f"/lab/s/{node}/decode") for node in "abc")
KV = ndn.from_uri("/lab/model/m/kv/public/1")


def interest(name: Name, *hints: Name) -> bytes:
    return encode_interest(name, nonce=b"abcd", hints=hints, must_be_fresh=True, lifetime_ms=900)[0]


def hints_of(wire: bytes | None) -> tuple[Name, ...]:
    assert wire is not None
    return decode_interest(wire).hints


def nack(detour: Detour, wire: bytes, reason: int = lp.REASON_NO_ROUTE) -> bytes | None:
    return detour.refused(decode_interest(wire), wire, reason)


def detour_to(*identities: Name) -> Detour:
    return Detour(lambda name: identities, beginning=4)


def test_one_identity_after_another_is_asked_and_then_whoever_waits_is_told() -> None:
    detour = detour_to(A, B)
    assert detour.outgoing(interest(KV)) == interest(KV), "the first time by its name alone"
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
    detour.answered(KV)
    other = ndn.from_uri("/lab/model/m/kv/public/2")
    assert hints_of(second) == (B,) == hints_of(detour.outgoing(interest(other)))
    assert detour.outgoing(interest(ndn.from_uri("/lab/corpus/c/passage/2"))) == interest(
        ndn.from_uri("/lab/corpus/c/passage/2")
    )


def test_when_the_one_that_answered_is_gone_the_others_are_asked() -> None:
    detour = detour_to(A, B, C)
    nack(detour, interest(KV))
    detour.answered(KV)
    lost = detour.outgoing(interest(KV))
    assert hints_of(lost) == (A,)
    assert hints_of(nack(detour, lost)) == (B,)
    detour.answered(KV)
    assert hints_of(detour.outgoing(interest(KV))) == (B,)


def test_an_interest_without_an_answer_goes_to_the_next_when_it_is_sent_again() -> None:
    detour = detour_to(A, B)
    assert hints_of(nack(detour, interest(KV))) == (A,)
    assert hints_of(detour.outgoing(interest(KV))) == (B,)
    assert detour.outgoing(interest(KV)) == interest(KV), "and at last by its name alone"


def test_a_late_nack_of_an_earlier_way_does_not_end_the_later_one() -> None:
    detour = detour_to(A, B)
    first = nack(detour, interest(KV))
    assert nack(detour, interest(KV)) == b"" and hints_of(nack(detour, first or b"")) == (B,)


def test_hints_of_the_application_and_other_reasons_are_left_alone() -> None:
    detour = detour_to(A, B)
    assert nack(detour, interest(KV, C)) is None
    assert nack(detour, interest(KV), lp.REASON_CONGESTION) is None
    nack(detour, interest(KV))
    detour.answered(KV)
    assert detour.outgoing(interest(KV, C)) == interest(KV, C)


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
        detour_to(A).outgoing(bytes(damaged))


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
            detour.answered(name)
    assert len(detour._ways) <= MAX_WAYS and len(detour._learned) <= MAX_LEARNED
