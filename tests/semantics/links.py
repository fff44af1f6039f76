"""The link: header fields, marks, malformed packets."""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.ndn import tlv
from tests.forwarder_world import data, interest, link, nack
from tests.semantics.scenario import DA, A, Scenario, fragments, queue, raw_interest

F3 = fragments(A, 3)
G2 = fragments(interest("/a/c"), 2, first=100)
H2 = fragments(A, 2, first=200, header=b"\x62\x02\x09\x09")
MANY = {count: fragments(interest("/a/" + "x" * (count - 21)), count) for count in (400, 401)}
LONG = "p<I/a/" + "x" * 379 + "#1"

SCENARIOS = [
    # ------------------------------------------------------------ local fields
    Scenario("Data from the store says 254 (NFD onContentStoreHit)", [
        (0, "P", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["P<D/a/b"]),
        (0.2, "c", interest("/a/b", 2), ["c<D/a/b from=254"])], local_fields="c"),
    Scenario("relayed Data says the upstream's face (LP IncomingFaceId)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b from=257"])], local_fields="c"),
    Scenario("an Interest says the downstream's face (LP IncomingFaceId)", [
        (0, "c", A, ["p<I/a/b#1 from=256"])], local_fields="p"),
    Scenario("NextHopFaceId chooses the face (LP NextHopFaceId)", [
        (0, "c", link(A, next_hop_face_id=258), ["P<I/a/b#1"])], local_fields="c"),
    Scenario("NextHopFaceId without local fields: dropped (NFD decodeInterest)", [
        (0, "c", link(A, next_hop_face_id=258), [])]),
    Scenario("NextHopFaceId of no face: nothing is sent (NFD onContentStoreMiss)", [
        (0, "c", link(A, next_hop_face_id=999), [])], local_fields="c"),
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
    Scenario("the interval shrinks with the root of the number of marks (NFD checkCongestionLevel)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (1, "c", queue("c", 70_000), []),
        (1, "c", interest("/a/b", 2), ["c<D/a/b"]), (1.101, "c", interest("/a/b", 3), ["c<D/a/b marked"]),
        (1.170, "c", interest("/a/b", 4), ["c<D/a/b"]), (1.172, "c", interest("/a/b", 5), ["c<D/a/b marked"]),
        (1.228, "c", interest("/a/b", 6), ["c<D/a/b"]), (1.230, "c", interest("/a/b", 7), ["c<D/a/b marked"]),
        (1.278, "c", interest("/a/b", 8), ["c<D/a/b"]), (1.280, "c", interest("/a/b", 9), ["c<D/a/b marked"])]),
    Scenario("marks that are due at once come one a packet (NFD checkCongestionLevel)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (1, "c", queue("c", 70_000), []),
        (1, "c", interest("/a/b", 2), ["c<D/a/b"]), (1.2, "c", interest("/a/b", 3), ["c<D/a/b marked"]),
        (1.2, "c", interest("/a/b", 4), ["c<D/a/b marked"]), (1.2, "c", interest("/a/b", 5), ["c<D/a/b"])]),
    Scenario("64 KiB are not above 64 KiB (NFD checkCongestionLevel)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (1, "c", queue("c", 65_536), []),
        (1, "c", interest("/a/b", 2), ["c<D/a/b"]), (1.2, "c", interest("/a/b", 3), ["c<D/a/b"])]),
    Scenario("Interests and Nacks are marked as Data is (NFD checkCongestionLevel)", [
        (0, "c", queue("p", 70_000), []), (0, "c", A, ["p<I/a/b#1"]), (0.11, "c", interest("/a/b", 2),
                                                                     ["p<I/a/b#2 marked"]),
        (1, "c", queue("c", 70_000), []), (1, "c", interest("/z", 3), ["c<N150/z#3"]),
        (1.11, "c", interest("/z", 4), ["c<N150/z#4 marked"])]),
    # ------------------------------------------------------------ LP
    Scenario("IDLE packets are dropped quietly (LP Fragment)", [(0, "c", link(b"", acks=(bytes(8),)), [])]),
    Scenario("ignorable unknown fields are ignored (LP Packet)", [
        (0, "c", b"\x64" + bytes((len(A) + 6,)) + b"\xfd\x03\xbc\x00" + b"\x50" + bytes((len(A),)) + A,
         ["p<I/a/b#1"])]),
    Scenario("other unknown fields spoil the packet (LP Packet)", [
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
    Scenario("a name component has no type 0 (PF Name)", [
        (0, "c", tlv.encode_tlv(5, b"\x07\x05\x08\x01a\x00\x00\x0a\x04abcd"), [])]),
    Scenario("a digest component has 32 bytes (PF Name)", [
        (0, "c", tlv.encode_tlv(5, b"\x07\x06\x08\x01a\x01\x01x\x0a\x04abcd"), [])]),
    Scenario("an empty name is refused (PF Interest Name)", [(0, "c", b"\x05\x08\x07\x00\x0a\x04abcd", [])]),
    Scenario("unknown critical elements are refused, others ignored (PF Evolvability)", [
        (0, "c", raw_interest(b"\x0b\x00"), []), (0, "c", raw_interest(b"\xfd\x01\x01\x00"), []),
        (0, "c", raw_interest(b"\xfd\x01\x00\x00"), ["p<I/a/b#1"])]),
    Scenario("elements out of order or repeated are refused (PF Evolvability)", [
        (0, "c", raw_interest(b"\x21\x00"), []), (0, "c", raw_interest(b"\x0a\x04abcd"), [])]),
    Scenario("a Nonce has four bytes (PF Nonce)", [
        (0, "c", tlv.encode_tlv(5, ndn.encode_name(ndn.from_uri("/a/b")) + b"\x0a\x03abc"), [])]),
    Scenario("a packet beyond 8,800 bytes is refused (NFD MAX_NDN_PACKET_SIZE)", [
        (0, "c", raw_interest(tlv.encode_tlv(0x24, bytes(8800))), [])]),
    Scenario("Data without a signature is refused (PF Data)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", tlv.encode_tlv(6, ndn.encode_name(ndn.from_uri("/a/b"))), []),
        (0.2, "p", DA, ["c<D/a/b"])]),
    # ------------------------------------------------------------ fragments
    Scenario("fragments make a packet (LP Fragmentation)", [
        (0, "c", F3[0], []), (0, "c", F3[1], []), (0, "c", F3[2], ["p<I/a/b#1"])]),
    Scenario("in any order (LP Fragmentation)", [
        (0, "c", F3[2], []), (0, "c", F3[0], []), (0, "c", F3[1], ["p<I/a/b#1"])]),
    Scenario("a fragment that comes twice counts once (LP Fragmentation)", [
        (0, "c", F3[0], []), (0, "c", F3[0], []), (0, "c", F3[1], []), (0, "c", F3[2], ["p<I/a/b#1"])]),
    Scenario("two packets between each other (LP Fragmentation)", [
        (0, "c", F3[0], []), (0, "c", G2[0], []), (0, "c", F3[1], []), (0, "c", G2[1], ["p<I/a/c#1"]),
        (0, "c", F3[2], ["p<I/a/b#1"])]),
    Scenario("every face has its own (LP Fragmentation)", [
        (0, "c", F3[0], []), (0, "d", F3[1], []), (0, "d", F3[2], []), (0, "c", F3[1], []),
        (0, "c", F3[2], ["p<I/a/b#1"])], faces="cdp"),
    Scenario("what lacks a fragment for 500 ms is forgotten (NFD LpReassembler)", [
        (0, "c", F3[0], []), (0, "c", F3[1], []), (0.6, "c", F3[2], []), (0.7, "c", F3[0], []),
        (0.7, "c", F3[1], ["p<I/a/b#1"])]),
    Scenario("within 500 ms it is waited for (NFD LpReassembler)", [
        (0, "c", F3[0], []), (0, "c", F3[1], []), (0.4, "c", F3[2], ["p<I/a/b#1"])]),
    Scenario("header fields stand on the first fragment (LP Fragmentation)", [
        (0, "P", H2[1], []), (0, "P", H2[0], ["p<I/a/b#1"]), (0.1, "p", DA, ["P<D/a/b t=0909"])]),
    Scenario("400 fragments make a packet (NFD LpReassembler)", [
        *((0, "c", piece, []) for piece in MANY[400][:-1]), (0, "c", MANY[400][-1], [LONG])]),
    Scenario("more are refused (NFD LpReassembler)", [
        *((0, "c", piece, []) for piece in MANY[401]), (0, "c", A, ["p<I/a/b#1"])]),
    Scenario("one fragment of one is a whole packet (LP Fragmentation)", [
        (0, "c", tlv.encode_tlv(0x64, b"\x51\x08" + bytes(8) + b"\x52\x01\x00\x53\x01\x01"
                                + tlv.encode_tlv(0x50, A)), ["p<I/a/b#1"])]),
    Scenario("a packet beyond the MTU leaves in fragments (LP Fragmentation)", [
        (0, "c", A, ["p<I/a/b#1"]),
        (0.1, "p", data("/a/b", content=bytes(1000)), ["c<F0/3", "c<F1/3", "c<F2/3"])], mtu={"c": 500}),
    Scenario("one within it leaves whole (LP Fragmentation)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", content=bytes(300)), ["c<D/a/b"])], mtu={"c": 500}),
    # ------------------------------------------------------------ more of them
    Scenario("a packet in a link packet without fields is the packet (LP Fragment)", [
        (0, "c", tlv.encode_tlv(0x64, tlv.encode_tlv(0x50, A)), ["p<I/a/b#1"])]),
    Scenario("an empty link packet is IDLE (LP Fragment)", [(0, "c", b"\x64\x00", []), (0, "c", A, ["p<I/a/b#1"])]),
    Scenario("IncomingFaceId is told to those alone who asked for it (NFD encodeLpFields)", [
        (0, "c", A, ["p<I/a/b#1"]), (0, "d", interest("/a/b", 2, can_be_prefix=True), ["p<I/a/b#2"]),
        (0.1, "p", DA, ["c<D/a/b", "d<D/a/b from=258"])], faces="cdp", local_fields="d"),
    Scenario("a PIT token is not passed on upstream (LP PitToken)", [
        (0, "c", link(A, pit_token=b"\1\2\3\4"), ["p<I/a/b#1"])]),
    Scenario("a Data's own PIT token goes nowhere (LP PitToken)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, pit_token=b"\1"), ["c<D/a/b"])]),
    Scenario("what is neither Interest nor Data nor link packet is dropped (LP Fragment)", [
        (0, "P", b"\x08\x01a", []), (0, "P", b"\x64\x05\x50\x03\x08\x01a", []), (0, "P", A, ["p<I/a/b#1"])]),
    Scenario("an Interest of 8,800 bytes is not too large (NFD MAX_NDN_PACKET_SIZE)", [
        (0, "c", raw_interest(tlv.encode_tlv(0xFD00, bytes(8800 - 4 - len(A) + 2 - 6 - 0))), ["p<I/a/b#1"])]),
    Scenario("a queue of 512 KiB marks at once (OURS link_service.py)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (1, "c", queue("c", 600_000), []),
        (1, "c", interest("/a/b", 2), ["c<D/a/b marked"])]),
    Scenario("a queue that was short in between begins anew (NFD checkCongestionLevel)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (1, "c", queue("c", 70_000), []),
        (1, "c", interest("/a/b", 2), ["c<D/a/b"]), (1.05, "c", queue("c", 0), []),
        (1.05, "c", interest("/a/b", 3), ["c<D/a/b"]), (1.06, "c", queue("c", 70_000), []),
        (1.06, "c", interest("/a/b", 4), ["c<D/a/b"]), (1.12, "c", interest("/a/b", 5), ["c<D/a/b"]),
        (1.17, "c", interest("/a/b", 6), ["c<D/a/b marked"])]),
]  # fmt: skip
