"""Data and the Content Store."""

from __future__ import annotations

from ndn_infer.ndn import tlv
from tests.forwarder_world import data, interest, link, nack
from tests.semantics.scenario import DA, DIGEST, A, CsConfig, CsErase, Scenario, admit, remove, serve

NAME = DA[2 : 4 + DA[3]]
ZERO_FRESHNESS = tlv.encode_tlv(6, NAME + b"\x14\x03\x19\x01\x00" + b"\x16\x03\x1b\x01\x00\x17\x20" + bytes(32))

SCENARIOS = [
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
    Scenario("a face that is gone gets nothing (NFD cleanupOnFaceRemoval)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.05, "c", remove("c"), []), (0.1, "p", DA, [])]),
    Scenario("routes go with their face (NFD cleanupOnFaceRemoval)", [
        (0, "c", remove("p"), []), (0.1, "c", A, ["c<N150/a/b#1"])]),
    Scenario("a congestion mark travels on with the Data (LP CongestionMark)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, congestion_mark=1), ["c<D/a/b marked"])]),
    Scenario("a congestion mark travels on with the Interest (LP CongestionMark)", [
        (0, "c", link(A, congestion_mark=1), ["p<I/a/b#1 marked"])]),
    # ------------------------------------------------------------ Content Store
    Scenario("the Content Store answers the exact name (NFD Cs::findImpl)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (9, "P", link(interest("/a/b", 2), pit_token=b"\7"), ["P<D/a/b t=07"])]),
    Scenario("and a descendant with CanBePrefix (PF CanBePrefix)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "P", interest("/a", 2, can_be_prefix=True), ["P<D/a/b"]), (0.3, "P", interest("/a", 3), ["p<I/a#3"])]),
    Scenario("MustBeFresh takes Data until its freshness ends (PF FreshnessPeriod)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", fresh_ms=1000), ["c<D/a/b"]),
        (1.09, "P", interest("/a/b", 2, must_be_fresh=True), ["P<D/a/b"]),
        (1.11, "P", interest("/a/b", 3, must_be_fresh=True), ["p<I/a/b#3"])]),
    Scenario("without FreshnessPeriod Data is never fresh (PF FreshnessPeriod)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.1, "P", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"])]),
    Scenario("CachePolicy NoCache is honoured (LP CachePolicy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, no_cache=True), ["c<D/a/b"]),
        (0.2, "P", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("an implicit digest hits the store (PF Implicit Digest)", [
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
    # ------------------------------------------------------------ what changes in between
    Scenario("an upstream that is gone is not waited for (NFD cleanupOnFaceRemoval)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.05, "c", remove("p"), []), (0.06, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.07, "q", nack(interest("/a/b", 2), 150), ["c<N150/a/b#2"])], faces="cpq",
        routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a newer packet of the same name replaces the one in the store (OURS content_store.py)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"]),
        (0.3, "p", data("/a/b", fresh_ms=5000), ["c<D/a/b"]),
        (0.4, "P", interest("/a/b", 3, must_be_fresh=True), ["P<D/a/b"])]),
    Scenario("serve off and on again: the packet is still there (NFD CsManager)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", serve(False), []),
        (0.3, "c", serve(True), []),
        (0.4, "P", interest("/a/b", 3), ["P<D/a/b"])]),
    Scenario("an implicit digest asks past the packet of that name in the store (PF Implicit Digest)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", content=b"other"), ["c<D/a/b"]),
        (0.2, "P", interest(f"/a/b/{DIGEST}", 2), [f"p<I/a/b/{DIGEST}#2"]), (0.3, "p", DA, ["P<D/a/b"])]),
    # ------------------------------------------------------------ more of them
    Scenario("CanBePrefix takes the exact name too (PF CanBePrefix)", [
        (0, "c", interest("/a/b", 1, can_be_prefix=True), ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"])]),
    Scenario("CanBePrefix reaches over several components (PF CanBePrefix)", [
        (0, "c", interest("/a", 1, can_be_prefix=True), ["p<I/a#1"]), (0.1, "p", data("/a/b/c/d"), ["c<D/a/b/c/d"])]),
    Scenario("a pending MustBeFresh takes what its producer sends, fresh or not (NFD findAllDataMatches)", [
        (0, "c", interest("/a/b", 1, must_be_fresh=True), ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"])]),
    Scenario("stale Data answers who does not ask for fresh (PF FreshnessPeriod)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", fresh_ms=50), ["c<D/a/b"]),
        (0.4, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    Scenario("MustBeFresh by prefix finds the fresh one behind a stale one (NFD Cs::findImpl)", [
        (0, "c", interest("/a/1"), ["p<I/a/1#1"]), (0, "c", interest("/a/2"), ["p<I/a/2#1"]),
        (0.1, "p", data("/a/1"), ["c<D/a/1"]), (0.1, "p", data("/a/2", fresh_ms=9000), ["c<D/a/2"]),
        (0.3, "c", interest("/a", 3, can_be_prefix=True, must_be_fresh=True), ["c<D/a/2"])]),
    Scenario("by prefix the first in canonical order answers (NFD Cs::findImpl)", [
        (0, "c", interest("/a/2"), ["p<I/a/2#1"]), (0, "c", interest("/a/1"), ["p<I/a/1#1"]),
        (0.1, "p", data("/a/2"), ["c<D/a/2"]), (0.2, "p", data("/a/1"), ["c<D/a/1"]),
        (0.3, "c", interest("/a", 3, can_be_prefix=True), ["c<D/a/1"])]),
    Scenario("a shorter component is before a longer one (PF Canonical Order)", [
        (0, "c", interest("/a/bb"), ["p<I/a/bb#1"]), (0, "c", interest("/a/c"), ["p<I/a/c#1"]),
        (0.1, "p", data("/a/bb"), ["c<D/a/bb"]), (0.2, "p", data("/a/c"), ["c<D/a/c"]),
        (0.3, "c", interest("/a", 3, can_be_prefix=True), ["c<D/a/c"])]),
    Scenario("the least recently used packet goes first (NFD LruPolicy)", [
        (0, "c", interest("/a/1"), ["p<I/a/1#1"]), (0, "c", interest("/a/2"), ["p<I/a/2#1"]),
        (0, "c", interest("/a/3"), ["p<I/a/3#1"]), (0.1, "p", data("/a/1"), ["c<D/a/1"]),
        (0.2, "p", data("/a/2"), ["c<D/a/2"]), (0.3, "p", data("/a/3"), ["c<D/a/3"]),
        (0.4, "c", interest("/a/1", 2), ["p<I/a/1#2"]), (0.5, "c", interest("/a/2", 2), ["c<D/a/2"])], cs_packets=2),
    Scenario("a hit makes a packet young (NFD LruPolicy)", [
        (0, "c", interest("/a/1"), ["p<I/a/1#1"]), (0, "c", interest("/a/2"), ["p<I/a/2#1"]),
        (0, "c", interest("/a/3"), ["p<I/a/3#1"]), (0.1, "p", data("/a/1"), ["c<D/a/1"]),
        (0.2, "p", data("/a/2"), ["c<D/a/2"]), (0.3, "c", interest("/a/1", 2), ["c<D/a/1"]),
        (0.4, "p", data("/a/3"), ["c<D/a/3"]), (0.5, "c", interest("/a/1", 3), ["c<D/a/1"]),
        (0.6, "c", interest("/a/2", 3), ["p<I/a/2#3"])], cs_packets=2),
    Scenario("a store of no packets keeps none (NFD CsManager)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", interest("/a/b", 2), ["p<I/a/b#2"])],
        cs_packets=0),
    Scenario("cs/config flag admit off: nothing is kept (NFD CsManager)", [
        (0, "c", admit(False), []), (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("Data may come from a face that was not asked (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "d", DA, ["c<D/a/b"])], faces="cdp"),
    Scenario("a pending digest takes only its own Data (PF Implicit Digest)", [
        (0, "c", interest(f"/a/b/{DIGEST}"), [f"p<I/a/b/{DIGEST}#1"]), (0, "d", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.1, "p", data("/a/b", content=b"other"), ["d<D/a/b"]), (0.2, "p", DA, ["c<D/a/b"])], faces="cdp"),
    Scenario("Data that was cached for one consumer is there for another (NFD Cs::findImpl)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "d", interest("/a/b", 2), ["d<D/a/b"])],
        faces="cdp"),
    Scenario("its producer is answered by the store too (NFD onContentStoreHit)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "p", interest("/a/b", 2), ["p<D/a/b"])]),
    # ------------------------------------------------------------ freshness, again
    Scenario("a FreshnessPeriod of 0 is none (PF FreshnessPeriod)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", ZERO_FRESHNESS, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"])]),
    Scenario("the same Data makes itself fresh again (PF FreshnessPeriod, NFD Cs::insert)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", fresh_ms=200), ["c<D/a/b"]),
        (0.5, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"]),
        (0.6, "p", data("/a/b", fresh_ms=200), ["c<D/a/b"]),
        (0.7, "d", interest("/a/b", 3, must_be_fresh=True), ["d<D/a/b"])], faces="cdp"),
    Scenario("unsolicited Data makes nothing fresh (NFD onDataUnsolicited)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", fresh_ms=200), ["c<D/a/b"]),
        (0.4, "p", data("/a/b", fresh_ms=200), []),
        (0.5, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"])]),
    Scenario("MustBeFresh by prefix: nothing fresh, nothing from the store (PF FreshnessPeriod)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a", 2, can_be_prefix=True, must_be_fresh=True), ["p<I/a#2"])]),
    # ------------------------------------------------------------ names, again
    Scenario("a name is before all that is below it (PF Canonical Order, NFD Cs::findImpl)", [
        (0, "c", interest("/a/b/c"), ["p<I/a/b/c#1"]), (0, "c", A, ["p<I/a/b#1"]),
        (0.1, "p", data("/a/b/c"), ["c<D/a/b/c"]), (0.2, "p", DA, ["c<D/a/b"]),
        (0.3, "c", interest("/a", 3, can_be_prefix=True), ["c<D/a/b"])]),
    Scenario("a smaller component type is before a larger (PF Canonical Order)", [
        (0, "c", interest("/a/seg=1"), ["p<I/a/seg=1#1"]), (0, "c", interest("/a/zzzz"), ["p<I/a/zzzz#1"]),
        (0.1, "p", data("/a/seg=1"), ["c<D/a/seg=1"]), (0.2, "p", data("/a/zzzz"), ["c<D/a/zzzz"]),
        (0.3, "c", interest("/a", 3, can_be_prefix=True), ["c<D/a/zzzz"])]),
    Scenario("a full name with CanBePrefix finds its Data (PF CanBePrefix, PF Implicit Digest)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest(f"/a/b/{DIGEST}", 2, can_be_prefix=True), ["c<D/a/b"])]),
    Scenario("a full name of stale Data is no better with MustBeFresh (PF FreshnessPeriod, PF Implicit Digest)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest(f"/a/b/{DIGEST}", 2, must_be_fresh=True), [f"p<I/a/b/{DIGEST}#2"])]),
    Scenario("a digest below another name is another (PF Implicit Digest)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest(f"/a/{DIGEST}", 2), [f"p<I/a/{DIGEST}#2"])]),
    Scenario("of two packets of one name the later stays (OURS content_store.py)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"]),
        (0.3, "p", data("/a/b", content=b"other"), ["c<D/a/b"]),
        (0.4, "c", interest(f"/a/b/{DIGEST}", 3), [f"p<I/a/b/{DIGEST}#3"])]),
    # ------------------------------------------------------------ the store by command
    Scenario("what is erased is gone (NFD Cs::eraseImpl)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", CsErase("/a"), []),
        (0.3, "c", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("what is not below the prefix stays (NFD Cs::eraseImpl)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", CsErase("/a/c"), []),
        (0.3, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    Scenario("a smaller store keeps what was used last (NFD CsManager, NFD LruPolicy)", [
        (0, "c", interest("/a/1"), ["p<I/a/1#1"]), (0, "c", interest("/a/2"), ["p<I/a/2#1"]),
        (0.1, "p", data("/a/1"), ["c<D/a/1"]), (0.2, "p", data("/a/2"), ["c<D/a/2"]),
        (0.3, "c", interest("/a/1", 2), ["c<D/a/1"]), (0.4, "c", CsConfig(packets=1), []),
        (0.5, "c", interest("/a/2", 2), ["p<I/a/2#2"]), (0.6, "c", interest("/a/1", 3), ["c<D/a/1"])],
        ours="NFD keeps its own replies to commands in the store, which here has room for one packet"),
    Scenario("admit off takes nothing away (NFD CsManager)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", admit(False), []),
        (0.3, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    Scenario("serve off admits still (NFD CsManager)", [
        (0, "c", serve(False), []), (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", serve(True), []), (0.3, "c", interest("/a/b", 2), ["c<D/a/b"])]),
    # ------------------------------------------------------------ Data, again
    Scenario("an answer from the store leaves nothing pending (NFD onContentStoreHit)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", interest("/a/b", 2), ["c<D/a/b"]),
        (0.3, "p", DA, [])]),
    Scenario("a neighbour is answered as an application is (NFD sendDataToAll)", [
        (0, "P", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "p", DA, ["P<D/a/b", "c<D/a/b"])]),
    Scenario("longer names do not answer an exact question (PF CanBePrefix)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b/c"), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("shorter names answer nobody (PF CanBePrefix)", [
        (0, "c", interest("/a/b", 1, can_be_prefix=True), ["p<I/a/b#1"]), (0.1, "p", data("/a"), [])]),
]  # fmt: skip
