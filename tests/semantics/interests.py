"""Interests: where they go, how long they live, what makes them the same."""

from __future__ import annotations

from tests.forwarder_world import data, describe, interest, link
from tests.semantics.scenario import DA, DIGEST, DRAWN, MULTICAST, A, Scenario, remove

PARAMETERS = interest("/a/b", 1, parameters=b"x")
PARAMETERS_AGAIN = interest("/a/b", 2, parameters=b"x")
OTHER_PARAMETERS = interest("/a/b", 1, parameters=b"y")

SCENARIOS = [
    # ------------------------------------------------------------ Interest
    Scenario(
        "an Interest follows the longest prefix (NFD Fib)",
        [(0, "c", A, ["p<I/a/b#1"])],
        routes=[("/a", "P", 9), ("/a/b", "p", 0)],
    ),
    Scenario("no route: Nack NoRoute (NFD BestRouteStrategy)", [(0, "c", interest("/z"), ["c<N150/z#1"])]),
    Scenario(
        "a Nack carries the PIT token (LP PitToken)",
        [(0, "c", link(interest("/z"), pit_token=b"\1\2"), ["c<N150/z#1 t=0102"])],
    ),
    Scenario(
        "an Interest never goes back where it came from (NFD isNextHopEligible)", [(0, "p", A, ["p<N150/a/b#1"])]
    ),
    Scenario("HopLimit is decremented (PF HopLimit)", [(0, "c", interest("/a/b", hop_limit=9), ["p<I/a/b#1 h8"])]),
    Scenario("HopLimit 0 is dropped (PF HopLimit)", [(0, "c", interest("/a/b", hop_limit=0), [])]),
    Scenario(
        "HopLimit 1 reaches local faces (NFD onOutgoingInterest)",
        [(0, "c", interest("/a/b", hop_limit=1), ["p<I/a/b#1 h0"])],
    ),
    Scenario(
        "HopLimit 1 does not leave the host (NFD onOutgoingInterest)",
        [(0, "c", interest("/a/b", hop_limit=1), [])],
        routes=[("/a", "P", 0)],
    ),
    Scenario(
        "HopLimit 1 is answered by the Content Store (PF HopLimit)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0.1, "p", DA, ["c<D/a/b"]),
            (0.2, "P", interest("/a/b", 2, hop_limit=1), ["P<D/a/b"]),
        ],
    ),
    Scenario(
        "an Interest without Nonce gets one (PF Nonce)",
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
        "a second consumer is aggregated within 10 ms (NFD RetxSuppressionExponential)",
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
        "a retransmission tries the next cheapest, then the one asked longest ago (NFD BestRouteStrategy)",
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
        "the same nonce from the same face is a retransmission (NFD onIncomingInterest)",
        [(0, "c", A, ["p<I/a/b#1"]), (0.1, "c", A, ["p<I/a/b#1"])],
    ),
    Scenario(
        "the same nonce from another face loops: Nack Duplicate (NFD onInterestLoop)",
        [(0, "c", A, ["p<I/a/b#1"]), (0.1, "P", A, ["P<N100/a/b#1"])],
    ),
    Scenario(
        "a nonce we sent comes back from there: loop (NFD findDuplicateNonce)",
        [(0, "c", A, ["p<I/a/b#1"]), (0.1, "p", A, ["p<N100/a/b#1"])],
    ),
    Scenario(
        "a nonce of an unanswered Interest stays dead for 6 s (NFD DeadNonceList)",
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
        "CanBePrefix makes another entry (NFD Pit)",
        [
            (0, "c", A, ["p<I/a/b#1"]),
            (0, "P", interest("/a/b", 2, can_be_prefix=True), ["p<I/a/b#2"]),
            (0.1, "p", DA, ["P<D/a/b", "c<D/a/b"]),
        ],
    ),
    Scenario(
        "MustBeFresh makes another entry (NFD Pit)",
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
        "CanBePrefix is not assumed (PF CanBePrefix)",
        [(0, "c", interest("/a"), ["p<I/a#1"]), (0.1, "p", DA, [])],
    ),
    Scenario(
        "an implicit digest in the Interest matches its Data (PF Implicit Digest)",
        [(0, "c", interest(f"/a/b/{DIGEST}"), [f"p<I/a/b/{DIGEST}#1"]), (0.1, "p", DA, ["c<D/a/b"])],
    ),
    Scenario(
        "another digest does not match (PF Implicit Digest)",
        [
            (0, "c", interest(f"/a/b/{DIGEST}"), [f"p<I/a/b/{DIGEST}#1"]),
            (0.1, "p", data("/a/b", content=b"other"), []),
        ],
    ),
    # ------------------------------------------------------------ lifetimes
    Scenario("without InterestLifetime an Interest lives 4 s (PF InterestLifetime)", [
        (0, "c", A, ["p<I/a/b#1"]), (3.99, "p", DA, ["c<D/a/b"]),
        (10, "P", interest("/a/c", 3), ["p<I/a/c#3"]), (14.02, "p", data("/a/c"), [])]),
    Scenario("no Interest lives longer than 300 s (OURS parsing.py)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=10**9), ["p<I/a/b#1"]),
        (299, "c", interest("/a/c", 2, lifetime_ms=10**9), ["p<I/a/c#2"]), (301, "p", DA, [])]),
    Scenario("an Interest of lifetime 0 goes out and waits for nothing (PF InterestLifetime)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=0), ["p<I/a/b#1"]), (0.02, "p", DA, [])]),
    Scenario("a second Data for the same Interest is unsolicited (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "p", DA, [])]),
    Scenario("all who were asked ran out: the cheapest again (NFD BestRouteStrategy, NFD hasPendingOutRecords)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=100), ["p<I/a/b#1"]),
        (0.05, "Q", interest("/a/b", 2, lifetime_ms=20), ["q<I/a/b#2"]),
        (0.5, "c", interest("/a/b", 3), ["p<I/a/b#3"])], faces="cpqQ", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("suppression never exceeds 250 ms (NFD RetxSuppressionExponential)", [
        (0, "c", A, ["p<I/a/b#1"]),
        *((round(0.3 * n, 1), "c", interest("/a/b", 1 + n), [f"p<I/a/b#{1 + n}"]) for n in range(1, 9))]),
    # ------------------------------------------------------------ more of them
    Scenario("a HopLimit of 255 is 254 on the way (PF HopLimit)", [
        (0, "c", interest("/a/b", hop_limit=255), ["p<I/a/b#1 h254"])]),
    Scenario("a retransmission has its own HopLimit (PF HopLimit)", [
        (0, "c", interest("/a/b", 1, hop_limit=3), ["p<I/a/b#1 h2"]),
        (0.1, "c", interest("/a/b", 2, hop_limit=9), ["p<I/a/b#2 h8"])]),
    Scenario("two consumers, one Data for each (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "d", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "p", DA, ["c<D/a/b", "d<D/a/b"])], faces="cdp"),
    Scenario("one consumer that asks twice gets one Data (NFD insertOrUpdateInRecord)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2"]), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("ApplicationParameters go on, and are part of the name (PF ApplicationParameters)", [
        (0, "c", PARAMETERS, [f"p<{describe(PARAMETERS)}"]),
        (0, "c", OTHER_PARAMETERS, [f"p<{describe(OTHER_PARAMETERS)}"])]),
    Scenario("equal parameters are one entry (PF ApplicationParameters, NFD Pit)", [
        (0, "c", PARAMETERS, [f"p<{describe(PARAMETERS)}"]), (0.004, "d", PARAMETERS_AGAIN, [])], faces="cdp"),
    Scenario("a new entry knows no suppression (NFD RetxSuppressionExponential)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", link(DA, no_cache=True), ["c<D/a/b"]),
        (0.101, "c", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("another consumer's Interest later than 10 ms is forwarded too (NFD BestRouteStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "d", interest("/a/b", 2), ["q<I/a/b#2"])],
        faces="cdpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("the default route takes what nothing else takes (NFD Fib)", [
        (0, "c", interest("/x/y"), ["q<I/x/y#1"]), (0, "c", A, ["p<I/a/b#1"])],
        faces="cpq", routes=[("/a", "p", 0), ("/", "q", 0)]),
    Scenario("a route of the whole name takes it (NFD Fib)", [
        (0, "c", A, ["q<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 9), ("/a/b", "q", 0)]),
    Scenario("a route of a longer name does not (NFD Fib)", [
        (0, "c", interest("/a"), ["p<I/a#1"])], faces="cpq", routes=[("/a", "p", 0), ("/a/b", "q", 0)]),
    Scenario("prefixes end at components (PF Name)", [
        (0, "c", interest("/abc"), ["c<N150/abc#1"])], routes=[("/ab", "p", 0)]),
    Scenario("a component's type is part of it (PF Name)", [
        (0, "c", interest("/a/seg=1"), ["p<I/a/seg=1#1"]), (0.1, "p", data("/a/%01"), []),
        (0.2, "p", data("/a/seg=1"), ["c<D/a/seg=1"])]),
    Scenario("of two next hops the cheaper is asked (NFD BestRouteStrategy)", [
        (0, "c", A, ["q<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 7), ("/a", "q", 3)]),
    Scenario("the next hop it came from is passed over (NFD isNextHopEligible)", [
        (0, "q", A, ["p<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 7), ("/a", "q", 3)]),
    Scenario("each in-record ends by its own lifetime (NFD insertOrUpdateInRecord)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=100), ["p<I/a/b#1"]),
        (0.05, "d", interest("/a/b", 2, lifetime_ms=1000), ["p<I/a/b#2"]), (0.3, "p", DA, ["d<D/a/b"])], faces="cdp"),
    Scenario("a retransmission makes the in-record live on (NFD insertOrUpdateInRecord)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=200), ["p<I/a/b#1"]),
        (0.15, "c", interest("/a/b", 2, lifetime_ms=200), ["p<I/a/b#2"]), (0.3, "p", DA, ["c<D/a/b"])]),
    # ------------------------------------------------------------ HopLimit
    Scenario("an Interest whose HopLimit is used up waits all the same (PF HopLimit, NFD onOutgoingInterest)", [
        (0, "c", interest("/a/b", hop_limit=1), []), (0.1, "P", DA, ["c<D/a/b"])], routes=[("/a", "P", 0)]),
    Scenario("its retransmission may go further (PF HopLimit, NFD hasPendingOutRecords)", [
        (0, "c", interest("/a/b", hop_limit=1), []), (0.1, "c", interest("/a/b", 2, hop_limit=5), ["P<I/a/b#2 h4"])],
        routes=[("/a", "P", 0)]),
    Scenario("a used up HopLimit still reaches a local face that costs more (PF HopLimit)", [
        (0, "c", interest("/a/b", hop_limit=1), ["p<I/a/b#1 h0"])], routes=[("/a", "P", 0), ("/a", "p", 5)]),
    Scenario("multicast too leaves out those who are not local (PF HopLimit, NFD onOutgoingInterest)", [
        (0, "c", interest("/a/b", hop_limit=1), ["p<I/a/b#1 h0"]),
        (0.1, "c", interest("/a/b", 2, hop_limit=2), ["P<I/a/b#2 h1", "p<I/a/b#2 h1"])],
        routes=[("/a", "P", 0), ("/a", "p", 5)], strategy=("/a", MULTICAST)),
    Scenario("from a neighbour it is decremented as well (PF HopLimit)", [
        (0, "P", interest("/a/b", hop_limit=2), ["Q<I/a/b#1 h1"])], faces="PQ", routes=[("/a", "Q", 0)]),
    Scenario("an Interest without HopLimit gets none (PF HopLimit)", [
        (0, "P", A, ["Q<I/a/b#1"])], faces="PQ", routes=[("/a", "Q", 0)]),
    # ------------------------------------------------------------ Nonce
    Scenario("the same nonce under another name is no loop (PF Nonce)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "P", interest("/a/c", 1), ["p<I/a/c#1"])]),
    Scenario("nor in another entry of the name (NFD findDuplicateNonce, NFD Pit)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "P", interest("/a/b", 1, can_be_prefix=True), ["p<I/a/b#1"])]),
    Scenario("but a dead nonce is dead for the name (NFD DeadNonceList)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=50), ["p<I/a/b#1"]),
        (0.3, "P", interest("/a/b", 1, can_be_prefix=True), ["P<N100/a/b#1"])]),
    Scenario("not for names below it (NFD DeadNonceList)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=50), ["p<I/a/b#1"]),
        (0.3, "P", interest("/a/b/c", 1), ["p<I/a/b/c#1"])]),
    Scenario("dead for who sent it first too (NFD onIncomingInterest)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=50), ["p<I/a/b#1"]), (0.3, "c", A, ["c<N100/a/b#1"])]),
    Scenario("almost six seconds later it is dead still (NFD DeadNonceList)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=100), ["p<I/a/b#1"]), (5.9, "P", A, ["P<N100/a/b#1"])]),
    Scenario("a nonce that never went out is not dead (NFD insertDeadNonceList)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=50, hop_limit=1), []), (0.3, "c", interest("/a/b", 1, hop_limit=2),
                                                                        ["P<I/a/b#1 h1"])], routes=[("/a", "P", 0)]),
    Scenario("with MustBeFresh and long freshness a nonce is free again (NFD insertDeadNonceList)", [
        (0, "c", interest("/a/b", 1, must_be_fresh=True), ["p<I/a/b#1"]),
        (0.1, "p", link(data("/a/b", fresh_ms=6000), no_cache=True), ["c<D/a/b"]),
        (0.2, "P", interest("/a/b", 1, must_be_fresh=True), ["p<I/a/b#1"])]),
    Scenario("the nonce of a retransmission loops as well (NFD findDuplicateNonce)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "P", interest("/a/b", 2), ["P<N100/a/b#2"])]),
    Scenario("the one before it does not any more (NFD findDuplicateNonce)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2"]), (0.2, "P", A, ["p<I/a/b#1"])]),
    Scenario("a loop takes nothing from those who wait (NFD onInterestLoop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "P", A, ["P<N100/a/b#1"]), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("under multicast a loop ends in silence (NFD MulticastStrategy::onInterestLoop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "P", A, [])], strategy=("/a", MULTICAST)),
    # ------------------------------------------------------------ lifetimes, again
    Scenario("Data for an Interest that ran out is unsolicited, and not kept (NFD onDataUnsolicited)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=50), ["p<I/a/b#1"]), (0.3, "p", DA, []),
        (0.4, "c", interest("/a/b", 2), ["p<I/a/b#2"])]),
    Scenario("a retransmission with a shorter lifetime ends sooner (NFD setExpiryTimer)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2, lifetime_ms=50), ["p<I/a/b#2"]),
        (0.4, "p", DA, []), (0.5, "c", interest("/a/b", 3), ["p<I/a/b#3"])]),
    Scenario("one of two who wait gives up, the other gets the Data (NFD setExpiryTimer)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "d", interest("/a/b", 2, lifetime_ms=50), ["p<I/a/b#2"]),
        (0.4, "p", DA, ["c<D/a/b"])], faces="cdp"),
    Scenario("an Interest goes with the last who waits, its Data is unsolicited (OURS pipeline.py, face removal)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", remove("c"), []), (0.2, "p", DA, []),
        (0.3, "d", interest("/a/b", 2), ["p<I/a/b#2"])], faces="cdp"),
    Scenario("not with the first of two (NFD cleanupOnFaceRemoval, NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.05, "d", interest("/a/b", 2), ["p<I/a/b#2"]), (0.1, "c", remove("c"), []),
        (0.2, "p", DA, ["d<D/a/b"])], faces="cdp"),
    # ------------------------------------------------------------ best-route
    Scenario("three next hops are asked in the order of their costs (NFD BestRouteStrategy)", [
        (0, "c", A, ["q<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["r<I/a/b#2"]),
        (0.2, "c", interest("/a/b", 3), ["p<I/a/b#3"]), (0.3, "c", interest("/a/b", 4), ["q<I/a/b#4"]),
        (0.4, "c", interest("/a/b", 5), ["r<I/a/b#5"])], faces="cpqr",
        routes=[("/a", "p", 9), ("/a", "q", 1), ("/a", "r", 5)]),
    Scenario("the one asked longest ago, not the cheapest (NFD findEligibleNextHopWithEarliestOutRecord)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.2, "q", interest("/a/b", 3), ["p<I/a/b#3"]), (0.3, "c", interest("/a/b", 4), ["q<I/a/b#4"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a next hop whose record ran out counts as not asked (NFD isNextHopEligible)", [
        (0, "c", interest("/a/b", 1, lifetime_ms=100), ["p<I/a/b#1"]), (0.05, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.3, "c", interest("/a/b", 3), ["p<I/a/b#3"])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a next hop that wants it itself is passed over in a retransmission (NFD isNextHopEligible)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "q", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "p", DA, ["c<D/a/b", "q<D/a/b"])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("no route for one who asks does not end it for who waits (OURS pipeline.py, no route)", [
        (0, "d", interest("/a/b", 1), ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2, lifetime_ms=100), ["p<I/a/b#2"]),
        (0.4, "p", interest("/a/b", 3), ["p<N150/a/b#3"]), (0.5, "q", DA, ["d<D/a/b"])], faces="cdpq"),
]  # fmt: skip
