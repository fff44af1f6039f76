"""Header fields of NDNLPv2: which may stand where, and what misuse costs."""

from __future__ import annotations

from tests.forwarder_world import data, interest, link, nack
from tests.semantics.scenario import DA, A, Scenario, fragment, fragments, raw_link

TOKEN, MARK, NO_CACHE = b"\x62\x01\x07", b"\xfd\x03\x40\x01\x01", b"\xfd\x03\x34\x05\xfd\x03\x35\x01\x01"
OTHER_POLICY = b"\xfd\x03\x34\x05\xfd\x03\x35\x01\x09"
NO_POLICY = b"\xfd\x03\x34\x00"
ANNOUNCEMENT = b"\xfd\x03\x50" + bytes((len(DA),)) + DA
NON_DISCOVERY = b"\xfd\x03\x4c\x00"
F3 = fragments(A, 3)
LIE = fragment(b"lie", 1, 7)

SCENARIOS = [
    # ------------------------------------------------------------ the packet
    Scenario("fields stand in the order of their numbers (LP Packet, NFD lp::Packet)", [
        (0, "c", raw_link(MARK + TOKEN, A), []), (0.1, "c", raw_link(TOKEN + MARK, A), ["p<I/a/b#1 marked"])]),
    Scenario("a field comes once (LP Packet, NFD lp::Packet)", [
        (0, "c", raw_link(TOKEN + TOKEN, A), []), (0.1, "c", raw_link(TOKEN, A), ["p<I/a/b#1"])]),
    Scenario("the Fragment is the last (LP Packet, NFD lp::Packet)", [
        (0, "c", b"\x64" + bytes((len(A) + 2 + len(TOKEN),)) + b"\x50" + bytes((len(A),)) + A + TOKEN, []),
        (0.1, "c", A, ["p<I/a/b#1"])]),
    Scenario("ignorable fields may have a value (LP Packet)", [
        (0, "c", raw_link(b"\xfd\x03\xbc\x01x", A), ["p<I/a/b#1"])]),
    Scenario("ignorable fields may come twice (LP Packet)", [
        (0, "c", raw_link(b"\xfd\x03\xbc\x01x\xfd\x03\xbc\x01y", A), ["p<I/a/b#1"])]),
    Scenario("and anywhere before the Fragment (LP Packet)", [
        (0, "P", raw_link(b"\xfd\x03\xbc\x01x" + TOKEN, A), ["p<I/a/b#1"]), (0.1, "p", DA, ["P<D/a/b t=07"])]),
    Scenario("fields above 959 are not ignorable (LP Packet)", [
        (0, "c", raw_link(b"\xfd\x03\xc0\x00", A), []), (0.1, "c", A, ["p<I/a/b#1"])]),
    Scenario("fields below 800 are not ignorable (LP Packet)", [
        (0, "c", raw_link(b"\xfd\x03\x1c\x00", A), []), (0.1, "c", A, ["p<I/a/b#1"])]),
    Scenario("a Fragment holds one packet and no more (LP Fragment)", [
        (0, "c", raw_link(b"", A + b"\x00"), []), (0.1, "c", raw_link(b"", A + A), []), (0.2, "c", A, ["p<I/a/b#1"])],
        ),
    # ------------------------------------------------------------ PIT token
    Scenario("an empty PIT token spoils the packet (LP PitToken)", [
        (0, "c", raw_link(b"\x62\x00", A), []), (0.1, "c", A, ["p<I/a/b#1"])]),
    Scenario("every downstream gets its own token back (LP PitToken)", [
        (0, "c", link(A, pit_token=b"\1"), ["p<I/a/b#1"]),
        (0.1, "d", link(interest("/a/b", 2), pit_token=b"\2\2"), ["p<I/a/b#2"]),
        (0.2, "p", DA, ["c<D/a/b t=01", "d<D/a/b t=0202"])], faces="cdp"),
    Scenario("a retransmission without a token gives it up (LP PitToken, NFD insertOrUpdateInRecord)", [
        (0, "c", link(A, pit_token=b"\1"), ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("a token is never a question of the store (LP PitToken, NFD onContentStoreHit)", [
        (0, "c", link(A, pit_token=b"\1"), ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b t=01"]),
        (0.2, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    # ------------------------------------------------------------ CachePolicy
    Scenario("CachePolicy is not for Interests (NFD decodeInterest)", [
        (0, "c", raw_link(NO_CACHE, A), []), (0.1, "c", A, ["p<I/a/b#1"])]),
    Scenario("nor for Nacks (NFD decodeNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", raw_link(b"\xfd\x03\x20\x00" + NO_CACHE, A), []),
        (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("a policy that nobody knows is ignored, the Data goes on (LP CachePolicy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", raw_link(OTHER_POLICY, DA), ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    Scenario("NoCache does not touch what is kept already (LP CachePolicy, NFD Cs::insert)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"]),
        (0.3, "p", link(data("/a/b", fresh_ms=9000), no_cache=True), ["c<D/a/b"]),
        (0.4, "c", interest("/a/b", 3, must_be_fresh=True), ["p<I/a/b#3"]),
        (0.5, "d", interest("/a/b", 4), ["d<D/a/b"])], faces="cdp"),
    # ------------------------------------------------------------ local fields
    Scenario("IncomingFaceId is not believed (LP IncomingFaceId, NFD decodeInterest)", [
        (0, "c", link(A, incoming_face_id=999), ["p<I/a/b#1 from=256"])], local_fields="p"),
    Scenario("nor from a producer (LP IncomingFaceId, NFD decodeData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, incoming_face_id=999), ["c<D/a/b from=257"])],
        local_fields="c"),
    Scenario("NextHopFaceId is not for Data (NFD decodeData)", [
        (0, "c", A, ["p<I/a/b#1 from=256"]), (0.1, "p", link(DA, next_hop_face_id=258), []),
        (0.2, "p", DA, ["c<D/a/b"])],
        local_fields="p"),
    Scenario("nor for Nacks (NFD decodeNack, LP NextHopFaceId)", [
        (0, "c", A, ["p<I/a/b#1 from=256"]), (0.1, "p", link(A, nack_reason=150, next_hop_face_id=258), []),
        (0.2, "p", DA, ["c<D/a/b"])], local_fields="p"),
    Scenario("NextHopFaceId goes past scope: the application wants it so (NFD onContentStoreMiss)", [
        (0, "c", link(interest("/localhost/x"), next_hop_face_id=258), ["P<I/localhost/x#1"])], local_fields="c"),
    Scenario("NextHopFaceId goes past routes and strategies (LP NextHopFaceId, NFD onContentStoreMiss)", [
        (0, "c", link(interest("/z"), next_hop_face_id=257), ["p<I/z#1"]), (0.1, "p", data("/z"), ["c<D/z from=257"])],
        local_fields="c"),
    Scenario("whom NextHopFaceId chose may refuse (LP NextHopFaceId, NFD onIncomingNack)", [
        (0, "c", link(A, next_hop_face_id=258), ["P<I/a/b#1"]), (0.1, "P", nack(A, 150), ["c<N150/a/b#1"])],
        local_fields="c"),
    Scenario("what the store has, NextHopFaceId does not fetch (NFD onContentStoreHit)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b from=257"]),
        (0.2, "c", link(interest("/a/b", 2), next_hop_face_id=258), ["c<D/a/b from=254"])], local_fields="c"),
    # ------------------------------------------------------------ Nack
    Scenario("a Nack without a reason is one (LP Nack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", raw_link(b"\xfd\x03\x20\x00", A), ["c<N0/a/b#1"])]),
    Scenario("a reason that nobody knows is no reason (NFD NackHeader)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 42), ["c<N0/a/b#1"])]),
    Scenario("and is more severe than one that is known (NFD NackHeader, NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.2, "p", nack(A, 42), []), (0.3, "q", nack(interest("/a/b", 2), 150), ["c<N150/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    # ------------------------------------------------------------ congestion marks
    Scenario("a mark is for the packet that was marked, not for its copies in the store (LP CongestionMark)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, congestion_mark=1), ["c<D/a/b marked"]),
        (0.2, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    Scenario("a mark on a Nack goes no further (NFD ProcessNackTraits)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(A, nack_reason=150, congestion_mark=1), ["c<N150/a/b#1"])]),
    Scenario("marks go to all who wait (LP CongestionMark)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "d", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "p", link(DA, congestion_mark=1), ["c<D/a/b marked", "d<D/a/b marked"])], faces="cdp"),
    # ------------------------------------------------------------ fields of features that are off
    Scenario("Acks and TxSequence mean nothing on a face without reliability (LP Packet)", [
        (0, "c", link(A, acks=(bytes(8),), tx_sequence=bytes(8)), ["p<I/a/b#1"])]),
    Scenario("NonDiscovery is no obstacle (NFD decodeInterest)", [
        (0, "c", raw_link(NON_DISCOVERY, A), ["p<I/a/b#1"])]),
    Scenario("NonDiscovery is not for Data (NFD decodeData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", raw_link(NON_DISCOVERY, DA), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("PrefixAnnouncement is not for Interests (NFD decodeInterest)", [
        (0, "c", raw_link(ANNOUNCEMENT, A), []), (0.1, "c", A, ["p<I/a/b#1"])]),
    # ------------------------------------------------------------ fragments of neighbours
    Scenario("a neighbour's fragments make a packet (LP Fragmentation)", [
        (0, "P", F3[1], []), (0.1, "P", F3[0], []), (0.2, "P", F3[2], ["p<I/a/b#1"])]),
    Scenario("the wait begins anew with every fragment (NFD LpReassembler)", [
        (0, "P", F3[0], []), (0.4, "P", F3[1], []), (0.8, "P", F3[2], ["p<I/a/b#1"])]),
    Scenario("and ends 500 ms after the last of them (NFD LpReassembler)", [
        (0, "P", F3[0], []), (0.1, "P", F3[1], []), (0.7, "P", F3[2], []),
        (0.8, "P", A, ["p<I/a/b#1"])]),
    Scenario("a fragment that disagrees about their number spoils itself alone (NFD LpReassembler)", [
        (0, "P", F3[0], []), (0.1, "P", LIE, []), (0.2, "P", F3[1], []), (0.3, "P", F3[2], ["p<I/a/b#1"])]),
    Scenario("fragments without a Sequence are dropped (LP Fragmentation)", [
        (0, "P", raw_link(b"\x52\x01\x00\x53\x01\x02", A[:5]), []),
        (0.1, "P", raw_link(b"\x52\x01\x01\x53\x01\x02", A[5:]), []), (0.2, "P", A, ["p<I/a/b#1"])]),
    Scenario("FragIndex alone says there is one, which it is not (LP Fragmentation)", [
        (0, "P", raw_link(b"\x51\x08" + bytes(8) + b"\x52\x01\x01", A), []), (0.1, "P", A, ["p<I/a/b#1"])]),
    Scenario("what does not fit a neighbour's MTU leaves in fragments (LP Fragmentation, NFD LpFragmenter)", [
        (0, "P", A, ["p<I/a/b#1"]),
        (0.1, "p", data("/a/b", content=bytes(1000)), ["P<F0/3", "P<F1/3", "P<F2/3"])], mtu={"P": 500}),
    Scenario("what fits goes whole (LP Fragmentation, NFD LpFragmenter)", [
        (0, "P", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", content=bytes(300)), ["P<D/a/b"])], mtu={"P": 500}),
]  # fmt: skip
