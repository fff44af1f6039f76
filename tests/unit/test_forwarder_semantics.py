"""Forwarding semantics in virtual time, one scenario a rule; the clause stands beside it.

Clauses: PF = NDN Packet Format 0.3, NFD = NFD developer guide and NFD's source (24.07), LP = NDNLPv2 revision 4.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ndn_infer import name as ndn
from ndn_infer import packet, tlv
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.forwarder.rib import CAPTURE, CHILD_INHERIT, Route
from tests.forwarder_world import World, data, interest, link, nack

Step = tuple[float, str, bytes | Callable[[World], None], list[str]]


@dataclass(frozen=True)
class Scenario:
    """`steps`: (time, face, packet it sends, what goes out). A callable in place of a packet changes the world."""

    rule: str
    steps: list[Step]
    faces: str = "cpP"
    routes: list[tuple[str, str, int]] = field(default_factory=lambda: [("/a", "p", 0)])
    setup: Callable[[World], None] = lambda world: None
    regions: tuple[str, ...] = ()


def local_fields(name: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.faces[name].link.local_fields = True

    return change


def multicast(uri: str) -> Callable[[World], None]:
    return lambda world: world.multicast(uri)


def remove(name: str) -> Callable[[World], None]:
    return lambda world: world.core.remove_face(world.faces[name].id)


def queue(name: str, size: int) -> Callable[[World], None]:
    return lambda world: world.queued.update({name: size})


def serve(on: bool) -> Callable[[World], None]:
    return lambda world: setattr(world.core.cs, "serve", on)


def raw_interest(after_nonce: bytes) -> bytes:
    """/a/b with nonce 1 and whatever follows."""
    return tlv.encode_tlv(5, ndn.encode_name(ndn.from_uri("/a/b")) + b"\x0a\x04\0\0\0\1" + after_nonce)


DIGEST = "sha256digest=" + hashlib.sha256(data("/a/b")).hexdigest()
DRAWN = int.from_bytes(random.Random(1).randbytes(4), "big")
A = interest("/a/b")
DA = data("/a/b")

SCENARIOS = [
    # ------------------------------------------------------------ Interest
    Scenario(
        "an Interest follows the longest prefix (NFD 3.1)",
        [(0, "c", A, ["p<I/a/b#1"])],
        routes=[("/a", "P", 9), ("/a/b", "p", 0)],
    ),
    Scenario("no route: Nack NoRoute (NFD best-route 5)", [(0, "c", interest("/z"), ["c<N150/z#1"])]),
    Scenario(
        "a Nack carries the PIT token (LP PitToken)",
        [(0, "c", link(interest("/z"), pit_token=b"\1\2"), ["c<N150/z#1 t=0102"])],
    ),
    Scenario(
        "an Interest never goes back where it came from (NFD isNextHopEligible)", [(0, "p", A, ["p<N150/a/b#1"])]
    ),
    Scenario("HopLimit is decremented (PF 3.6)", [(0, "c", interest("/a/b", hop_limit=9), ["p<I/a/b#1 h8"])]),
    Scenario("HopLimit 0 is dropped (PF 3.6)", [(0, "c", interest("/a/b", hop_limit=0), [])]),
    Scenario(
        "HopLimit 1 reaches local faces (NFD onOutgoingInterest)",
        [(0, "c", interest("/a/b", hop_limit=1), ["p<I/a/b#1 h0"])],
    ),
    Scenario(
        "HopLimit 1 does not leave the host (NFD onOutgoingInterest)",
        [(0, "c", interest("/a/b", hop_limit=1), ["c<N150/a/b#1 h0"])],
        routes=[("/a", "P", 0)],
    ),
    Scenario(
        "HopLimit 1 is answered by the Content Store (PF 3.6)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0.1, "p", DA, ["c<D/a/b"]),
            (0.2, "P", interest("/a/b", 2, hop_limit=1), ["P<D/a/b"]),
        ],
    ),
    Scenario(
        "an Interest without Nonce gets one (PF 3.4)",
        [(0, "c", interest("/a/b", None), [f"p<I/a/b#{DRAWN}"])],
    ),
    Scenario(
        "longer lifetime keeps the entry, shorter does not shorten it (NFD setExpiryTimer)",
        [
            (0, "c", interest("/a/b", 1, lifetime_ms=1000), ["p<I/a/b#1"]),
            (0.5, "P", interest("/a/b", 2, lifetime_ms=100), ["p<I/a/b#2"]),
            (0.7, "p", DA, ["c<D/a/b"]),
        ],
    ),
    # ------------------------------------------------------------ aggregation, retransmission, loops
    Scenario(
        "a second consumer is aggregated within 10 ms (NFD retx-suppression-exponential)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0.005, "P", interest("/a/b", 2), []),
            (0.02, "p", DA, ["P<D/a/b", "c<D/a/b"]),
        ],
    ),
    Scenario(
        "suppression grows 10, 20, 40 ms (NFD RetxSuppressionExponential)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0.009, "c", interest("/a/b", 2), []),
            (0.011, "c", interest("/a/b", 3), ["p<I/a/b#3"]),
            (0.030, "c", interest("/a/b", 4), []),
            (0.032, "c", interest("/a/b", 5), ["p<I/a/b#5"]),
            (0.071, "c", interest("/a/b", 6), []),
            (0.073, "c", interest("/a/b", 7), ["p<I/a/b#7"]),
        ],
    ),
    Scenario(
        "a retransmission tries the next cheapest, then the one asked longest ago (NFD best-route 5)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0.1, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
            (0.2, "c", interest("/a/b", 3), ["p<I/a/b#3"]),
            (0.3, "c", interest("/a/b", 4), ["q<I/a/b#4"]),
        ],
        faces="cpq",
        routes=[("/a", "p", 1), ("/a", "q", 2)],
    ),
    Scenario(
        "the same nonce from the same face is a retransmission (NFD 4.2.1, point-to-point)",
        [(0, "c", A, ["p<I/a/b#1"]), (0.1, "c", A, ["p<I/a/b#1"])],
    ),
    Scenario(
        "the same nonce from another face loops: Nack Duplicate (NFD onInterestLoop)",
        [(0, "c", A, ["p<I/a/b#1"]), (0.1, "P", A, ["P<N100/a/b#1"])],
    ),
    Scenario(
        "a nonce we sent comes back from there: loop (NFD findDuplicateNonce, out-records)",
        [(0, "c", A, ["p<I/a/b#1"]), (0.1, "p", A, ["p<N100/a/b#1"])],
    ),
    Scenario(
        "a nonce of an unanswered Interest stays dead for 6 s (NFD 3.5)",
        [
            (0, "c", interest("/a/b", 1, lifetime_ms=100), ["p<I/a/b#1"]),
            (1, "P", A, ["P<N100/a/b#1"]),
            (6.2, "P", A, ["p<I/a/b#1"]),
        ],
    ),
    Scenario(
        "a nonce of an answered Interest is free again (NFD insertDeadNonceList)",
        [
            (0, "c", interest("/a", 1, can_be_prefix=True), ["p<I/a#1"]),
            (0.1, "p", link(DA, no_cache=True), ["c<D/a/b"]),
            (0.2, "P", interest("/a", 1, can_be_prefix=True), ["p<I/a#1"]),
        ],
    ),
    Scenario(
        "with MustBeFresh and short freshness it stays dead (NFD insertDeadNonceList)",
        [
            (0, "c", interest("/a/b", 1, must_be_fresh=True), ["p<I/a/b#1"]),
            (0.1, "p", data("/a/b", fresh_ms=100), ["c<D/a/b"]),
            (0.5, "P", interest("/a/b", 1, must_be_fresh=True), ["P<N100/a/b#1"]),
        ],
    ),
    Scenario(
        "after the entry ran out a new Interest is new (NFD onInterestFinalize)",
        [
            (0, "c", interest("/a/b", 1, lifetime_ms=50), ["p<I/a/b#1"]),
            (0.055, "c", interest("/a/b", 2), ["p<I/a/b#2"]),
        ],
    ),
    # ------------------------------------------------------------ PIT keys
    Scenario(
        "CanBePrefix makes another entry (NFD 3.4.1)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0, "P", interest("/a/b", 2, can_be_prefix=True), ["p<I/a/b#2"]),
            (0.1, "p", DA, ["P<D/a/b", "c<D/a/b"]),
        ],
    ),
    Scenario(
        "MustBeFresh makes another entry (NFD 3.4.1)",
        [(0, "c", A, ["p<I/a/b#1"]), (0, "P", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"])],
    ),
    Scenario(
        "one Data satisfies entries of several names (NFD findAllDataMatches)",
        [
            (0, "c", interest("/a", 1, can_be_prefix=True), ["p<I/a#1"]),
            (0, "P", A[:-4] + b"\0\0\0\2", ["p<I/a/b#2"]),
            (0.1, "p", DA, ["P<D/a/b", "c<D/a/b"]),
        ],
    ),
    Scenario(
        "one face with two tokens gets the Data for each (LP PitToken)",
        [
            (0, "P", link(interest("/a", 1, can_be_prefix=True), pit_token=b"\1"), ["p<I/a#1"]),
            (0, "P", link(interest("/a/b", 2), pit_token=b"\2"), ["p<I/a/b#2"]),
            (0.1, "p", DA, ["P<D/a/b t=01", "P<D/a/b t=02"]),
        ],
    ),
    Scenario(
        "a retransmission's token replaces the first (LP PitToken)",
        [
            (0, "P", link(A, pit_token=b"\1"), ["p<I/a/b#1"]),
            (0.1, "P", link(interest("/a/b", 2), pit_token=b"\2" * 32), ["p<I/a/b#2"]),
            (0.2, "p", DA, ["P<D/a/b t=" + "02" * 32]),
        ],
    ),
    Scenario(
        "CanBePrefix is not assumed (PF 3.1)",
        [(0, "c", interest("/a"), ["p<I/a#1"]), (0.1, "p", DA, [])],
    ),
    Scenario(
        "an implicit digest in the Interest matches its Data (PF 2.4)",
        [(0, "c", interest(f"/a/b/{DIGEST}"), [f"p<I/a/b/{DIGEST}#1"]), (0.1, "p", DA, ["c<D/a/b"])],
    ),
    Scenario(
        "another digest does not match (PF 2.4)",
        [
            (0, "c", interest(f"/a/b/{DIGEST}"), [f"p<I/a/b/{DIGEST}#1"]),
            (0.1, "p", data("/a/b", content=b"other"), []),
        ],
    ),
    # ------------------------------------------------------------ Data
    Scenario("unsolicited Data is dropped and not kept (NFD onDataUnsolicited)", [
        (0, "p", DA, []), (0.1, "c", A, ["p<I/a/b#1"])]),
    Scenario("Data is not sent back to where it came from (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.05, "p", interest("/a/b", 2), []), (0.1, "p", DA, ["c<D/a/b"])],
    ),
    Scenario("Data after the in-record ran out goes nowhere (NFD onIncomingData)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=50), ["p<I/a/b#1"]),
        (0.02, "P", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.1, "p", DA, ["P<D/a/b"])]),
    Scenario("a face that is gone gets nothing (NFD face removal)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.05, "c", remove("c"), []), (0.1, "p", DA, [])]),
    Scenario("routes go with their face (NFD 7.3.2)", [
        (0, "c", remove("p"), []), (0.1, "c", A, ["c<N150/a/b#1"])]),
    Scenario("a congestion mark travels on with the Data (LP CongestionMark)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, congestion_mark=1), ["c<D/a/b marked"])]),
    Scenario("a congestion mark travels on with the Interest (LP CongestionMark)", [
        (0, "c", link(A, congestion_mark=1), ["p<I/a/b#1 marked"])]),
    # ------------------------------------------------------------ Content Store
    Scenario("the Content Store answers the exact name (NFD 3.3)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (9, "P", link(interest("/a/b", 2), pit_token=b"\7"), ["P<D/a/b t=07"])]),
    Scenario("and a descendant with CanBePrefix (PF 3.1)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "P", interest("/a", 2, can_be_prefix=True), ["P<D/a/b"]), (0.3, "P", interest("/a", 3), ["p<I/a#3"])]),
    Scenario("MustBeFresh takes Data until its freshness ends (PF 4.2)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", fresh_ms=1000), ["c<D/a/b"]),
        (1.09, "P", interest("/a/b", 2, must_be_fresh=True), ["P<D/a/b"]),
        (1.11, "P", interest("/a/b", 3, must_be_fresh=True), ["p<I/a/b#3"])]),
    Scenario("without FreshnessPeriod Data is never fresh (PF 4.2)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.1, "P", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"])]),
    Scenario("CachePolicy NoCache is honoured (LP CachePolicy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, no_cache=True), ["c<D/a/b"]),
        (0.2, "P", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("an implicit digest hits the store (PF 2.4)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "P", interest(f"/a/b/{DIGEST}", 2), ["P<D/a/b"])]),
    Scenario("cs/config flag serve off: nothing from the store (NFD CsManager)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", serve(False), []),
        (0.3, "P", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("a pending Interest is not looked up again (NFD onIncomingInterest)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", serve(False), []),
        (0.3, "P", interest("/a/b", 2), ["p<I/a/b#2"]), (0.4, "c", serve(True), []),
        (0.5, "c", interest("/a/b", 3), ["p<I/a/b#3"])]),
    Scenario("one that ran out a moment ago is no longer pending (NFD onInterestFinalize)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", serve(False), []),
        (0.3, "P", interest("/a/b", 2, lifetime_ms=50), ["p<I/a/b#2"]), (0.3, "c", serve(True), []),
        (0.351, "c", interest("/a/b", 3), ["c<D/a/b"])]),
    # ------------------------------------------------------------ scope
    Scenario("/localhost from a non-local face is dropped (NFD scope control)", [
        (0, "P", interest("/localhost/x"), [])], routes=[("/localhost/x", "p", 0)]),
    Scenario("/localhost does not leave the host (NFD wouldViolateScope)", [
        (0, "c", interest("/localhost/x"), [])], routes=[("/localhost/x", "P", 0)]),
    Scenario("/localhost Data from a non-local face is dropped (NFD onIncomingData)", [
        (0, "c", interest("/localhost/x"), ["p<I/localhost/x#1"]), (0.1, "P", data("/localhost/x"), [])],
        routes=[("/localhost/x", "p", 0)]),
    Scenario("/localhop from here may leave the host (NFD wouldViolateScope)", [
        (0, "c", interest("/localhop/x"), ["P<I/localhop/x#1"])], routes=[("/localhop/x", "P", 0)]),
    Scenario("/localhop from elsewhere stays here (NFD wouldViolateScope)", [
        (0, "Q", interest("/localhop/x"), ["p<I/localhop/x#1"])], faces="pPQ",
        routes=[("/localhop/x", "P", 0), ("/localhop/x", "p", 5)]),
    # ------------------------------------------------------------ ForwardingHint
    Scenario("a ForwardingHint decides the way (PF 3.3)", [
        (0, "c", interest("/a/b", hints=["/isp"]), ["P<I/a/b#1"])], routes=[("/a", "p", 0), ("/isp", "P", 0)]),
    Scenario("the first delegation that can be reached (NFD lookupFib)", [
        (0, "c", interest("/a/b", hints=["/none", "/isp"]), ["P<I/a/b#1"])],
        routes=[("/a", "p", 0), ("/isp", "P", 0)]),
    Scenario("no delegation can be reached: no route (NFD lookupFib)", [
        (0, "c", interest("/a/b", hints=["/none"]), ["c<N150/a/b#1"])]),
    Scenario("in the producer region the name decides (NFD 4.2.1)", [
        (0, "c", interest("/a/b", hints=["/isp/r1"]), ["p<I/a/b#1"])],
        routes=[("/a", "p", 0), ("/isp", "P", 0)], regions=("/isp/r1/host",)),
    Scenario("Interests with other hints are not aggregated", [
        (0, "c", interest("/a/b", 1, hints=["/isp"]), ["P<I/a/b#1"]), (0, "c", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.1, "P", DA, ["c<D/a/b"])], routes=[("/a", "p", 0), ("/isp", "P", 0)]),
    # ------------------------------------------------------------ Nack
    Scenario("a Nack of the only upstream goes to all who wait (NFD ProcessNackTraits)", [
        (0, "c", link(A, pit_token=b"\5"), ["p<I/a/b#1"]), (0.005, "P", interest("/a/b", 2), []),
        (0.1, "p", nack(A, 150), ["P<N150/a/b#2", "c<N150/a/b#1 t=05"])]),
    Scenario("the least severe reason goes on (NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.02, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.03, "p", nack(A, 150), []), (0.04, "q", nack(interest("/a/b", 2), 50), ["c<N50/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("no reason is the most severe (NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.02, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.03, "p", nack(A, 0), []), (0.04, "q", nack(interest("/a/b", 2), 150), ["c<N150/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a Nack with another nonce is dropped (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(interest("/a/b", 9), 150), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("a Nack from a face that was not asked is dropped (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "P", nack(A, 150), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("two that wait for each other are told (NFD ProcessNackTraits, bidirectional)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.02, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.03, "q", interest("/a/b", 3), []), (0.04, "p", nack(A, 150), ["q<N150/a/b#3"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("after a Nack the same name may be asked again at once (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.001, "p", nack(A, 150), ["c<N150/a/b#1"]),
        (0.002, "c", interest("/a/b", 2), ["p<I/a/b#2"])]),
    # ------------------------------------------------------------ multicast
    Scenario("multicast asks everybody (NFD multicast 5)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)],
        setup=multicast("/a")),
    Scenario("multicast suppresses an upstream at a time (NFD decidePerUpstream)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.005, "p", interest("/a/b", 2), ["c<I/a/b#2"]),
        (0.011, "q", interest("/a/b", 3), ["p<I/a/b#3"]), (0.016, "q", interest("/a/b", 4), ["c<I/a/b#4"]),
        (0.025, "q", interest("/a/b", 5), []), (0.032, "q", interest("/a/b", 6), ["p<I/a/b#6"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "c", 1)], setup=multicast("/a")),
    Scenario("multicast sends no Nack for want of a route (NFD multicast 5)", [
        (0, "c", interest("/z"), [])], setup=multicast("/z")),
    Scenario("multicast sends no Nack on (NFD multicast 5)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 150), [])], setup=multicast("/a")),
    # ------------------------------------------------------------ local fields
    Scenario("Data from the store says 254 (NFD onContentStoreHit)", [
        (0, "P", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["P<D/a/b"]),
        (0.2, "c", interest("/a/b", 2), ["c<D/a/b from=254"])], setup=local_fields("c")),
    Scenario("relayed Data says the upstream's face (LP IncomingFaceId)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b from=257"])], setup=local_fields("c")),
    Scenario("an Interest says the downstream's face (LP IncomingFaceId)", [
        (0, "c", A, ["p<I/a/b#1 from=256"])], setup=local_fields("p")),
    Scenario("NextHopFaceId chooses the face (LP NextHopFaceId)", [
        (0, "c", link(A, next_hop_face_id=258), ["P<I/a/b#1"])], setup=local_fields("c")),
    Scenario("NextHopFaceId without local fields: dropped (NFD decodeInterest)", [
        (0, "c", link(A, next_hop_face_id=258), [])]),
    Scenario("NextHopFaceId of no face: nothing is sent (NFD onContentStoreMiss)", [
        (0, "c", link(A, next_hop_face_id=999), [])], setup=local_fields("c")),
    # ------------------------------------------------------------ congestion marking
    Scenario("a queue above 64 KiB for 100 ms is marked, then sooner (NFD checkCongestionLevel)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (1.00, "c", queue("c", 70_000), []),
        (1.00, "c", interest("/a/b", 2), ["c<D/a/b"]),
        (1.09, "c", interest("/a/b", 3), ["c<D/a/b"]),
        (1.11, "c", interest("/a/b", 4), ["c<D/a/b marked"]),
        (1.12, "c", interest("/a/b", 5), ["c<D/a/b"]),
        (1.18, "c", interest("/a/b", 6), ["c<D/a/b marked"]),
        (1.19, "c", queue("c", 0), []),
        (1.50, "c", interest("/a/b", 7), ["c<D/a/b"])]),
    # ------------------------------------------------------------ LP
    Scenario("IDLE packets are dropped quietly (LP IDLE)", [(0, "c", link(b"", acks=(bytes(8),)), [])]),
    Scenario("ignorable unknown fields are ignored (LP 2.1)", [
        (0, "c", b"\x64" + bytes((len(A) + 6,)) + b"\xfd\x03\xbc\x00" + b"\x50" + bytes((len(A),)) + A,
         ["p<I/a/b#1"])]),
    Scenario("other unknown fields spoil the packet (LP 2.1)", [
        (0, "c", b"\x64" + bytes((len(A) + 6,)) + b"\xfd\x03\xbd\x00" + b"\x50" + bytes((len(A),)) + A, [])]),
    Scenario("a PIT token of 33 bytes spoils the packet (LP PitToken)", [
        (0, "c", tlv.encode_tlv(0x64, tlv.encode_tlv(0x62, bytes(33)) + tlv.encode_tlv(0x50, A)), [])]),
    Scenario("a PIT token of one byte comes back with Data, a Nack and a hit of the store (LP PitToken)", [
        (0, "P", link(A, pit_token=b"\1"), ["p<I/a/b#1"]), (0.1, "p", DA, ["P<D/a/b t=01"]),
        (0.2, "P", link(interest("/a/b", 2), pit_token=b"\2"), ["P<D/a/b t=02"]),
        (0.3, "P", link(interest("/z", 3), pit_token=b"\3"), ["P<N150/z#3 t=03"])]),
    Scenario("a link packet in a link packet is none (LP Fragment)", [(0, "c", link(link(A, pit_token=b"1")), [])]),
    Scenario("FragIndex not below FragCount spoils the packet (LP Fragmentation)", [
        (0, "c", tlv.encode_tlv(0x64, b"\x51\x08" + bytes(8) + b"\x53\x01\x00" + tlv.encode_tlv(0x50, A)), [])]),
    Scenario("a Nack carries an Interest, never Data (LP Nack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(DA, 150), []), (0.2, "p", DA, ["c<D/a/b"])]),
    # ------------------------------------------------------------ malformed packets
    Scenario("a name component has no type 0 (PF 1.2)", [
        (0, "c", tlv.encode_tlv(5, b"\x07\x05\x08\x01a\x00\x00\x0a\x04abcd"), [])]),
    Scenario("a digest component has 32 bytes (PF 2.2)", [
        (0, "c", tlv.encode_tlv(5, b"\x07\x06\x08\x01a\x01\x01x\x0a\x04abcd"), [])]),
    Scenario("an empty name is refused (PF 3.1)", [(0, "c", b"\x05\x08\x07\x00\x0a\x04abcd", [])]),
    Scenario("unknown critical elements are refused, others ignored (PF 1.3)", [
        (0, "c", raw_interest(b"\x0b\x00"), []), (0, "c", raw_interest(b"\xfd\x01\x01\x00"), []),
        (0, "c", raw_interest(b"\xfd\x01\x00\x00"), ["p<I/a/b#1"])]),
    Scenario("elements out of order or repeated are refused (PF 1.3)", [
        (0, "c", raw_interest(b"\x21\x00"), []), (0, "c", raw_interest(b"\x0a\x04abcd"), [])]),
    Scenario("a Nonce has four bytes (PF 3.4)", [
        (0, "c", tlv.encode_tlv(5, ndn.encode_name(ndn.from_uri("/a/b")) + b"\x0a\x03abc"), [])]),
    Scenario("a packet beyond 8,800 bytes is refused (NFD MAX_NDN_PACKET_SIZE)", [
        (0, "c", raw_interest(tlv.encode_tlv(0x24, bytes(8800))), [])]),
    Scenario("Data without a signature is refused (PF 4)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", tlv.encode_tlv(6, ndn.encode_name(ndn.from_uri("/a/b"))), []),
        (0.2, "p", DA, ["c<D/a/b"])]),
    # ------------------------------------------------------------ lifetimes
    Scenario("without InterestLifetime an Interest lives 4 s (PF 3.5)", [
        (0, "c", A, ["p<I/a/b#1"]), (3.99, "p", DA, ["c<D/a/b"]),
        (10, "P", interest("/a/c", 3), ["p<I/a/c#3"]), (14.02, "p", data("/a/c"), [])]),
    Scenario("no Interest lives longer than 300 s", [
        (0, "c", interest("/a/b", 1, lifetime_ms=10**9), ["p<I/a/b#1"]),
        (299, "c", interest("/a/c", 2, lifetime_ms=10**9), ["p<I/a/c#2"]), (301, "p", DA, [])]),
    Scenario("an Interest of lifetime 0 goes out and waits for nothing (PF 3.5)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=0), ["p<I/a/b#1"]), (0.02, "p", DA, [])]),
    Scenario("a second Data for the same Interest is unsolicited (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "p", DA, [])]),
    Scenario("when all who were asked ran out, the cheapest is asked again (NFD best-route 5, NEW)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=100), ["p<I/a/b#1"]),
        (0.05, "Q", interest("/a/b", 2, lifetime_ms=20), ["q<I/a/b#2"]),
        (0.5, "c", interest("/a/b", 3), ["p<I/a/b#3"])], faces="cpqQ", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("suppression never exceeds 250 ms (NFD RetxSuppressionExponential)", [
        (0, "c", A, ["p<I/a/b#1"]),
        *((round(0.3 * n, 1), "c", interest("/a/b", 1 + n), [f"p<I/a/b#{1 + n}"]) for n in range(1, 9))]),
    # ------------------------------------------------------------ what changes in between
    Scenario("an upstream that is gone is not waited for (NFD face removal)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.05, "c", remove("p"), []), (0.06, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.07, "q", nack(interest("/a/b", 2), 150), ["c<N150/a/b#2"])], faces="cpq",
        routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a newer packet of the same name replaces the one in the store (content_store.py)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"]),
        (0.3, "p", data("/a/b", fresh_ms=5000), ["c<D/a/b"]),
        (0.4, "P", interest("/a/b", 3, must_be_fresh=True), ["P<D/a/b"])]),
    Scenario("serve off and on again: the packet is still there (NFD CsManager)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", lambda world: setattr(world.core.cs, "serve", False), []),
        (0.3, "c", lambda world: setattr(world.core.cs, "serve", True), []),
        (0.4, "P", interest("/a/b", 3), ["P<D/a/b"])]),
    Scenario("an implicit digest asks past the packet of that name in the store (PF 2.4)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", content=b"other"), ["c<D/a/b"]),
        (0.2, "P", interest(f"/a/b/{DIGEST}", 2), [f"p<I/a/b/{DIGEST}#2"]), (0.3, "p", DA, ["P<D/a/b"])]),
    # ------------------------------------------------------------ hints and chosen next hops, again
    Scenario("in the producer region the hint is taken out (NFD 4.2.1)", [
        (0, "c", interest("/a/b", hints=["/isp/r1"]), ["p<I/a/b#1"]),
        (0.05, "P", interest("/a/b", 2), ["p<I/a/b#2"]), (0.1, "p", DA, ["P<D/a/b", "c<D/a/b"])],
        regions=("/isp/r1/host",)),
    Scenario("a Nack that quotes the Interest without its hint is understood (NFD onIncomingNack, stripped hint)", [
        (0, "c", interest("/a/b", hints=["/isp"]), ["P<I/a/b#1"]), (0.1, "P", nack(A, 150), ["c<N150/a/b#1"])],
        routes=[("/isp", "P", 0)]),
    Scenario("NextHopFaceId does not outlive the HopLimit (NFD onOutgoingInterest)", [
        (0, "c", link(interest("/a/b", 1, hop_limit=1), next_hop_face_id=258), []),
        (0, "c", link(interest("/a/c", 1, hop_limit=1), next_hop_face_id=257), ["p<I/a/c#1 h0"]),
        (0, "c", link(interest("/a/d", 1, hop_limit=2), next_hop_face_id=258), ["P<I/a/d#1 h1"])],
        setup=local_fields("c")),
    Scenario("/localhop Data may come from elsewhere (NFD scope control)", [
        (0, "c", interest("/localhop/x"), ["P<I/localhop/x#1"]), (0.1, "P", data("/localhop/x"), ["c<D/localhop/x"])],
        routes=[("/localhop/x", "P", 0)]),
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.rule)
def test_semantics(scenario: Scenario) -> None:
    core = Forwarder(
        ContentStore(100, 1 << 20), producer_regions=[ndn.from_uri(region) for region in scenario.regions], seed=1
    )
    world = World(core)
    for name in scenario.faces:
        world.add_face(name)
    for prefix, name, cost in scenario.routes:
        world.route(prefix, name, cost)
    scenario.setup(world)
    for at, (now, name, sent, expected) in enumerate(scenario.steps):
        if callable(sent):
            sent(world)
        else:
            assert world.receive(name, sent, now) == sorted(expected), f"step {at}"


def test_in_the_producer_region_the_interest_goes_on_without_its_hint() -> None:
    world = World(Forwarder(ContentStore(100, 1 << 20), producer_regions=[ndn.from_uri("/isp/r1/host")], seed=1))
    for name in "cp":
        world.add_face(name)
    world.route("/a", "p")
    world.receive("c", interest("/a/b", hints=["/isp/r1"], hop_limit=5, parameters=b"x"), 0.0)
    sent = packet.decode_interest(world.sent[0][1])
    assert sent.hints == () and sent.hop_limit == 4 and sent.parameters == b"x" and sent.parameters_digest_matches()


def test_the_pit_is_bounded_and_entries_make_room_when_they_run_out() -> None:
    world = World(Forwarder(ContentStore(100, 1 << 20), pit_capacity=2, seed=1))
    for name in "cp":
        world.add_face(name)
    world.route("/a", "p")
    assert world.receive("c", interest("/a/1", 1, lifetime_ms=100), 0.0) == ["p<I/a/1#1"]
    assert world.receive("c", interest("/a/2", 2), 0.0) == ["p<I/a/2#2"]
    assert world.receive("c", interest("/a/3", 3), 0.0) == [] and world.core.counters.pit_full == 1
    assert world.receive("c", interest("/a/2", 4), 0.05) == ["p<I/a/2#4"]  # no entry more
    assert world.receive("c", interest("/a/3", 5), 0.2) == ["p<I/a/3#5"] and world.core.pit_size == 2


def test_routes_run_out_while_packets_come() -> None:
    """Route expiry and child-inherit, seen by Interests (NFD developer guide, section 7.3)."""
    world = World()
    for name in "cpq":
        world.add_face(name)
    world.core.rib.register(ndn.from_uri("/a"), Route(world.faces["p"].id, 0, 1, CHILD_INHERIT, 1.0))
    world.core.rib.register(ndn.from_uri("/a/b"), Route(world.faces["q"].id, 0, 0, CAPTURE, None))
    assert world.receive("c", interest("/a/x", 1), 0.0) == ["p<I/a/x#1"]
    assert world.receive("c", interest("/a/b", 2), 0.0) == ["q<I/a/b#2"]
    assert world.receive("c", interest("/a/b", 3), 0.5) == ["q<I/a/b#3"]  # capture: p is not inherited
    world.core.rib.register(ndn.from_uri("/a/b"), Route(world.faces["q"].id, 0, 0, 0, None))
    assert world.receive("c", interest("/a/b", 4), 0.9) == ["p<I/a/b#4"]  # now it is, and was not asked yet
    assert world.receive("c", interest("/a/x", 5), 1.1) == [] and world.core.fib.lookup(ndn.from_uri("/a/x")) == ()
    assert world.receive("c", interest("/a/y", 6), 1.2) == ["c<N150/a/y#6"]
    assert world.receive("c", interest("/a/b", 7), 1.4) == ["q<I/a/b#7"]
